/** As receive-synchronous.pg.test.ts for long, with restores from the repository alone. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openRecovered } from './recovery-cluster.ts'
import { startStreamedCluster } from './streamed-cluster.ts'
import { prepareRounds } from './synchronous-rounds.ts'

const ROUNDS = 200

test(`${ROUNDS} kills, and a restore from the repository every tenth time`, async () => {
  await using cluster = await startStreamedCluster()
  const rounds = await prepareRounds(cluster, Math.random)
  for (let round = 1; round <= ROUNDS; round++) {
    await rounds.play(round)
    await rounds.check()
    if (round % 10 === 0) {
      const directory = cluster.path(`restored-${round}`)
      await cluster.ok('restore', '--into', directory, '--to', 'latest')
      await using copy = await openRecovered(directory)
      const rows = await copy.sql<{ id: number }>('SELECT id FROM acknowledged')
      const present = new Set(rows.map(({ id }) => id))
      const lost = rounds.acknowledged.filter(({ id }) => !present.has(id))
      assert.deepEqual(lost, [], `in round ${round}`)
    }
    if (round < ROUNDS) await cluster.server.start()
  }
  await rounds.stop()
})
