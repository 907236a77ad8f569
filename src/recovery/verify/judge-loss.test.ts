import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatLsn, type Lsn } from '../../postgres/lsn.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import type { PlannedInterval } from '../window.ts'
import { judgeLostBackups, judgeLostSegment } from './judge-loss.ts'

const SEGMENT = 16 * 1024 * 1024

function lsnOf(segment: number, offset = 40): string {
  return formatLsn((BigInt(segment) * BigInt(SEGMENT) + BigInt(offset)) as Lsn)
}

/** A backup whose WAL is one segment, and that ended on that day. */
function backup(id: string, segment: number): BackupRecord {
  const stopLsn = lsnOf(segment, 5000)
  const stoppedAt = `2026-01-${String(segment).padStart(2, '0')}T00:00:00.000Z`
  const sizes = { walSegmentSizeBytes: SEGMENT }
  return { id, timeline: 1, startLsn: lsnOf(segment), stopLsn, stoppedAt, sizes } as BackupRecord
}

function interval(backups: BackupRecord[], last: number, missing = 0): PlannedInterval {
  const gap = missing === 0 ? undefined : { timeline: 1, first: '', last: '', segments: missing }
  const path = { timeline: 1, ancestors: [] }
  const end = { lastSegment: BigInt(last), lastSegmentName: '', tail: undefined }
  return { timeline: 1, path, backups, ...end, gap }
}

const [A, B, C] = [backup('a', 2), backup('b', 6), backup('c', 9)] as [
  BackupRecord,
  BackupRecord,
  BackupRecord,
]
const name = (segment: number): string =>
  `0000000100000000${segment.toString(16).toUpperCase().padStart(8, '0')}`

test('a lost backup costs nothing where an older one reaches', () => {
  const intervals = [interval([A, B, C], 12)]
  assert.deepEqual(judgeLostBackups(intervals, new Set(['b'])), [])
  assert.deepEqual(judgeLostBackups(intervals, new Set(['c', 'b'])), [])
})

test('the oldest of an interval costs the moments up to the next whole one', () => {
  const intervals = [interval([A, B, C], 12)]
  const toB = { from: A.stoppedAt, fromLsn: A.stopLsn, to: B.stoppedAt, toLsn: B.stopLsn }
  assert.deepEqual(judgeLostBackups(intervals, new Set(['a'])), [toB])
  const toC = { ...toB, to: C.stoppedAt, toLsn: C.stopLsn }
  assert.deepEqual(judgeLostBackups(intervals, new Set(['a', 'b'])), [toC])
  const all = { ...toB, to: undefined, toLsn: undefined }
  assert.deepEqual(judgeLostBackups(intervals, new Set(['a', 'b', 'c'])), [all])
})

test('behind a gap a backup is the first of its interval', () => {
  const intervals = [interval([A], 3, 1), interval([B, C], 12)]
  const [found, ...rest] = judgeLostBackups(intervals, new Set(['b']))
  assert.deepEqual(rest, [])
  assert.deepEqual([found?.from, found?.to], [B.stoppedAt, C.stoppedAt])
})

test('a segment between backups costs the moments up to the next backup', () => {
  const loss = judgeLostSegment([interval([A, B, C], 12)], [A, B, C], name(4), undefined)
  assert.deepEqual(loss.backups, [])
  assert.deepEqual(loss.interval, {
    from: A.stoppedAt,
    fromLsn: lsnOf(4, 0),
    to: B.stoppedAt,
    toLsn: B.stopLsn,
  })
  const known = '2026-01-03T12:00:00.5Z'
  const told = judgeLostSegment([interval([A, B, C], 12)], [A, B, C], name(4), known)
  assert.equal(told.interval?.from, known)
})

test('a segment of a backup takes the backup along; behind the last one no backup follows', () => {
  const intervals = [interval([A, B, C], 12)]
  const own = judgeLostSegment(intervals, [A, B, C], name(6), undefined)
  assert.deepEqual(own.backups, ['b'])
  assert.equal(own.interval?.to, C.stoppedAt)
  const end = judgeLostSegment(intervals, [A, B, C], name(12), undefined)
  assert.deepEqual([end.backups, end.interval?.from], [[], C.stoppedAt])
  assert.equal(end.interval?.to, undefined)
  const beyond = judgeLostSegment(intervals, [A, B, C], name(13), undefined)
  assert.equal(beyond.interval?.from, C.stoppedAt)
})

test('a segment that no promise needs costs nothing', () => {
  const loss = judgeLostSegment([interval([A], 3, 1)], [A], name(1), undefined)
  assert.deepEqual(loss, { backups: [], interval: undefined })
})
