/**
 * Which moments can no longer be recovered: by backups that are not whole, and by segments
 * that are missing or damaged. Pure.
 *
 * A backup costs no moment that an older backup of its interval reaches with the WAL.
 */
import { timelineOfSegment } from '../../archive/find-gaps.ts'
import { formatLsn, parseSegmentName, segmentNumber, segmentStart } from '../../postgres/lsn.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import { consistencyLsn, recordLsn } from '../choose-timeline.ts'
import type { PlannedInterval } from '../window.ts'
import type { LostInterval } from './findings.ts'

export function judgeLostBackups(
  intervals: readonly PlannedInterval[],
  lost: ReadonlySet<string>,
): LostInterval[] {
  const found: LostInterval[] = []
  for (const { backups } of intervals) {
    const [first] = backups
    if (first === undefined || !lost.has(first.id)) continue
    const healthy = backups.find(({ id }) => !lost.has(id))
    found.push({
      from: first.stoppedAt,
      fromLsn: formatLsn(consistencyLsn(first)),
      to: healthy?.stoppedAt,
      toLsn: healthy === undefined ? undefined : formatLsn(consistencyLsn(healthy)),
    })
  }
  return found
}

export interface SegmentLoss {
  /** Backups that never become consistent without it. */
  readonly backups: readonly string[]
  readonly interval: LostInterval | undefined
}

/** `lastTimeBefore`: the latest moment that is known to lie before the segment. */
export function judgeLostSegment(
  intervals: readonly PlannedInterval[],
  backups: readonly BackupRecord[],
  name: string,
  lastTimeBefore: string | undefined,
): SegmentLoss {
  const size = backups[0]?.sizes.walSegmentSizeBytes
  const lost = size === undefined ? undefined : parseSegmentName(name, size)
  if (size === undefined || lost === undefined) return { backups: [], interval: undefined }
  const startOf = (backup: BackupRecord): bigint => segmentNumber(recordLsn(backup.startLsn), size)
  // Without a gap an interval is open: a segment behind its last one would prolong it.
  const on = intervals.find(
    ({ path, backups: [first], lastSegment, gap }) =>
      first !== undefined &&
      startOf(first) <= lost.segment &&
      (gap === undefined || lost.segment <= lastSegment + BigInt(gap.segments)) &&
      timelineOfSegment(path, lost.segment, size) === lost.timeline,
  )
  const isOnPath = (backup: BackupRecord): boolean =>
    on === undefined
      ? backup.timeline === lost.timeline
      : on.path.timeline === backup.timeline ||
        on.path.ancestors.some(({ timeline }) => timeline === backup.timeline)
  const own = backups.filter(isOnPath)
  const inside = own.filter(
    (backup) =>
      startOf(backup) <= lost.segment &&
      lost.segment <= segmentNumber((consistencyLsn(backup) - 1n) as never, size),
  )
  if (on === undefined && inside.length === 0) return { backups: [], interval: undefined }
  const next = own.find((backup) => startOf(backup) > lost.segment)
  const before = own.findLast(
    (backup) => consistencyLsn(backup) <= segmentStart(lost.segment, size),
  )
  return {
    backups: inside.map(({ id }) => id),
    interval: {
      from: later(lastTimeBefore, before?.stoppedAt),
      fromLsn: formatLsn(segmentStart(lost.segment, size)),
      to: next?.stoppedAt,
      toLsn: next === undefined ? undefined : formatLsn(consistencyLsn(next)),
    },
  }
}

/** ISO 8601 UTC, of either precision. */
function later(one: string | undefined, other: string | undefined): string | undefined {
  if (one === undefined || other === undefined) return one ?? other
  return Date.parse(one) >= Date.parse(other) ? one : other
}
