/**
 * `wal receive --synchronous`: the server is killed again and again under load, its disk is
 * lost at last, and no acknowledged commit is.
 */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { openRecovered } from './recovery-cluster.ts'
import { startStreamedCluster } from './streamed-cluster.ts'
import { prepareRounds } from './synchronous-rounds.ts'

const ROUNDS = 20

test(`${ROUNDS} kills of the server, then its disk is gone: no commit is lost`, async () => {
  await using cluster = await startStreamedCluster()
  const rounds = await prepareRounds(cluster, Math.random)
  for (let round = 1; round <= ROUNDS; round++) {
    await rounds.play(round)
    await rounds.check()
    if (round < ROUNDS) await cluster.server.start()
  }
  rmSync(cluster.server.dataDirectory, { recursive: true })
  await rounds.stop()
  const directory = cluster.path('restored')
  await cluster.ok('restore', '--into', directory, '--to', 'latest')
  await using copy = await openRecovered(directory)
  const rows = await copy.sql<{ id: number }>('SELECT id FROM acknowledged')
  const present = new Set(rows.map(({ id }) => id))
  const lost = rounds.acknowledged.filter(({ id }) => !present.has(id))
  assert.deepEqual(lost, [])
  assert.ok(rounds.acknowledged.length > ROUNDS)
  console.log(`${rounds.acknowledged.length} acknowledged commits in ${ROUNDS} rounds`)
})
