import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../../../base/failure.ts'
import { parseBudget } from './parse-budget.ts'

test('a budget is an amount or a time', () => {
  assert.deepEqual(parseBudget('50GiB'), { bytes: 50 * 2 ** 30 })
  assert.deepEqual(parseBudget('1.5 TB'), { bytes: 1.5e12 })
  assert.deepEqual(parseBudget('30min'), { ms: 1_800_000 })
  for (const text of ['', '0s', '10', 'GiB', '-1GiB', '5 days', '1e3s', '10 gib']) {
    assert.throws(
      () => parseBudget(text),
      (error) => isFailure(error, 'TM1001'),
      text,
    )
  }
})
