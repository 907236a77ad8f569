/** Ten million transactions in a heap of 128 MB, which could not hold a tenth of them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { prepareManyEvents } from './many-events.ts'

test('events over ten million transactions takes bounded memory', async () => {
  const shape = { segments: 100, transactionsPerSegment: 100_000, largeEvery: 10_000 }
  const many = await prepareManyEvents(shape)
  const begin = performance.now()
  const { end } = await many.run(128)
  console.log(`10,000,000 transactions in ${((performance.now() - begin) / 1000).toFixed(1)} s`)
  assert.equal(end.transactions, 10_000_000)
  assert.equal(end.shown, 1000)
})
