/** Several recoveries of one cluster that all take over, and a recovery of what came of one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PostgresServer } from '../harness/postgres-server.ts'
import { archiveNow, protectServer } from './recovery-cluster.ts'
import {
  assertRecoverable,
  createTable,
  mark,
  restoreToTakeOver,
  SMALL,
  startTakenOver,
  takeOver,
  timelineOf,
  waitForArchiver,
} from './lineage-cluster.ts'

async function quiesce(server: PostgresServer): Promise<void> {
  await archiveNow(server)
  await waitForArchiver(server)
  await server.stop()
}

test('two recoveries that take over, a third of the second, and the original goes on', async () => {
  await using cluster = await protectServer(SMALL)
  const { server: original } = cluster
  await createTable(original)
  await cluster.backup()
  const first = [await mark(original, 'm1'), await mark(original, 'm2')]
  await cluster.archiveNow()

  // The one that reserves last is started first: each gets its own number all the same.
  assert.equal(await restoreToTakeOver(cluster, 'a', '--to', 'name:m1'), 2)
  assert.equal(await restoreToTakeOver(cluster, 'b', '--to', 'name:m2'), 3)
  await using b = await startTakenOver(cluster, 'b')
  assert.equal(await timelineOf(b), 3)
  await using a = await startTakenOver(cluster, 'a')
  assert.equal(await timelineOf(a), 2)
  first.push(await mark(original, 'm3'))
  const second = [await mark(a, 'a1'), await mark(a, 'a2')]
  const third = [await mark(b, 'b1'), await mark(b, 'b2')]
  await cluster.archiveNow()
  for (const server of [a, b]) await quiesce(server)

  const { server: c, reserved } = await takeOver(cluster, 'c', '--timeline', '2', '--to', 'name:a1')
  await using _ = c
  assert.equal(reserved, 4)
  assert.equal(await timelineOf(c), 4)
  const fourth = [await mark(c, 'c1'), await mark(c, 'c2')]
  await quiesce(c)
  await original.stop()

  for (const [at, moments] of [first, second, third, fourth].entries()) {
    await assertRecoverable(cluster, at + 1, moments)
  }
  const { servers } = (await cluster.ok('--json', 'wal', 'list')).json<{
    servers: { quarantine: unknown[]; reserved: unknown[]; writers: unknown[] }[]
  }>()
  assert.deepEqual(servers[0]?.quarantine, [])
  assert.deepEqual(servers[0]?.reserved, [])
  assert.equal(servers[0]?.writers.length, 4)
})
