import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findGaps, findRanges } from '../archive/find-gaps.ts'
import type { WalListing, WalTimeline } from '../archive/list-wal.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { formatLsn, type Lsn, lsn } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { endPoint, planWindow } from './window.ts'

const SEGMENT = 16 * 1024 * 1024

function timeline(number: number, segments: number[], history?: TimelineHistory): WalTimeline {
  const ranges = findRanges(segments.map(BigInt))
  return {
    timeline: number,
    history,
    historyFailure: undefined,
    ranges,
    gaps: findGaps(ranges),
    segments: segments.length,
    bytes: 0,
  }
}

function archiveOf(...timelines: WalTimeline[]): WalListing {
  const kept = { labels: [], partials: [], quarantine: [], tails: [], strangers: [], bytes: 0 }
  return { systemIdentifier: '1', walSegmentSizeBytes: SEGMENT, timelines, ...kept }
}

/** A backup that needs segments [from, to] of a timeline. */
function backup(id: string, from: number, to: number, onTimeline = 1): BackupRecord {
  return {
    id,
    timeline: onTimeline,
    startLsn: formatLsn(lsn(BigInt(from) * BigInt(SEGMENT) + 40n)),
    stopLsn: formatLsn(lsn(BigInt(to) * BigInt(SEGMENT) + 500n)),
    stoppedAt: `2026-11-20T10:00:${String(to).padStart(2, '0')}Z`,
    sizes: { walSegmentSizeBytes: SEGMENT },
  } as unknown as BackupRecord
}

test('one interval for all backups of contiguous WAL', () => {
  const archive = archiveOf(timeline(1, [1, 2, 3, 4, 5]))
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
  const archive = archiveOf(timeline(1, [1, 2, 3, 6, 7]))
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
  const archive = archiveOf(timeline(1, [1, 2, 4]))
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
  const followed = archiveOf(timeline(1, [1, 2]), timeline(2, [3, 4], history))
  const one = planWindow([backup('a', 1, 2)], followed)
  assert.deepEqual(
    one.intervals.map((interval) => [interval.timeline, interval.lastSegmentName]),
    [[2, '000000020000000000000004']],
  )
  const diverged = archiveOf(timeline(1, [1, 2, 3, 4, 5, 6]), timeline(2, [3, 4], history))
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
