/**
 * A backlog of WAL and PostgreSQL's own archiver: the repository is away and comes back, the server
 * is killed and started again, and in the end everything is there and recovers.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, test } from 'node:test'
import { archiveNow, type FaultCluster, marksOf, startFaultCluster } from './faults-cluster.ts'

let cluster: FaultCluster
const marks: number[] = []

before(async () => {
  cluster = await startFaultCluster({ walSegmentSizeMb: 1 })
  await cluster.backup()
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

/** Rows in segments of their own; nobody waits for the archiver. */
async function write(count: number): Promise<void> {
  const { server } = cluster
  for (let written = 0; written < count; written++) {
    const number = marks.length + 1
    await server.sql(`INSERT INTO mark VALUES (${number})`)
    await server.sql('SELECT pg_switch_wal()')
    marks.push(number)
  }
}

function waiting(): number {
  const status = join(cluster.server.dataDirectory, 'pg_wal/archive_status')
  return readdirSync(status).filter((name) => name.endsWith('.ready')).length
}

async function waitForLog(pattern: RegExp, from: number): Promise<string> {
  for (let waited = 0; waited < 1200; waited++) {
    const text = (await cluster.server.log()).slice(from)
    if (pattern.test(text)) return text
    await sleep(50)
  }
  throw new Error(`the log does not say ${pattern}`)
}

test('the repository is away: a line for each failure, and PostgreSQL keeps its WAL', async () => {
  const from = (await cluster.server.log()).length
  const away = `${cluster.repository}.away`
  renameSync(cluster.repository, away)
  try {
    await write(12)
    const log = await waitForLog(/failed too many times/, from)
    const told = log.split('\n').filter((line) => /^error TM15\d\d: /.test(line))
    const failures = log.split('\n').filter((line) => /archive command failed/.test(line))
    assert.equal(told.length, failures.length, log)
    for (const line of told) assert.match(line, /free for pg_wal/)
    assert.doesNotMatch(log, /^ {2}(because|fix):/m)
    assert.ok(waiting() >= 12)
    const status = await cluster.run('--json', 'status', '--check')
    assert.equal(status.status, 3)
    const { server } = status.json<{ server: { disk: { freeBytes: number; waiting: number } } }>()
    assert.ok(server.disk.freeBytes > 0)
    assert.ok(server.disk.waiting >= 12)
  } finally {
    renameSync(away, cluster.repository)
  }
  await write(1)
  await archiveNow(cluster.server)
  assert.equal(waiting(), 0)
  assert.ok(existsSync(join(cluster.server.dataDirectory, 'tidemark.acks')))
})

test('a server that is killed with a backlog archives all of it when it is back', async () => {
  const { server } = cluster
  for (let round = 0; round < 3; round++) {
    await write(8)
    await sleep(round * 150)
    await server.stop('immediate')
    await server.start()
  }
  await archiveNow(server)
  const acks = join(server.dataDirectory, 'tidemark.acks')
  // The next call removes what is of an earlier start, or done.
  await write(1)
  await archiveNow(server)
  assert.ok(readdirSync(acks).length <= 2, readdirSync(acks).join(' '))
})

test('every row of the backlogs is recovered; no backup takes the acknowledgements', async () => {
  await cluster.backup()
  const directory = cluster.path('restored')
  await cluster.ok('window', '--check')
  await cluster.ok('restore', '--into', directory, '--to', 'latest')
  assert.ok(!existsSync(join(directory, 'tidemark.acks')))
  assert.deepEqual(await marksOf(directory), marks)
})
