/**
 * Archived WAL that no backup leads into: from it nothing can be recovered. Pure, and by
 * names alone.
 */
import type { SegmentRange } from '../archive/find-gaps.ts'
import type { WalListing } from '../archive/list-wal.ts'
import { pathOf, timelineStart } from '../postgres/history-file.ts'
import { formatSegmentName, type Lsn, segmentNumber, type Timeline } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { recordLsn } from './choose-timeline.ts'
import type { PlannedInterval } from './window.ts'

export interface WalWithoutBackup {
  readonly timeline: Timeline
  readonly first: string
  readonly last: string
  readonly segments: number
  /** Something newer of its timeline can be recovered, so that it is merely old. */
  readonly isBeforeBackup: boolean
}

/** By timeline, then in order. */
export function findWalWithoutBackup(
  intervals: readonly PlannedInterval[],
  archive: WalListing,
): WalWithoutBackup[] {
  const size = archive.walSegmentSizeBytes
  return archive.timelines.flatMap(({ timeline, ranges }) => {
    const led = intervals.flatMap((interval) => partOn(interval, timeline, size))
    const newest = led.reduce((most, { last }) => (last > most ? last : most), -1n)
    return ranges
      .flatMap((range) => subtract(range, led))
      .map(({ first, last }) => ({
        timeline,
        first: formatSegmentName(timeline, first, size),
        last: formatSegmentName(timeline, last, size),
        segments: Number(last - first + 1n),
        isBeforeBackup: last < newest || isFollowed(intervals, timeline, size, last),
      }))
  })
}

/** The segments that the interval takes of a timeline, its copy of the fork's one included. */
function partOn(interval: PlannedInterval, timeline: Timeline, size: number): SegmentRange[] {
  const timelines = pathOf(interval.path)
  const at = timelines.indexOf(timeline)
  if (at < 0) return []
  const begin = segmentNumber(timelineStart(interval.path, timeline) as Lsn, size)
  const next = timelines[at + 1]
  const end =
    next === undefined
      ? interval.lastSegment
      : segmentNumber(timelineStart(interval.path, next) as Lsn, size)
  const [backup] = interval.backups as readonly [BackupRecord]
  const redo = segmentNumber(recordLsn(backup.startLsn), size)
  const first = begin > redo ? begin : redo
  const last = end < interval.lastSegment ? end : interval.lastSegment
  return first <= last ? [{ first, last }] : []
}

/** Does an interval on a timeline that left this one begin behind it? */
function isFollowed(
  intervals: readonly PlannedInterval[],
  timeline: Timeline,
  size: number,
  last: bigint,
): boolean {
  return intervals.some(({ path, backups }) => {
    const timelines = pathOf(path)
    const next = timelines[timelines.indexOf(timeline) + 1]
    if (!timelines.includes(timeline) || next === undefined) return false
    const [backup] = backups as readonly [BackupRecord]
    const fork = segmentNumber(timelineStart(path, next) as Lsn, size)
    return last <= fork && last < segmentNumber(recordLsn(backup.startLsn), size)
  })
}

function subtract(range: SegmentRange, led: readonly SegmentRange[]): SegmentRange[] {
  let left = [range]
  for (const { first, last } of led) {
    left = left.flatMap((one) => {
      if (one.last < first || one.first > last) return [one]
      const before = one.first < first ? [{ first: one.first, last: first - 1n }] : []
      const behind = one.last > last ? [{ first: last + 1n, last: one.last }] : []
      return [...before, ...behind]
    })
  }
  return left
}
