import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lsn } from '../postgres/lsn.ts'
import { WalNeeds } from './wal-needs.ts'

const SEGMENT = 1024 * 1024

test('a path needs the segment of each fork under both timelines, and nothing behind it', () => {
  const needs = new WalNeeds()
  const endLsn = BigInt(10 * SEGMENT + 5000) as Lsn
  needs.addPath({ timeline: 2, ancestors: [{ timeline: 1, endLsn, reason: '' }] }, 4, SEGMENT)
  const needed = (timeline: number): number[] =>
    [3, 4, 9, 10, 11, 1000].filter((segment) => needs.has(timeline, segment))
  assert.deepEqual(needed(1), [4, 9, 10])
  assert.deepEqual(needed(2), [4, 9, 10, 11, 1000])
  assert.deepEqual(needed(3), [])
})

test('ranges that touch become one, others stay apart', () => {
  const needs = new WalNeeds()
  for (const [first, last] of [
    [5, 6],
    [1, 2],
    [7, 9],
    [3, 3],
  ] as const)
    needs.add(1, first, last)
  const needed = [0, 1, 2, 3, 4, 5, 9, 10].filter((segment) => needs.has(1, segment))
  assert.deepEqual(needed, [1, 2, 3, 5, 9])
  needs.addEverythingFrom(20)
  assert.ok(needs.has(7, 20) && !needs.has(7, 19) && needs.hasAnywhere(9))
})
