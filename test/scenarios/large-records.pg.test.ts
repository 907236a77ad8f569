/**
 * Records that are larger than segments: whole segments lie inside one record. Archived, received
 * up to the middle of one, indexed, judged, restored.
 */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { type Lsn, lsn, parseLsn, segmentNumber, segmentStart } from '../../src/postgres/lsn.ts'
import { openWalSink } from '../../src/receive/wal-sink.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { WalFeeder } from '../harness/feed-sink.ts'
import { openRecovered, type ProtectedServer, protectServer } from './recovery-cluster.ts'

const MB = 1024 * 1024
const LARGE = `SELECT pg_logical_emit_message(true, 'x', repeat('x', 3300000))`

let cluster: ProtectedServer
const xids: string[] = []

/** Its row, and a record that three segments and more lie in. */
async function mark(number: number): Promise<void> {
  const client = await cluster.server.connect()
  try {
    await client.query('BEGIN')
    await client.query(`INSERT INTO marks VALUES (${number})`)
    await client.query(LARGE)
    const { rows } = await client.query('SELECT txid_current()::text AS xid')
    await client.query('COMMIT')
    xids.push(rows[0].xid)
  } finally {
    await client.end()
  }
}

async function currentLsn(): Promise<Lsn> {
  const [row] = await cluster.server.sql<{ lsn: string }>(
    'SELECT pg_current_wal_flush_lsn()::text AS lsn',
  )
  return parseLsn(row?.lsn ?? '') as Lsn
}

before(async () => {
  cluster = await protectServer({ walSegmentSizeMb: 1, settings: { wal_keep_size: '200MB' } })
  await cluster.server.sql('CREATE TABLE marks (number int)')
  await cluster.backup()
  for (const number of [1, 2, 3]) await mark(number)
  await cluster.archiveNow()
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

let restored = 0

async function marksAt(target: string): Promise<number[]> {
  const directory = cluster.path(`copy${++restored}`)
  await cluster.ok('restore', '--into', directory, '--to', target)
  await using copy = await openRecovered(directory)
  const rows = await copy.sql<{ number: number }>('SELECT number FROM marks ORDER BY number')
  return rows.map(({ number }) => number)
}

/** Of the transactions that `mark` made, those that `events` tells, whole. */
async function toldXids(): Promise<string[]> {
  const all = ['--json', 'events', '--since', 'start', '--all', '--limit', '10000']
  const told = (await cluster.ok(...all)).stdout.trimEnd().split('\n')
  const whole = told
    .map((line): Told => JSON.parse(line))
    .filter(({ kind, inserted, isIncomplete }) => {
      return kind === 'insert' && inserted === 1 && isIncomplete === false
    })
  return xids.filter((xid) => whole.some((one) => one.xid === Number(xid)))
}

interface Told {
  readonly kind: string
  readonly xid?: number
  readonly inserted?: number
  readonly isIncomplete?: boolean
}

test('archived: events, with and without indexes, and every target', async () => {
  assert.deepEqual(await toldXids(), xids)
  await cluster.ok('wal', 'index', '--rebuild')
  assert.deepEqual(await toldXids(), xids)
  const window = (await cluster.run('--json', 'window')).json<{ intervals: { end: string }[] }>()
  assert.deepEqual(
    window.intervals.map(({ end }) => end),
    ['archive'],
  )
  assert.deepEqual(await marksAt(`before:xid:${xids[1]}`), [1])
  await cluster.ok('verify', '--full')
})

test('received up to the middle of one: what was flushed before it is there', async () => {
  const { server } = cluster
  const [row] = await server.sql<{ id: string }>(
    'SELECT system_identifier::text AS id FROM pg_control_system()',
  )
  await server.sql("ALTER SYSTEM SET archive_command = '/bin/false'")
  await server.sql('SELECT pg_reload_conf()')
  const storage = await openStorage({ url: `file://${cluster.repository}` })
  const opened = await openWalSink({
    required: [storage],
    cluster: 'main',
    systemIdentifier: row?.id ?? '',
  })
  const start = opened.resume?.lsn ?? assert.fail()
  const feeder = new WalFeeder(server, opened.sink, MB, { timeline: 1, lsn: start })
  await server.sql('INSERT INTO marks VALUES (4)')
  const whole = await currentLsn()
  await mark(5)
  const end = await currentLsn()
  // Two segments of the record, and a part of a third that nothing begins or ends in.
  const within = segmentStart(segmentNumber(whole, MB) + 2n, MB) + 300_000n
  assert.ok(within < end)
  feeder.appendTo(lsn(within))
  assert.equal(await opened.sink.flush(), within)
  await server.kill()
  // What it had started may still write there.
  rmSync(server.dataDirectory, { recursive: true, maxRetries: 20, retryDelay: 100 })
  await opened.sink.close()
  await storage.close()
  assert.deepEqual(await marksAt('latest'), [1, 2, 3, 4])
  await cluster.ok('window')
  await cluster.ok('verify')
  // The last one was never flushed whole.
  assert.deepEqual(await toldXids(), xids.slice(0, -1))
})
