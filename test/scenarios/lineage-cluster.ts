/**
 * What the scenarios of lineage share: moments that are known, servers that come from one another,
 * and the proof that each moment of a timeline can be recovered.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  formatSettings,
  openServerOn,
  type PostgresServer,
  type Settings,
} from '../harness/postgres-server.ts'
import { serverUser } from '../harness/server-user.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import type { ProtectedServer } from './recovery-cluster.ts'

export const SMALL = { walSegmentSizeMb: 1, settings: { min_wal_size: '5MB', autovacuum: 'off' } }

/** What was in the table, and where in the WAL. */
export interface Moment {
  readonly name: string
  readonly lsn: string
  readonly rows: string
}

export async function createTable(server: PostgresServer): Promise<void> {
  await server.sql('CREATE TABLE moments (name text)')
}

async function rowsOf(server: PostgresServer): Promise<string> {
  const text = "SELECT coalesce(string_agg(name, ',' ORDER BY name), '') AS rows FROM moments"
  return String((await server.sql(text))[0]?.['rows'])
}

/** A row, and a restore point of its name behind it. */
export async function mark(server: PostgresServer, name: string): Promise<Moment> {
  await server.sql('INSERT INTO moments VALUES ($1)', [name])
  const [row] = await server.sql(`SELECT pg_create_restore_point('${name}')::text AS lsn`)
  return { name, lsn: String(row?.['lsn']), rows: await rowsOf(server) }
}

export async function timelineOf(server: PostgresServer): Promise<number> {
  const text = 'SELECT timeline_id AS t FROM pg_control_checkpoint()'
  await server.sql('CHECKPOINT')
  return Number((await server.sql(text))[0]?.['t'])
}

/** Recovers each of the moments, in their order, out of the repository alone. */
export async function assertRecoverable(
  cluster: ProtectedServer,
  timeline: number,
  moments: readonly Moment[],
): Promise<void> {
  const last = moments.at(-1) as Moment
  const into = cluster.path(`check-${timeline}-${last.name}`)
  const words = ['--timeline', String(timeline), '--to', `name:${last.name}`, '--action', 'pause']
  await cluster.ok('restore', '--into', into, ...words)
  const stopAt = ({ lsn }: Moment): void => {
    const settings = { recovery_target_lsn: lsn, recovery_target_inclusive: 'off' }
    appendFileSync(join(into, 'postgresql.auto.conf'), formatSettings(settings))
  }
  stopAt(moments[0] as Moment)
  await using copy = await openServerOn(into, { settings: { hot_standby: 'on' } })
  for (const [at, moment] of moments.entries()) {
    stopAt(moment)
    if (at > 0) await copy.restart()
    await waitUntil(copy, 'SELECT pg_is_wal_replay_paused() AS ok')
    assert.equal(await rowsOf(copy), moment.rows, `timeline ${timeline}, ${moment.name}`)
  }
}

export async function waitUntil(server: PostgresServer, text: string): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if ((await server.sql(text))[0]?.['ok'] === true) return
    await sleep(50)
  }
  throw new Error(`${text} does not become true\n${await server.log()}`)
}

/** Restores as the server that replaces the original, and starts it. */
export async function takeOver(
  cluster: ProtectedServer,
  name: string,
  ...words: string[]
): Promise<{ server: PostgresServer; reserved: number | null }> {
  const reserved = await restoreToTakeOver(cluster, name, ...words)
  return { server: await startTakenOver(cluster, name), reserved }
}

export async function restoreToTakeOver(
  cluster: ProtectedServer,
  name: string,
  ...words: string[]
): Promise<number | null> {
  const args = ['--json', 'restore', '--into', cluster.path(name), '--take-over', ...words]
  const result = (await cluster.ok(...args)).json<{ reservedTimeline: number | null }>()
  return result.reservedTimeline
}

export async function startTakenOver(
  cluster: ProtectedServer,
  name: string,
): Promise<PostgresServer> {
  const server = await openServerOn(cluster.path(name))
  await waitUntil(server, 'SELECT NOT pg_is_in_recovery() AS ok')
  return server
}

/** A standby that streams from `primary`, and archives as it does when it is promoted. */
export async function openStandby(
  primary: PostgresServer,
  settings: Settings = {},
): Promise<PostgresServer> {
  const data = join(temporaryDirectory(serverUser()), 'data')
  await primary.tool('pg_basebackup', ['-D', data, '-X', 'stream', '-c', 'fast'])
  writeFileSync(join(data, 'standby.signal'), '')
  follow(data, primary)
  return await openServerOn(data, { settings: { hot_standby: 'on', ...settings } })
}

export function follow(dataDirectory: string, primary: PostgresServer): void {
  const conninfo = `host=${primary.socketDirectory} port=${primary.port} user=postgres`
  const text = formatSettings({ primary_conninfo: conninfo })
  appendFileSync(join(dataDirectory, 'postgresql.auto.conf'), text)
}

export async function catchUp(standby: PostgresServer, primary: PostgresServer): Promise<void> {
  const [row] = await primary.sql('SELECT pg_current_wal_flush_lsn()::text AS lsn')
  const text = `SELECT pg_last_wal_replay_lsn() >= '${String(row?.['lsn'])}' AS ok`
  await waitUntil(standby, text)
}

export async function promote(standby: PostgresServer): Promise<void> {
  await standby.sql('SELECT pg_promote()')
  await waitUntil(standby, 'SELECT NOT pg_is_in_recovery() AS ok')
}

/** A copy of a stopped server's directory, as a snapshot of its disk would be. */
export function snapshot(server: PostgresServer): string {
  const data = join(temporaryDirectory(serverUser()), 'data')
  execFileSync('cp', ['-a', server.dataDirectory, data])
  return data
}

/** Waits until everything that the server has finished is archived. */
export async function waitForArchiver(server: PostgresServer): Promise<void> {
  const directory = join(server.dataDirectory, 'pg_wal/archive_status')
  for (let tries = 0; tries < 600; tries++) {
    if (!readdirSync(directory).some((name) => name.endsWith('.ready'))) return
    await sleep(50)
  }
  throw new Error(`the archiver does not come to its end\n${await server.log()}`)
}

/** Switches the segment, and waits until the archiver has been refused with this code. */
export async function waitForRefusal(server: PostgresServer, code: string): Promise<void> {
  await server.sql('SELECT pg_switch_wal()')
  for (let tries = 0; tries < 600; tries++) {
    if ((await server.log()).includes(code)) return
    await sleep(50)
  }
  throw new Error(`no ${code}:\n${await server.log()}`)
}
