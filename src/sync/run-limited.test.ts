import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { runLimited } from './run-limited.ts'

test('no more than so many run at once, and all of them run', async () => {
  let running = 0
  let most = 0
  const done: number[] = []
  await runLimited([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
    most = Math.max(most, ++running)
    await turn()
    running--
    done.push(item)
  })
  assert.equal(most, 3)
  assert.deepEqual(done.sort(), [1, 2, 3, 4, 5, 6, 7])
})

test('the first failure comes out when nothing runs any more; no more is begun', async () => {
  const begun: number[] = []
  let running = 0
  async function* items() {
    for (let item = 1; item <= 9; item++) yield item
  }
  const work = runLimited(items(), 2, async (item) => {
    begun.push(item)
    running++
    await turn()
    running--
    if (item === 3) throw new Error('three')
  })
  await assert.rejects(work, /three/)
  assert.equal(running, 0)
  assert.ok(begun.length < 6, String(begun))
})
