/**
 * Recovery under load, to every kind of target. At each of them the four sums agree, and
 * what was committed before the target is there and what came after it is not.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { PostgresServer } from '../harness/postgres-server.ts'
import { checkInvariant, createBench, startLoad } from '../harness/workload.ts'
import { openRecovered, type ProtectedServer, protectServer } from './recovery-cluster.ts'

interface Mark extends Record<string, unknown> {
  readonly xid: string
  readonly lsn: string
  readonly time: string
}

let cluster: ProtectedServer
let backup: string
/** Marks 1 to 3 were committed one after the other while load ran. */
const marks: Mark[] = []
let abortedXid = ''

async function mark(server: PostgresServer, number: number): Promise<void> {
  const client = await server.connect()
  try {
    await client.query('BEGIN')
    await client.query(`INSERT INTO marks VALUES (${number})`)
    const { rows } = await client.query('SELECT txid_current()::text AS xid')
    await client.query('COMMIT')
    const after = await client.query(
      'SELECT pg_current_wal_lsn()::text AS lsn, clock_timestamp()::text AS time',
    )
    marks.push({ ...rows[0], ...after.rows[0] } as Mark)
  } finally {
    await client.end()
  }
}

async function abortOne(server: PostgresServer): Promise<void> {
  const client = await server.connect()
  try {
    await client.query('BEGIN')
    await client.query('INSERT INTO marks VALUES (99)')
    const { rows } = await client.query('SELECT txid_current()::text AS xid')
    abortedXid = String(rows[0]['xid'])
    await client.query('ROLLBACK')
  } finally {
    await client.end()
  }
}

before(async () => {
  cluster = await protectServer()
  const { server } = cluster
  await createBench(server, 2)
  await server.sql('CREATE TABLE marks (number int)')
  const load = await startLoad(server)
  backup = await cluster.backup()
  await mark(server, 1)
  await server.sql(`SELECT pg_create_restore_point('before_two')`)
  await abortOne(server)
  await mark(server, 2)
  await mark(server, 3)
  await load.stop()
  await cluster.archiveNow()
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

let restored = 0

/** Restores, starts, checks the invariant, and gives the marks that are there. */
async function marksAt(target: string, ...more: string[]): Promise<number[]> {
  const directory = cluster.path(`copy${++restored}`)
  await cluster.ok('restore', '--into', directory, '--to', target, ...more)
  await using copy = await openRecovered(directory)
  await checkInvariant(copy)
  const rows = await copy.sql<{ number: number }>('SELECT number FROM marks ORDER BY number')
  return rows.map(({ number }) => number)
}

const at = (number: number): Mark => marks[number - 1] as Mark

test('latest has everything', async () => {
  const last = await checkInvariant(cluster.server)
  const directory = cluster.path('latest')
  await cluster.ok('restore', '--into', directory, '--to', 'latest')
  await using copy = await openRecovered(directory)
  assert.deepEqual(await checkInvariant(copy), last)
})

test('immediate and backup:ID end with the backup', async () => {
  assert.deepEqual(await marksAt('immediate'), [])
  assert.deepEqual(await marksAt(`backup:${backup}`), [])
})

test('a time includes what was committed before it', async () => {
  assert.deepEqual(await marksAt(at(1).time), [1])
  assert.deepEqual(await marksAt(at(2).time.replace(' ', 'T')), [1, 2])
})

test('an xid is inclusive, before:xid is not', async () => {
  assert.deepEqual(await marksAt(`xid:${at(2).xid}`), [1, 2])
  assert.deepEqual(await marksAt(`before:xid:${at(2).xid}`), [1])
})

test('an LSN stops at the record that starts there', async () => {
  assert.deepEqual(await marksAt(`lsn:${at(1).lsn}`), [1])
  assert.deepEqual(await marksAt(`before:lsn:${at(2).lsn}`), [1, 2])
})

test('a restore point', async () => {
  assert.deepEqual(await marksAt('name:before_two'), [1])
})

test('an aborted transaction is refused with its place, which can be recovered to', async () => {
  const refused = await cluster.run(
    '--json',
    'restore',
    '--into',
    cluster.path('no'),
    '--to',
    `xid:${abortedXid}`,
  )
  assert.equal(refused.status, 1)
  const text = refused.stdout
  assert.match(text, /TM1206/)
  const nearest = /before:lsn:[0-9A-F]+\/[0-9A-F]+/.exec(text)?.[0]
  assert.ok(nearest, text)
  assert.deepEqual(await marksAt(nearest), [1])
})

test('--start waits for the target and compares the LSN that was reached', async () => {
  for (const action of ['promote', 'pause', 'shutdown']) {
    const directory = cluster.path(`started-${action}`)
    const { started, replayEndLsn } = (
      await cluster.ok(
        '--json',
        'restore',
        '--into',
        directory,
        '--to',
        `xid:${at(2).xid}`,
        '--start',
        '--action',
        action,
        '--pg-bin',
        cluster.server.binDirectory,
      )
    ).json<{ started: { state: string; reachedLsn: string }; replayEndLsn: string }>()
    const states = { promote: 'running', pause: 'paused', shutdown: 'shut down' }
    assert.equal(started.state, states[action as keyof typeof states])
    assert.equal(started.reachedLsn, replayEndLsn)
    if (action === 'shutdown') continue
    await cluster.server.tool('psql', ['-h', directory, '-p', '5432', '-c', 'SELECT 1'])
    await cluster.server.tool('pg_ctl', ['stop', '-D', directory, '-m', 'immediate'])
  }
})
