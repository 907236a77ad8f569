import assert from 'node:assert/strict'
import { test } from 'node:test'
import { archiveOf, backup, SEGMENT, timeline } from '../../test/harness/listed-wal.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { formatLsn, type Lsn, lsn } from '../postgres/lsn.ts'
import { endPoint, planWindow } from './window.ts'

test('one interval for all backups of contiguous WAL', () => {
  const archive = archiveOf([timeline(1, [1, 2, 3, 4, 5])])
  const { intervals, unusable } = planWindow([backup('a', 1, 2), backup('b', 4, 4)], archive)
  assert.deepEqual(unusable, [])
  assert.equal(intervals.length, 1)
  assert.deepEqual(
    intervals[0]?.backups.map(({ id }) => id),
    ['a', 'b'],
  )
  assert.equal(intervals[0]?.lastSegmentName, '000000010000000000000005')
  assert.equal(intervals[0]?.gap, undefined)
})

test('a gap ends an interval and is named; the next backup begins another', () => {
  const archive = archiveOf([timeline(1, [1, 2, 3, 6, 7])])
  const { intervals } = planWindow([backup('a', 1, 2), backup('b', 6, 6)], archive)
  assert.equal(intervals.length, 2)
  assert.deepEqual(intervals[0]?.gap, {
    timeline: 1,
    first: '000000010000000000000004',
    last: '000000010000000000000005',
    segments: 2,
  })
  assert.equal(intervals[1]?.gap, undefined)
})

test('a backup that lacks WAL of its own is unusable', () => {
  const archive = archiveOf([timeline(1, [1, 2, 4])])
  const { intervals, unusable } = planWindow([backup('a', 2, 4)], archive)
  assert.deepEqual(intervals, [])
  assert.deepEqual(
    unusable.map(({ backup: { id }, missing }) => [id, missing]),
    [['a', '000000010000000000000003']],
  )
})

test('after a promotion the path goes on; what the old timeline wrote alone is shown too', () => {
  const history: TimelineHistory = {
    timeline: 2,
    ancestors: [{ timeline: 1, endLsn: lsn(BigInt(3 * SEGMENT) + 100n), reason: '' }],
  }
  const followed = archiveOf([timeline(1, [1, 2]), timeline(2, [3, 4], history)])
  const one = planWindow([backup('a', 1, 2)], followed)
  assert.deepEqual(
    one.intervals.map((interval) => [interval.timeline, interval.lastSegmentName]),
    [[2, '000000020000000000000004']],
  )
  const diverged = archiveOf([timeline(1, [1, 2, 3, 4, 5, 6]), timeline(2, [3, 4], history)])
  const two = planWindow([backup('a', 1, 2)], diverged)
  assert.deepEqual(
    two.intervals.map((interval) => [interval.timeline, interval.lastSegmentName]),
    [
      [2, '000000020000000000000004'],
      [1, '000000010000000000000006'],
    ],
  )
})

test('an interval never ends before it begins', () => {
  const backups = [backup('a', 1, 2), backup('b', 3, 4)]
  const at = (segment: number): Lsn => lsn(BigInt(segment) * BigInt(SEGMENT) + 600n)
  const early = 1n
  // The last records carry no time, or one from before the newest backup's end.
  for (const time of [undefined, early]) {
    const point = endPoint(backups, { lsn: at(4), time })
    assert.deepEqual(point, { lsn: formatLsn(at(4)), time: '2026-11-20T10:00:04Z' })
  }
  // Damage between the backups: the second is not reached.
  const damaged = endPoint(backups, { lsn: at(3), time: early, damage: {} })
  assert.deepEqual(damaged, { lsn: formatLsn(at(3)), time: '2026-11-20T10:00:02Z' })
  // Damage before the first is whole leaves a point.
  const point = endPoint(backups, { lsn: at(1), time: early, damage: {} })
  assert.deepEqual(point, { lsn: backups[0]?.stopLsn, time: backups[0]?.stoppedAt })
})
