import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { findTool } from './postgres-binaries.ts'
import { startPostgres } from './postgres-server.ts'
import { checkInvariant, createBench, startLoad, startPgbench } from './workload.ts'

test('the invariant holds under load and after a crash, and every commit is there', async () => {
  await using server = await startPostgres()
  await createBench(server, 2)
  const load = await startLoad(server, { clients: 3 })
  while (load.committed() < 50) await sleep(5)
  assert.ok((await checkInvariant(server)).transactions >= 50)
  await server.kill()
  const { transactions } = await load.stop()
  await server.start()
  const after = await checkInvariant(server)
  assert.ok(after.transactions >= transactions, 'acknowledged commits survive')
})

test('the invariant finds a torn transaction and a lost one', async () => {
  await using server = await startPostgres()
  await createBench(server, 1)
  const load = await startLoad(server)
  while (load.committed() < 20) await sleep(5)
  await load.stop()
  await server.sql('UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1')
  await assert.rejects(checkInvariant(server), /sums .* differ/)
  await server.sql('UPDATE pgbench_tellers SET tbalance = tbalance - 1 WHERE tid = 1')
  await checkInvariant(server)
  await server.sql(`
    WITH lost AS (DELETE FROM pgbench_history WHERE sequence = 3 RETURNING *),
         a AS (UPDATE pgbench_accounts SET abalance = abalance - (SELECT sum(delta) FROM lost)
                WHERE aid = 1),
         t AS (UPDATE pgbench_tellers SET tbalance = tbalance - (SELECT sum(delta) FROM lost)
                WHERE tid = 1)
    UPDATE pgbench_branches SET bbalance = bbalance - (SELECT sum(delta) FROM lost)
     WHERE bid = 1`)
  await assert.rejects(checkInvariant(server), /a committed row is missing/)
})

const pgbench = findTool('pgbench', 15) === undefined ? 'pgbench is not installed' : false

test('pgbench itself keeps the invariant', { skip: pgbench }, async () => {
  await using server = await startPostgres({ major: 15 })
  await createBench(server, 2)
  const load = await startPgbench(server)
  for (let done = 0; done < 50; await sleep(5)) {
    done = Number((await server.sql('SELECT count(*) FROM pgbench_history'))[0]?.count)
  }
  await load?.stop()
  await checkInvariant(server)
})
