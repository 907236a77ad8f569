/** Failovers: both archive for a while, pg_rewind, cascades, two promotions in one segment. */
import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { compareSegments } from '../../src/archive/compare-segments.ts'
import { decodeWalObject } from '../../src/archive/wal-object.ts'
import { parseWalPageHeader } from '../../src/postgres/wal-page.ts'
import { formatSettings, openServerOn, type PostgresServer } from '../harness/postgres-server.ts'
import { TIDEMARK } from '../harness/tidemark.ts'
import { archiveNow, type ProtectedServer, protectServer } from './recovery-cluster.ts'
import {
  assertRecoverable,
  catchUp,
  createTable,
  follow,
  type Moment,
  mark,
  openStandby,
  promote,
  SMALL,
  snapshot,
  timelineOf,
  waitForArchiver,
  waitUntil,
} from './lineage-cluster.ts'

/**
 * Nothing is in quarantine, but for a segment of which the cascade handed in a part before the
 * old primary came with more: just that part and the longer, which is archived (lineage.md, 5).
 */
async function assertNothingRefused(cluster: ProtectedServer): Promise<void> {
  const { servers } = (await cluster.ok('--json', 'wal', 'list')).json<{
    servers: { quarantine: { key: string; name: string }[] }[]
  }>()
  const read = (path: string): Buffer => decodeWalObject(path, readFileSync(path)).content
  const extensions = new Map<string, string[]>()
  for (const { key, name } of servers[0]?.quarantine ?? []) {
    const segment = name.slice(0, 24)
    const place = join(cluster.repository, key)
    const whole = join(segment.slice(0, 8), segment.slice(8, 16), `${segment}.wal`)
    const comparison = compareSegments(read(join(place, '../..', whole)), read(place))
    const outcome = comparison.kind === 'same-records' ? comparison.longer : comparison.kind
    extensions.set(segment, [...(extensions.get(segment) ?? []), outcome])
  }
  for (const [segment, outcomes] of extensions) {
    assert.deepEqual(outcomes.sort(), ['equal', 'first'], segment)
  }
}

test('a standby is promoted while the old primary goes on; pg_rewind brings it back', async () => {
  // pg_rewind reads back to the checkpoint before the fork.
  const settings = { ...SMALL.settings, wal_keep_size: '256MB' }
  await using cluster = await protectServer({ ...SMALL, settings })
  const { server: old } = cluster
  await createTable(old)
  await cluster.backup()
  const first = [await mark(old, 'm1')]
  await cluster.archiveNow()
  await using standby = await openStandby(old)
  await using cascade = await openStandby(standby, { archive_mode: 'always' })
  first.push(await mark(old, 'm2'))
  await catchUp(standby, old)
  await catchUp(cascade, old)

  await promote(standby)
  assert.equal(await timelineOf(standby), 2)
  const second = [await mark(standby, 's1')]
  first.push(await mark(old, 'm3'))
  await archiveNow(old)
  await archiveNow(standby)
  await catchUp(cascade, standby)
  await waitForArchiver(old)

  await old.stop()
  const place = `host=${standby.socketDirectory} port=${standby.port}`
  const source = `${place} user=postgres dbname=postgres`
  await standby.tool('pg_rewind', ['-D', old.dataDirectory, '--source-server', source])
  writeFileSync(join(old.dataDirectory, 'standby.signal'), '')
  follow(old.dataDirectory, standby)
  await old.start()
  second.push(await mark(standby, 's2'))
  await archiveNow(standby)
  await catchUp(old, standby)
  await waitForArchiver(standby)
  await standby.stop()
  await promote(old)
  assert.equal(await timelineOf(old), 3)
  const third = [await mark(old, 'p1'), await mark(old, 'p2')]
  await archiveNow(old)
  await waitForArchiver(old)

  for (const [at, moments] of [first, second, third].entries()) {
    await assertRecoverable(cluster, at + 1, moments)
  }
  await assertNothingRefused(cluster)
})

test('a standby that archives always, promoted in the middle of a segment', async () => {
  const settings = { ...SMALL.settings, archive_mode: 'always' }
  await using cluster = await protectServer({ ...SMALL, settings })
  const { server: old } = cluster
  await createTable(old)
  await cluster.backup()
  await using standby = await openStandby(old)
  const first = [await mark(old, 'm1')]
  await cluster.archiveNow()
  first.push(await mark(old, 'm2'))
  await catchUp(standby, old)
  await waitForArchiver(standby)
  await promote(standby)
  first.push(await mark(old, 'm3'))
  const second = [await mark(standby, 's1'), await mark(standby, 's2')]
  await archiveNow(standby)
  await archiveNow(old)
  for (const server of [standby, old]) await waitForArchiver(server)
  await assertRecoverable(cluster, 1, first)
  await assertRecoverable(cluster, 2, second)
})

test('two promotions within one segment, and a record whose continuation was lost', async () => {
  await using cluster = await protectServer(SMALL)
  const { server: old } = cluster
  await createTable(old)
  await cluster.backup()
  const moments = [await mark(old, 'm1')]
  await loseContinuation(old)
  moments.push(await mark(old, 'm2'))
  await cluster.archiveNow()
  moments.push(await mark(old, 'm3'))
  await waitForArchiver(old)
  await old.stop('immediate')
  const data = snapshot(old)

  await using second = await recover(cluster, data)
  assert.equal(await timelineOf(second), 2)
  moments.push(await mark(second, 'm4'))
  await second.stop('immediate')
  await using third = await recover(cluster, data)
  assert.equal(await timelineOf(third), 3)
  moments.push(await mark(third, 'm5'))
  await archiveNow(third)
  await waitForArchiver(third)
  await assertRecoverable(cluster, 3, moments)

  await old.start()
  const branch = await mark(old, 'o4')
  await archiveNow(old)
  await waitForArchiver(old)
  await assertRecoverable(cluster, 1, [...moments.slice(1, 3), branch] as Moment[])
})

/** Ends what the crash left by archive recovery: a promotion to the next timeline. */
async function recover(cluster: ProtectedServer, data: string): Promise<PostgresServer> {
  const get = `${TIDEMARK} --config ${cluster.config} wal get --cluster main %f "%p"`
  writeFileSync(join(data, 'recovery.signal'), '')
  writeFileSync(
    join(data, 'postgresql.auto.conf'),
    formatSettings({
      restore_command: `${get}; case $? in 0) exit 0;; 44) exit 1;; esac; exit 255`,
    }),
  )
  const server = await openServerOn(data)
  await waitUntil(server, 'SELECT NOT pg_is_in_recovery() AS ok')
  return server
}

/** A crash that takes the second part of a record, as PostgreSQL's 039_end_of_wal does it. */
async function loseContinuation(server: PostgresServer): Promise<void> {
  const segment = async (): Promise<string> => {
    const [row] = await server.sql('SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS name')
    return String(row?.['name'])
  }
  await server.sql('SELECT pg_switch_wal()')
  const before = await segment()
  for (;;) {
    await server.sql("SELECT pg_logical_emit_message(true, 'x', repeat('x', 300000))")
    if ((await segment()) !== before) break
  }
  const last = await segment()
  await waitForArchiver(server)
  await server.stop('immediate')
  rmSync(join(server.dataDirectory, 'pg_wal', last))
  await server.start()
  const page = parseWalPageHeader(readFileSync(join(server.dataDirectory, 'pg_wal', last)))
  assert.equal(page?.isOverwrittenContinuation, true)
}
