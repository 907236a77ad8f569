/**
 * The server and its disk are gone; what was flushed of its last segment is in the repository.
 * Every target within that tail is reached, and `latest` has every acknowledged row.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { collect } from '../harness/faulty-storage.ts'
import { WalFeeder } from '../harness/feed-sink.ts'
import { rescueOk, rescueReaderMissing, rescueTails } from '../harness/rescue-reader.ts'
import { parseLsn, segmentNumber, segmentStart } from '../../src/postgres/lsn.ts'
import { openWalSink, type WalSink } from '../../src/receive/wal-sink.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { openRecovered, type ProtectedServer, protectServer } from './recovery-cluster.ts'

const SIZE = 16 * 1024 * 1024

let cluster: ProtectedServer
let storage: Storage
let sink: WalSink
const marks: { xid: string; lsn: string; time: string }[] = []

async function openSink(): Promise<WalFeeder> {
  const { server } = cluster
  const [row] = await server.sql<{ id: string; lsn: string }>(
    'SELECT system_identifier::text AS id, pg_current_wal_lsn()::text AS lsn FROM pg_control_system()',
  )
  const opened = await openWalSink({
    required: [storage],
    cluster: 'main',
    systemIdentifier: row?.id ?? '',
  })
  sink = opened.sink
  const at = parseLsn(row?.lsn ?? '') ?? 0n
  const from = opened.resume?.lsn ?? segmentStart(segmentNumber(at as never, SIZE), SIZE)
  return new WalFeeder(server, sink, SIZE, { timeline: 1, lsn: from })
}

async function mark(feeder: WalFeeder, number: number): Promise<void> {
  const client = await cluster.server.connect()
  try {
    await client.query('BEGIN')
    await client.query(`INSERT INTO marks VALUES (${number})`)
    const { rows } = await client.query('SELECT txid_current()::text AS xid')
    await client.query('COMMIT')
    const told = 'SELECT pg_current_wal_lsn()::text AS lsn, clock_timestamp()::text AS time'
    marks.push({ ...rows[0], ...(await client.query(told)).rows[0] })
  } finally {
    await client.end()
  }
  await feeder.feed()
}

before(async () => {
  cluster = await protectServer()
  const { server } = cluster
  await server.sql('CREATE TABLE marks (number int)')
  storage = await openStorage({ url: `file://${cluster.repository}` })
  await cluster.backup()
  const feeder = await openSink()
  await mark(feeder, 1)
  await server.sql(
    'CREATE TABLE filling AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 40000) i',
  )
  await mark(feeder, 2)
  await mark(feeder, 3)
  await server.sql(`SELECT pg_create_restore_point('named')`)
  await mark(feeder, 4)
  // Never flushed: neither acknowledged to the sink nor archived.
  await server.sql('INSERT INTO marks VALUES (99)')
  await server.kill()
  // What it had started may still write there.
  rmSync(server.dataDirectory, { recursive: true, maxRetries: 20, retryDelay: 100 })
})

after(async () => {
  await sink?.close()
  await cluster?.[Symbol.asyncDispose]()
})

let restored = 0

async function marksAt(target: string, ...more: string[]): Promise<number[]> {
  const directory = cluster.path(`copy${++restored}`)
  await cluster.ok('restore', '--into', directory, '--to', target, ...more)
  await using copy = await openRecovered(directory)
  const rows = await copy.sql<{ number: number }>('SELECT number FROM marks ORDER BY number')
  return rows.map(({ number }) => number)
}

test('the last segment is there as a tail only', async () => {
  const keys = (await collect(storage.list('clusters/main/wal/'))).map(({ key }) => key)
  assert.equal(keys.filter((key) => key.endsWith('.journal')).length, 1)
  assert.ok(keys.filter((key) => key.endsWith('.wal')).length >= 2)
})

test('latest replays all that was flushed', async () => {
  assert.deepEqual(await marksAt('latest'), [1, 2, 3, 4])
})

test('every kind of target within the tail', async () => {
  const [, , third] = marks
  assert.deepEqual(await marksAt(`before:xid:${third?.xid}`), [1, 2])
  assert.deepEqual(await marksAt('name:named'), [1, 2, 3])
  assert.deepEqual(await marksAt(third?.time ?? ''), [1, 2, 3])
})

test('without Tidemark it is the same file, and the same rows', {
  skip: rescueReaderMissing(),
}, async () => {
  const { repository, server } = cluster
  const [byTidemark, byHand] = [cluster.path('by-tidemark'), cluster.path('by-hand')]
  await cluster.ok('restore', '--into', byTidemark, '--to', 'latest')
  const backup = (await rescueOk(repository, 'list')).split(' ')[1] as string
  await rescueOk(repository, 'restore', backup, byHand, '--wal')
  const { status, stdout, stderr } = await rescueTails(repository, byHand)
  assert.equal(status, 0, stderr)
  const [tail] = stdout.split(' ')
  const files = [byTidemark, byHand].map((one) => readFileSync(join(one, 'pg_wal', tail as string)))
  assert.ok((files[0] as Buffer).equals(files[1] as Buffer))
  const { runAs } = server
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, byHand])
  await using copy = await openRecovered(byHand)
  const rows = await copy.sql<{ number: number }>('SELECT number FROM marks ORDER BY number')
  assert.deepEqual(
    rows.map(({ number }) => number),
    [1, 2, 3, 4],
  )
})

test('a server that takes over archives the old timeline in no padded form', async () => {
  const directory = cluster.path('successor')
  await cluster.ok('restore', '--into', directory, '--to', 'latest', '--take-over')
  await using server = await openRecovered(directory)
  await server.sql('INSERT INTO marks VALUES (5)')
  await server.sql('SELECT pg_switch_wal()')
  for (let tries = 0; tries < 200; tries++) {
    const keys = (await collect(storage.list('clusters/main/wal/'))).map(({ key }) => key)
    if (keys.some((key) => /\/00000002\/.*\.wal$/.test(key))) break
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const keys = (await collect(storage.list('clusters/main/wal/'))).map(({ key }) => key)
  const tail = keys
    .find((key) => key.endsWith('.journal'))
    ?.split('/')
    .at(-1)
    ?.slice(0, 24)
  assert.ok(tail !== undefined)
  assert.ok(
    keys.some((key) => /\/00000002\/.*\.wal$/.test(key)),
    keys.join('\n'),
  )
  assert.ok(!keys.some((key) => key.endsWith(`/${tail}.wal`)), 'the padded tail was archived')
  await server.stop()
  assert.deepEqual(await marksAt('latest'), [1, 2, 3, 4, 5])
})

test('window and status reach to the end of the tail', async () => {
  const { intervals } = (await cluster.ok('--json', 'window')).json<{
    intervals: { timeline: number; tail: string | null; to: { lsn: string } }[]
  }>()
  const flushed = parseLsn(marks.at(-1)?.lsn ?? '') ?? 0n
  const reached = intervals.map(({ to }) => parseLsn(to.lsn) ?? 0n)
  assert.ok(
    reached.some((one) => one >= flushed),
    JSON.stringify(intervals),
  )
})
