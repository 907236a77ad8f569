import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { lsn } from '../postgres/lsn.ts'
import {
  countSegments,
  findGaps,
  findPathGaps,
  findRanges,
  timelineOfSegment,
} from './find-gaps.ts'

const MB = 1024 * 1024

test('ranges and gaps cover everything between the first and the last once', () => {
  const sets = fc.uniqueArray(fc.bigInt({ min: 0n, max: 200n }), { minLength: 1 })
  fc.assert(
    fc.property(sets, (set) => {
      const ascending = [...set].sort((a, b) => Number(a - b))
      const ranges = findRanges(ascending)
      const gaps = findGaps(ranges)
      const sum = (list: typeof ranges): number =>
        list.reduce((total, range) => total + countSegments(range), 0)
      assert.equal(sum(ranges), ascending.length)
      const span = Number((ascending.at(-1) as bigint) - (ascending[0] as bigint)) + 1
      assert.equal(sum(ranges) + sum(gaps), span)
      assert.ok(gaps.every(({ first, last }) => first <= last && !set.includes(first)))
    }),
  )
})

test('nothing has no ranges', () => {
  assert.deepEqual(findRanges([]), [])
  assert.deepEqual(findGaps([]), [])
})

const path: TimelineHistory = {
  timeline: 4,
  ancestors: [
    { timeline: 1, endLsn: lsn(BigInt(3 * MB + 100)), reason: '' },
    { timeline: 2, endLsn: lsn(BigInt(5 * MB)), reason: '' },
    { timeline: 3, endLsn: lsn(BigInt(5 * MB + 500)), reason: '' },
  ],
}

test('the segment of a fork belongs to the new timeline, also at its first byte', () => {
  const owners = [2n, 3n, 4n, 5n, 6n].map((segment) => timelineOfSegment(path, segment, MB))
  assert.deepEqual(owners, [1, 2, 2, 4, 4])
})

test('what another timeline holds fills no gap of the path', () => {
  const archived = new Set(['1-2', '1-3', '2-4', '3-5', '4-6'])
  const gaps = findPathGaps(path, 2n, 6n, MB, (timeline, segment) =>
    archived.has(`${timeline}-${segment}`),
  )
  assert.deepEqual(gaps, [
    { timeline: 2, segment: 3n },
    { timeline: 4, segment: 5n },
  ])
})
