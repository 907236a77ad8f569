/** A receiver through promotions, and what it does when WAL is gone. */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { CLUSTER, makeArchive, startReceiver } from '../../test/harness/receiver.ts'
import { promote, startStandby, waitForReplay } from '../../test/harness/standby.ts'
import { findArchivedHistory } from '../archive/find-history.ts'
import { readGaps } from '../archive/gap-record.ts'
import { type Lsn, parseLsn, segmentNumber } from '../postgres/lsn.ts'

const MB = 1 << 20
const SETTINGS = { wal_keep_size: '64MB', wal_retrieve_retry_interval: '100ms' }

async function value<T>(server: PostgresServer, expression: string): Promise<T> {
  const [row] = await server.sql<{ v: T }>(`SELECT ${expression} AS v`)
  return row?.v as T
}

async function endOf(server: PostgresServer): Promise<Lsn> {
  return parseLsn(await value(server, 'pg_current_wal_flush_lsn()::text')) ?? (0n as Lsn)
}

async function write(server: PostgresServer, rows = 2000): Promise<void> {
  await server.sql('CREATE TABLE IF NOT EXISTS t (a int, b text)')
  await server.sql(
    `INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, ${rows}) g`,
  )
}

async function timelineOf(server: PostgresServer): Promise<number> {
  const name = await value<string>(server, 'pg_walfile_name(pg_current_wal_insert_lsn())')
  return Number.parseInt(name.slice(0, 8), 16)
}

test('a standby that is streamed from is promoted, and followed; twice in a segment', async (t) => {
  const primary = await startPostgres({ walSegmentSizeMb: 1, settings: SETTINGS })
  t.after(async () => await primary.dispose())
  const archive = await makeArchive(primary)
  const standby = await startStandby(primary)
  t.after(async () => await standby.dispose())
  const second = await startStandby(standby)
  t.after(async () => await second.dispose())
  // The cluster's connection is the last of a cascade: its timeline ends under our feet.
  await using receiver = startReceiver(archive, [second.url()])
  await receiver.until(() => receiver.heard('streaming') > 0)
  await write(primary)
  await waitForReplay(primary, standby)
  await primary.stop()
  await promote(standby)
  await standby.sql('CREATE TABLE on_two ()')
  await waitForReplay(standby, second)
  await receiver.until(() => receiver.heard('switched') === 1)
  await standby.stop('immediate')
  await promote(second)
  assert.equal(await timelineOf(second), 3)
  await write(second)
  const end = await endOf(second)
  await receiver.until(() => receiver.heard('switched') === 2 && receiver.flushed() >= end)
  await receiver.stop()
  const forks = receiver.events.flatMap((event) => (event.kind === 'switched' ? [event] : []))
  assert.deepEqual(
    forks.map(({ from, to }) => [from, to]),
    [
      [1, 2],
      [2, 3],
    ],
  )
  const history = await findArchivedHistory(archive.storage, CLUSTER, archive.systemIdentifier, 3)
  assert.deepEqual(
    history?.ancestors.map(({ endLsn }) => endLsn),
    forks.map(({ end: at }) => at),
  )
  // The segment of the fork is there under the new timeline, and not as a whole under the old.
  const segment = segmentNumber(forks[1]?.end ?? (0n as Lsn), MB)
  assert.notEqual(await archive.segment(3, segment), undefined)
  assert.equal(await archive.segment(2, segment), undefined)
})

test('the receiver was ahead of the promoted standby, which it finds by itself', async (t) => {
  const primary = await startPostgres({ walSegmentSizeMb: 1, settings: SETTINGS })
  t.after(async () => await primary.dispose())
  const archive = await makeArchive(primary)
  const standby = await startStandby(primary)
  t.after(async () => await standby.dispose())
  const timing = { standbysEveryMs: 50 }
  const both: [string, string] = [primary.url(), standby.url()]
  await using receiver = startReceiver(archive, both, { timing })
  await receiver.until(() => receiver.heard('streaming') > 0)
  await write(primary)
  await waitForReplay(primary, standby)
  const forkAtMost = await endOf(primary)
  const slot = async (): Promise<Lsn> => {
    const text = '(SELECT restart_lsn::text FROM pg_replication_slots)'
    return parseLsn((await value<string | null>(standby, text)) ?? '') ?? (0n as Lsn)
  }
  await receiver.until(() => receiver.flushed() >= forkAtMost)
  const behind = receiver.flushed() - (receiver.flushed() % BigInt(MB))
  await receiver.until(async () => (await slot()) >= behind)
  assert.ok((await slot()) <= receiver.flushed())

  await standby.sql(`ALTER SYSTEM SET primary_conninfo = ''`)
  await standby.sql('SELECT pg_reload_conf()')
  const connected = '(SELECT count(*)::int FROM pg_stat_replication)'
  await until(async () => (await value(primary, connected)) === 1)
  await write(primary, 6000)
  const lost = await endOf(primary)
  await receiver.until(() => receiver.flushed() >= lost)
  await primary.kill()
  await promote(standby)
  await write(standby)
  const end = await endOf(standby)
  await receiver.until(() => receiver.heard('switched') > 0 && receiver.flushed() >= end)
  const [event] = receiver.events.filter(({ kind }) => kind === 'switched')
  assert.ok(event?.kind === 'switched' && event.isBeyondFork)
  assert.ok(event.end >= lost)
  await receiver.stop()
  const listed = await archive.segment(1, segmentNumber(lost, MB) - 1n)
  assert.notEqual(listed, undefined, 'what was ahead stays')
})

test('a slot that is dropped while we are away: alarm, gap record, and on', async (t) => {
  const server = await startPostgres({ walSegmentSizeMb: 1 })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  const first = startReceiver(archive, [server.url()])
  await first.until(() => first.heard('streaming') > 0)
  await write(server)
  const before = await endOf(server)
  await first.until(() => first.flushed() >= before)
  await first.stop()
  await server.sql("SELECT pg_drop_replication_slot('tidemark_main')")
  await removeWal(server)
  await using second = startReceiver(archive, [server.url()])
  await second.until(() => second.heard('gap') > 0)
  await write(server)
  const end = await endOf(server)
  await second.until(() => second.flushed() >= end)
  const [gap, ...more] = await readGaps(archive.storage, CLUSTER, archive.systemIdentifier)
  assert.deepEqual(more, [])
  assert.ok(gap !== undefined && gap.from >= before && gap.to > gap.from)
  assert.equal(gap.to % BigInt(MB), 0n)
  assert.match(gap.because, /removed/)
  assert.ok(second.failures().some(({ code }) => code === 'TM1425'))
})

test('a slot that was invalidated by max_slot_wal_keep_size', async (t) => {
  const server = await startPostgres({
    walSegmentSizeMb: 1,
    settings: { max_slot_wal_keep_size: '2MB' },
  })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  const first = startReceiver(archive, [server.url()])
  await first.until(() => first.heard('streaming') > 0)
  await first.stop()
  await removeWal(server)
  await using second = startReceiver(archive, [server.url()])
  await second.until(() => second.heard('gap') > 0)
  const codes = second.failures().map(({ code }) => code)
  assert.ok(codes.includes('TM1424') && codes.includes('TM1425'), codes.join())
  await write(server)
  const end = await endOf(server)
  await second.until(() => second.flushed() >= end)
})

test('a slot that was dropped and made anew, with the WAL still there: no gap', async (t) => {
  const server = await startPostgres({ walSegmentSizeMb: 1, settings: SETTINGS })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  const first = startReceiver(archive, [server.url()])
  await first.until(() => first.heard('streaming') > 0)
  await first.stop()
  await server.sql("SELECT pg_drop_replication_slot('tidemark_main')")
  await removeWal(server)
  await using second = startReceiver(archive, [server.url()])
  const end = await endOf(server)
  await second.until(() => second.flushed() >= end)
  assert.equal(second.heard('gap'), 0)
  assert.deepEqual(await readGaps(archive.storage, CLUSTER, archive.systemIdentifier), [])
})

for (const where of ['in a tail', 'at the end of a segment']) {
  test(`an old copy of the server is refused, also when it has gone on: ${where}`, async (t) => {
    const server = await startPostgres({ walSegmentSizeMb: 1, settings: SETTINGS })
    t.after(async () => await server.dispose())
    const archive = await makeArchive(server)
    const copy = await startStandby(server)
    t.after(async () => await copy.dispose())
    const first = startReceiver(archive, [server.url()])
    await first.until(() => first.heard('streaming') > 0)
    await waitForReplay(server, copy)
    await copy.stop()
    await write(server)
    if (where !== 'in a tail') await server.sql('SELECT pg_switch_wal()')
    const end = await endOf(server)
    await first.until(() => first.flushed() >= end)
    await server.kill()
    await first.stop()
    if (where !== 'in a tail') assert.equal(first.flushed() % BigInt(MB), 0n)
    // It goes on as if it were the primary, on the same timeline: an old disk put back.
    rmSync(`${copy.dataDirectory}/standby.signal`)
    await copy.start()
    const behind = startReceiver(archive, [copy.url()], { until: 'end' })
    await assert.rejects(behind.done, { code: 'TM1426' })
    while ((await endOf(copy)) < end + BigInt(2 * MB)) await write(copy)
    const beyond = startReceiver(archive, [copy.url()], { until: 'end' })
    await assert.rejects(beyond.done, (error) => {
      return ['TM1402', 'TM1442'].includes((error as { code: string }).code)
    })
    assert.ok(beyond.flushed() <= first.flushed(), 'nothing of it was acknowledged')
  })
}

/** Checkpoints until what no slot keeps is gone. */
async function removeWal(server: PostgresServer): Promise<void> {
  for (let round = 0; round < 4; round++) {
    await write(server)
    await server.sql('SELECT pg_switch_wal()')
    await server.sql('CHECKPOINT')
  }
}

async function until(isTrue: () => Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await new Promise((resolve) => setTimeout(resolve, 10))
}
