/**
 * A cascade in which every server archives whatever it receives, and the last one is followed by
 * `wal receive` as well: the middle one is promoted, then the last one, while those before them
 * go on. Every moment of the three timelines is recovered out of the one repository.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { formatSegmentName, type Lsn, parseLsn, segmentNumber } from '../../src/postgres/lsn.ts'
import type { PostgresServer } from '../harness/postgres-server.ts'
import { type RunningTidemark, startTidemark } from '../harness/tidemark.ts'
import { archiveNow, type ProtectedServer, protectServer } from './recovery-cluster.ts'
import {
  assertRecoverable,
  catchUp,
  createTable,
  type Moment,
  mark,
  openStandby,
  promote,
  SMALL,
  timelineOf,
  waitForArchiver,
  waitUntil,
} from './lineage-cluster.ts'

/** Streams from `server` into the repository of the cluster. */
function receiveFrom(cluster: ProtectedServer, server: PostgresServer): RunningTidemark {
  const config = cluster.path('receive.yaml')
  writeFileSync(
    config,
    `repositories:\n  local: { url: "file://${cluster.repository}" }\n` +
      `clusters:\n  main: { connection: "${server.url()}", wal: { source: stream } }\n`,
  )
  const { runAs } = server
  if (runAs !== undefined) execFileSync('chown', [`${runAs.uid}:${runAs.gid}`, config])
  return startTidemark(['--config', config, '--json', 'wal', 'receive'], { runAs })
}

/** What `server` has written up to there is durable with the receiver. */
async function waitForReceiver(server: PostgresServer, lsn: string): Promise<void> {
  await waitUntil(
    server,
    `SELECT count(*) > 0 AS ok FROM pg_stat_replication
      WHERE application_name = 'tidemark' AND flush_lsn >= '${lsn}'`,
  )
}

interface ListingJson {
  readonly servers: readonly {
    readonly timelines: readonly { readonly timeline: number; readonly gaps: unknown[] }[]
    readonly quarantine: readonly { readonly name: string }[]
  }[]
}

function segmentOf(timeline: number, { lsn }: Moment): string {
  const segment = segmentNumber(parseLsn(lsn) as Lsn, 1 << 20)
  return formatSegmentName(timeline, segment, 1 << 20)
}

/**
 * Three timelines without a gap, and every object proved. A standby hands over the segment of a
 * fork in part; the longer one replaces it, and the part is kept in quarantine.
 */
async function assertCorrect(cluster: ProtectedServer, forks: readonly string[]): Promise<void> {
  const { servers } = (await cluster.ok('--json', 'wal', 'list')).json<ListingJson>()
  const [listed] = servers
  for (const { name } of listed?.quarantine ?? [])
    assert.ok(forks.includes(name.slice(0, 24)), name)
  assert.deepEqual(
    listed?.timelines.map(({ timeline, gaps }) => [timeline, gaps]),
    [
      [1, []],
      [2, []],
      [3, []],
    ],
  )
  await cluster.ok('verify', '--full')
}

test('the middle of a cascade is promoted, then its end; all archive', async () => {
  const settings = {
    ...SMALL.settings,
    archive_mode: 'always',
    wal_keep_size: '64MB',
    wal_retrieve_retry_interval: '100ms',
  }
  await using cluster = await protectServer({ ...SMALL, major: 15, settings })
  const { server: first } = cluster
  await createTable(first)
  await cluster.backup()
  await mark(first, 'm1')
  await using middle = await openStandby(first)
  await using last = await openStandby(middle)
  const receiver = receiveFrom(cluster, last)
  try {
    await archiveNow(first)
    const fork = await mark(first, 'm2')
    await catchUp(last, first)
    await waitForReceiver(last, fork.lsn)

    await promote(middle)
    assert.equal(await timelineOf(middle), 2)
    const onFirst = [fork, await mark(first, 'f1')]
    const onSecond = [await mark(middle, 's1')]
    await Promise.all([archiveNow(first), archiveNow(middle)])
    const secondFork = await mark(middle, 's2')
    onSecond.push(secondFork)
    await catchUp(last, middle)
    await waitForReceiver(last, secondFork.lsn)

    await promote(last)
    assert.equal(await timelineOf(last), 3)
    const onThird = [secondFork, await mark(last, 't1')]
    onFirst.push(await mark(first, 'f2'))
    onSecond.push(await mark(middle, 's3'))
    await Promise.all([first, middle, last].map(archiveNow))
    // This one is streamed and not archived.
    onThird.push(await mark(last, 't2'))
    // A restore point alone is not flushed, and recovery stops only before another record.
    const [end] = await last.sql("SELECT pg_logical_emit_message(true, 'x', 'x')::text AS lsn")
    await waitForReceiver(last, String(end?.['lsn']))
    for (const server of [first, middle, last]) await waitForArchiver(server)
    receiver.kill('SIGTERM')
    const { status, stdout, stderr } = await receiver.done
    assert.equal(status, 0, `${stdout}${stderr}`)
    assert.equal(stdout.match(/"event":"switched"/g)?.length, 2, stdout)

    await assertCorrect(cluster, [segmentOf(1, fork), segmentOf(2, secondFork)])
    for (const server of [first, middle, last]) {
      assert.doesNotMatch(await server.log(), /archive command failed|TM14\d\d/)
    }
    for (const [at, moments] of [onFirst, onSecond, onThird].entries()) {
      await assertRecoverable(cluster, at + 1, moments)
    }
  } finally {
    receiver.kill('SIGKILL')
    await receiver.done
  }
})
