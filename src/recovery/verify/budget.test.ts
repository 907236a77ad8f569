import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Budget, orderByAge } from './budget.ts'

test('a budget is spent once it was reached, never before the first object', () => {
  const budget = new Budget({ bytes: 10 })
  assert.equal(budget.isSpent, false)
  budget.spend(9)
  assert.equal(budget.isSpent, false)
  budget.spend(1)
  assert.equal(budget.isSpent, true)
  budget.lift()
  assert.equal(budget.isSpent, false)
  const time = new Budget({ ms: 0 })
  assert.equal(time.isSpent, false)
  time.spend(0)
  assert.equal(time.isSpent, true)
  const none = new Budget({})
  none.spend(1e15)
  assert.equal(none.isSpent, false)
})

test('what was never seen comes first, then the oldest', () => {
  const seen: Record<string, number> = { a: 30, b: 10, c: 20 }
  assert.deepEqual(
    orderByAge(['a', 'b', 'c', 'new'], (one) => seen[one]),
    ['new', 'b', 'c', 'a'],
  )
})
