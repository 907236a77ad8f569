/**
 * `window` and `wal status` against what was done to a real server and its archive: lags,
 * slots, a hole, WAL without a backup, wal_level=minimal, the server gone.
 */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { runProgram } from '../harness/run-program.ts'
import { TIDEMARK } from '../harness/tidemark.ts'
import { filesBelow, type ProtectedServer, protectServer } from './recovery-cluster.ts'

interface Finding {
  readonly code: string
  readonly result: string
  readonly detail: string
}

interface WalStatus {
  readonly healthy: boolean
  readonly server: {
    readonly reachable: boolean
    readonly timeline: number
    readonly currentLsn: string
    readonly slots: readonly { readonly name: string; readonly walStatus: string }[]
  }
  readonly rate: { readonly bytesPerSecond: number } | null
  readonly repositories: readonly {
    readonly position: { readonly lsn: string; readonly segment: string } | null
    readonly lastMoment: string | null
    readonly lag: { readonly bytes: number | null; readonly seconds: number | null }
    readonly timelines: readonly { readonly missing: number; readonly last: string }[]
  }[]
  readonly findings: readonly Finding[]
}

interface Window {
  readonly whole: boolean
  readonly intervals: readonly {
    readonly end: string
    readonly to: { readonly time: string; readonly lsn: string }
    readonly gap: null | Readonly<Record<string, string | number>>
  }[]
  readonly withoutBackup: readonly Readonly<Record<string, string | number | boolean>>[]
}

let cluster: ProtectedServer

before(async () => {
  cluster = await protectServer({ walSegmentSizeMb: 1 })
  await cluster.server.sql('CREATE TABLE notes (id int, at timestamptz)')
  const url = `file://${cluster.repository}`
  await cluster.ok('init', '--yes', '--connection', cluster.server.url(), '--repository', url)
})

after(async () => {
  await cluster[Symbol.asyncDispose]()
})

const status = async (): Promise<WalStatus> =>
  (await cluster.run('--json', 'wal', 'status')).json<WalStatus>()
const window = async (): Promise<Window> => (await cluster.run('--json', 'window')).json<Window>()

/** A row; the moment at which it was written, and the segment that then was archived. */
async function writeNote(id: number): Promise<{ at: Date; segment: string }> {
  const [row] = await cluster.server.sql<{ at: Date }>(
    'INSERT INTO notes VALUES ($1, clock_timestamp()) RETURNING at',
    [id],
  )
  const [place] = await cluster.server.sql<{ name: string }>(
    'SELECT pg_walfile_name(pg_current_wal_lsn()) AS name',
  )
  await cluster.archiveNow()
  return { at: row?.at ?? new Date(0), segment: place?.name ?? '' }
}

/** Takes a segment out of the repository, as a wrong `rm` would. */
function removeSegment(segment: string): void {
  const path = filesBelow(cluster.repository).find((one) => one.endsWith(`${segment}.wal`))
  assert.ok(path, segment)
  rmSync(join(cluster.repository, path))
}

test('before the first backup no backup leads into the WAL, and status knows the lag', async () => {
  await writeNote(1)
  const { whole, intervals, withoutBackup } = await window()
  assert.equal(whole, false)
  assert.deepEqual(intervals, [])
  assert.equal(withoutBackup[0]?.['isBeforeBackup'], false)
  const { server, repositories, healthy, findings } = await status()
  assert.equal(healthy, true, JSON.stringify(findings))
  assert.equal(server.timeline, 1)
  const [local] = repositories
  assert.equal(local?.position?.segment, withoutBackup[0]?.['last'])
  assert.ok((local?.lag.bytes ?? -1) >= 0)
  assert.ok((local?.lag.bytes ?? Infinity) < 1024 * 1024)
})

test('the lag in bytes is what the server has written behind the last segment', async () => {
  await cluster.backup()
  await writeNote(2)
  const text = "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 300000))"
  await cluster.server.sql(text)
  const { server, repositories, rate } = await status()
  const [local] = repositories
  const difference = 'SELECT pg_wal_lsn_diff($1::pg_lsn, $2::pg_lsn)::int AS bytes'
  const [row] = await cluster.server.sql<{ bytes: number }>(difference, [
    server.currentLsn,
    local?.position?.lsn,
  ])
  assert.equal(local?.lag.bytes, row?.bytes)
  assert.ok((local?.lag.bytes ?? 0) >= 300_000)
  assert.ok((rate?.bytesPerSecond ?? 0) > 0)
  const { whole, intervals } = await window()
  assert.deepEqual([whole, intervals[0]?.end], [true, 'archive'])
})

test('a slot is shown; one whose WAL was removed is told of', async () => {
  await cluster.server.sql("SELECT pg_create_physical_replication_slot('reader', true)")
  assert.equal((await status()).server.slots[0]?.walStatus, 'reserved')
  const { stdout } = await cluster.ok('wal', 'status')
  assert.match(stdout, /slot +reader: nobody reads, from 0\/[0-9A-F]+, keeps .*, reserved/)
  await cluster.server.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
  await cluster.server.sql('SELECT pg_reload_conf()')
  for (let count = 0; count < 4; count++) await writeNote(10 + count)
  await cluster.server.sql('CHECKPOINT')
  const { server, findings } = await status()
  assert.equal(server.slots[0]?.walStatus, 'lost')
  const told = findings.find(({ code }) => code === 'TM1481')
  assert.match(told?.detail ?? '', /slot reader was lost/)
  await cluster.server.sql("SELECT pg_drop_replication_slot('reader')")
})

test('a hole: since when, until when, and the WAL behind it wants a backup', async () => {
  const before = await writeNote(20)
  const { segment: hole } = await writeNote(21)
  const behind = await writeNote(22)
  removeSegment(hole)
  const { whole, intervals, withoutBackup } = await window()
  const [interval] = intervals
  assert.deepEqual([whole, interval?.end], [false, 'gap'])
  const { first, last, segments, since, until } = interval?.gap ?? {}
  assert.deepEqual([first, last, segments], [hole, hole, 1])
  assert.equal(since, interval?.to.time)
  const [from, to] = [Date.parse(String(since)), Date.parse(String(until))]
  assert.ok(from >= before.at.getTime() && from <= to, JSON.stringify(interval))
  assert.ok(to <= behind.at.getTime() + 1000)
  const alarm = withoutBackup.find(({ isBeforeBackup }) => isBeforeBackup === false)
  assert.ok(String(alarm?.['first']) > hole)
  const { status: exit, stdout } = await cluster.run('wal', 'status', '--check')
  assert.equal(exit, 3)
  assert.match(stdout, new RegExp(`1 segment missing: ${hole}`))
  assert.equal((await status()).repositories[0]?.timelines[0]?.missing, 1)

  await cluster.backup()
  const mended = await window()
  assert.equal(mended.intervals.length, 2)
  assert.ok(mended.withoutBackup.every(({ isBeforeBackup }) => isBeforeBackup === true))
})

test('on a terminal there is a bar, in ASCII where the locale is not UTF-8', async () => {
  const shown = async (env: Record<string, string>): Promise<string> => {
    const command = `stty cols 60; '${TIDEMARK}' --config '${cluster.config}' window`
    const { stdout } = await runProgram('script', ['-qec', command, '/dev/null'], {
      env: { TERM: 'xterm', NO_COLOR: '1', ...env },
      runAs: cluster.server.runAs,
    })
    return stdout.replaceAll('\r', '')
  }
  const bar = /^timeline 1 {2}(.*)$/m
  assert.match(bar.exec(await shown({ LC_ALL: 'C.UTF-8' }))?.[1] ?? '', /^[█▒·]{48}$/)
  assert.match(bar.exec(await shown({ LC_ALL: 'C' }))?.[1] ?? '', /^[#+.]{48}$/)
})

test('wal_level=minimal ends the window, and a recovery is refused there', async () => {
  const before = await writeNote(30)
  const minimal = { wal_level: 'minimal', archive_mode: 'off', max_wal_senders: '0' }
  await cluster.server.restart(minimal)
  await cluster.server.sql('INSERT INTO notes VALUES (31, clock_timestamp())')
  await cluster.server.restart()
  await writeNote(32)
  const { whole, intervals } = await window()
  const ended = intervals.find(({ end }) => end === 'minimal')
  assert.ok(ended, JSON.stringify(intervals))
  assert.equal(whole, false)
  // The last record before it is a checkpoint, whose time is in seconds.
  assert.ok(Date.parse(ended.to.time) >= Math.floor(before.at.getTime() / 1000) * 1000)
  const into = cluster.path('copy')
  const plan = async (target: string) =>
    await cluster.run('restore', '--plan', '--into', into, '--to', target)
  const refused = await plan('latest')
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, new RegExp(`from ${ended.to.lsn} on .*wal_level=minimal`))
  assert.equal((await plan('end-of:gap')).status, 0)
  const { findings } = await status()
  assert.ok(findings.some(({ code, result }) => code === 'TM1703' && result === 'problem'))
})

test('without the server status says what the repository ends with', async () => {
  await cluster.server.stop()
  const { server, repositories, healthy } = await status()
  assert.deepEqual([server.reachable, healthy], [false, false])
  const [local] = repositories
  assert.equal(local?.lag.bytes, null)
  assert.ok((local?.lag.seconds ?? -1) >= 0)
  assert.ok(local?.lastMoment)
  const { stdout } = await cluster.run('wal', 'status')
  assert.match(stdout, /server +does not answer/)
  assert.match(stdout, /behind +unknown; what it has ends .* ago/)
})
