/**
 * Contiguous ranges of segments and the gaps between them. Pure.
 */
import { pathOf, type TimelineHistory, timelineStart } from '../postgres/history-file.ts'
import { type Lsn, segmentNumber, type Timeline } from '../postgres/lsn.ts'

/** Segment numbers, both ends included. */
export interface SegmentRange {
  readonly first: bigint
  readonly last: bigint
}

/** Contiguous ranges of ascending, distinct segment numbers. */
export function findRanges(segments: readonly bigint[]): SegmentRange[] {
  const ranges: SegmentRange[] = []
  for (const segment of segments) {
    const before = ranges.at(-1)
    if (before?.last === segment - 1n) {
      ranges[ranges.length - 1] = { first: before.first, last: segment }
    } else {
      ranges.push({ first: segment, last: segment })
    }
  }
  return ranges
}

/** What lies between the ranges. */
export function findGaps(ranges: readonly SegmentRange[]): SegmentRange[] {
  return ranges.slice(1).map((range, index) => ({
    first: (ranges[index] as SegmentRange).last + 1n,
    last: range.first - 1n,
  }))
}

export function countSegments(range: SegmentRange): number {
  return Number(range.last - range.first + 1n)
}

/**
 * The timeline whose file holds segment `segment` on a path: the newest that begins at or
 * before the end of the segment, since the first segment of a timeline repeats what its
 * parent wrote before the fork (XLogFileReadAnyTLI, XLogInitNewTimeline).
 */
export function timelineOfSegment(
  path: TimelineHistory,
  segment: bigint,
  walSegmentSizeBytes: number,
): Timeline {
  const begins = (timeline: Timeline): bigint =>
    segmentNumber(timelineStart(path, timeline) as Lsn, walSegmentSizeBytes)
  return pathOf(path).findLast((timeline) => begins(timeline) <= segment) as Timeline
}

export interface MissingSegment {
  readonly timeline: Timeline
  readonly segment: bigint
}

/**
 * The segments from `first` to `last` along a path that are not archived under the
 * timeline that the path takes there.
 */
export function findPathGaps(
  path: TimelineHistory,
  first: bigint,
  last: bigint,
  walSegmentSizeBytes: number,
  isArchived: (timeline: Timeline, segment: bigint) => boolean,
): MissingSegment[] {
  const missing: MissingSegment[] = []
  for (let segment = first; segment <= last; segment += 1n) {
    const timeline = timelineOfSegment(path, segment, walSegmentSizeBytes)
    if (!isArchived(timeline, segment)) missing.push({ timeline, segment })
  }
  return missing
}
