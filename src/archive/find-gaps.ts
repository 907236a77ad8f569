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

/** That timeline first, then those that the path leaves in the segment: files begin alike. */
export function timelinesOfSegment(
  path: TimelineHistory,
  segment: bigint,
  walSegmentSizeBytes: number,
): Timeline[] {
  const newest = timelineOfSegment(path, segment, walSegmentSizeBytes)
  const timelines = pathOf(path)
  const found: Timeline[] = [newest]
  for (let index = timelines.indexOf(newest); index > 0; index--) {
    const start = timelineStart(path, timelines[index] as Timeline) as Lsn
    if (start <= segment * BigInt(walSegmentSizeBytes)) break
    found.push(timelines[index - 1] as Timeline)
  }
  return found
}

/** The range that holds a segment, and the first one behind it. Ranges ascend. */
export function findRange(
  ranges: readonly SegmentRange[],
  segment: bigint,
): { readonly holding: SegmentRange | undefined; readonly after: SegmentRange | undefined } {
  const at = ranges.findIndex(({ last }) => last >= segment)
  const range = ranges[at]
  if (range === undefined) return { holding: undefined, after: undefined }
  if (range.first > segment) return { holding: undefined, after: range }
  return { holding: range, after: ranges[at + 1] }
}

/** The segments of a path that are archived under the timeline that it takes there. */
export function rangesOnPath(
  path: TimelineHistory,
  walSegmentSizeBytes: number,
  rangesOf: (timeline: Timeline) => readonly SegmentRange[],
): SegmentRange[] {
  const timelines = pathOf(path)
  const begins = timelines.map((timeline) =>
    segmentNumber(timelineStart(path, timeline) as Lsn, walSegmentSizeBytes),
  )
  const ranges: SegmentRange[] = []
  timelines.forEach((timeline, number) => {
    const begin = begins[number] as bigint
    const end = begins[number + 1]
    for (const range of rangesOf(timeline)) {
      const first = range.first < begin ? begin : range.first
      const last = end !== undefined && range.last >= end ? end - 1n : range.last
      if (first <= last) appendRange(ranges, first, last)
    }
  })
  return ranges
}

/** `first` lies behind all that is there. */
function appendRange(ranges: SegmentRange[], first: bigint, last: bigint): void {
  const before = ranges.at(-1)
  if (before?.last === first - 1n) ranges[ranges.length - 1] = { first: before.first, last }
  else ranges.push({ first, last })
}

export interface MissingSegment {
  readonly timeline: Timeline
  readonly segment: bigint
}

/**
 * The segments from `first` to `last` along a path that are not archived under the
 * timeline that the path takes there. `archived`: rangesOnPath().
 */
export function findPathGaps(
  path: TimelineHistory,
  first: bigint,
  last: bigint,
  walSegmentSizeBytes: number,
  archived: readonly SegmentRange[],
): MissingSegment[] {
  const missing: MissingSegment[] = []
  const addUpTo = (from: bigint, to: bigint): void => {
    for (let segment = from; segment <= to; segment += 1n) {
      missing.push({ timeline: timelineOfSegment(path, segment, walSegmentSizeBytes), segment })
    }
  }
  let next = first
  for (const range of archived) {
    if (range.last < next) continue
    if (range.first > last) break
    addUpTo(next, range.first - 1n)
    next = range.last + 1n
  }
  addUpTo(next, last)
  return missing
}
