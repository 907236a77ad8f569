import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { lsn } from '../postgres/lsn.ts'
import {
  countSegments,
  findGaps,
  findPathGaps,
  findRange,
  findRanges,
  rangesOnPath,
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

const rangesOf = (timeline: number) => {
  const archived = new Map([
    [1, [range(2n, 3n)]],
    [2, [range(4n, 4n)]],
    [3, [range(5n, 5n)]],
    [4, [range(6n, 6n)]],
  ])
  return archived.get(timeline) ?? []
}

const range = (first: bigint, last: bigint) => ({ first, last })

test('what another timeline holds fills no gap of the path', () => {
  const archived = rangesOnPath(path, MB, rangesOf)
  assert.deepEqual(archived, [range(2n, 2n), range(4n, 4n), range(6n, 6n)])
  assert.deepEqual(findPathGaps(path, 2n, 6n, MB, archived), [
    { timeline: 2, segment: 3n },
    { timeline: 4, segment: 5n },
  ])
})

test('the ranges of a path are what a look at every segment finds', () => {
  const numbers = fc.uniqueArray(fc.bigInt({ min: 0n, max: 12n }), { maxLength: 12 })
  const archives = fc.tuple(numbers, numbers, numbers, numbers)
  const segment = fc.bigInt({ min: 0n, max: 12n })
  fc.assert(
    fc.property(archives, segment, segment, (archive, one, other) => {
      const isThere = (at: bigint): boolean =>
        archive[timelineOfSegment(path, at, MB) - 1]?.includes(at) === true
      const archived = rangesOnPath(path, MB, (timeline) =>
        findRanges((archive[timeline - 1] ?? []).sort((a, b) => Number(a - b))),
      )
      for (let at = 0n; at <= 12n; at += 1n) {
        const { holding, after } = findRange(archived, at)
        assert.equal(holding !== undefined, isThere(at))
        let next = at
        while (isThere(next)) next += 1n
        assert.equal(holding === undefined ? at : holding.last + 1n, next)
        while (next <= 12n && !isThere(next)) next += 1n
        assert.equal(after?.first, next > 12n ? undefined : next)
      }
      const [first, last] = one < other ? [one, other] : [other, one]
      const missing = findPathGaps(path, first, last, MB, archived).map((gap) => gap.segment)
      const looked: bigint[] = []
      for (let at = first; at <= last; at += 1n) if (!isThere(at)) looked.push(at)
      assert.deepEqual(missing, looked)
    }),
  )
})
