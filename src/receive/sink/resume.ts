/**
 * Where a new opening goes on: the first segment that the archive lacks on the server's path.
 * Pure but for what it is given.
 */
import { findRange } from '../../archive/find-gaps.ts'
import { holdsWal, rangesAlong, type WalListing } from '../../archive/list-wal.ts'
import { timelineOfSegment } from '../../archive/find-gaps.ts'
import { NO_ANCESTORS, pathOf, type TimelineHistory } from '../../postgres/history-file.ts'
import { formatSegmentName, type Lsn, parseSegmentName, segmentNumber } from '../../postgres/lsn.ts'

/** The path of the newest timeline that has WAL; undefined: nothing is there. */
export function newestPath(listing: WalListing): TimelineHistory | undefined {
  const newest = listing.timelines.findLast((one) => holdsWal(listing, one))
  if (newest === undefined) return undefined
  return newest.history ?? { timeline: newest.timeline, ancestors: NO_ANCESTORS }
}

/** Undefined: this repository has nothing on the path. */
export function findWantedSegment(
  listing: WalListing,
  path: TimelineHistory,
  availableFrom: Lsn | undefined,
): bigint | undefined {
  const size = listing.walSegmentSizeBytes
  const ranges = rangesAlong(listing, path)
  const last = ranges.at(-1)
  const first = ranges[0]
  if (first === undefined || last === undefined) return newestTail(listing, path)
  const ahead = newestTail(listing, path) ?? last.last + 1n
  const end = ahead > last.last + 1n ? ahead : last.last + 1n
  if (availableFrom === undefined) return end
  const available = segmentNumber(availableFrom, size)
  if (available >= end) return end
  const from = available < first.first ? first.first : available
  const { holding } = findRange(ranges, from)
  const wanted = holding === undefined ? from : holding.last + 1n
  return wanted < end ? wanted : end
}

/** The segment of the furthest tail on the path. */
function newestTail(listing: WalListing, path: TimelineHistory): bigint | undefined {
  const size = listing.walSegmentSizeBytes
  const timelines = new Set(pathOf(path))
  const segments = listing.tails.flatMap(({ segment }) => {
    const named = parseSegmentName(segment, size)
    if (named === undefined || !timelines.has(named.timeline)) return []
    return timelineOfSegment(path, named.segment, size) === named.timeline ? [named.segment] : []
  })
  return segments.reduce<bigint | undefined>((most, one) => {
    return most === undefined || one > most ? one : most
  }, undefined)
}

export function nameOnPath(path: TimelineHistory, segment: bigint, sizeBytes: number): string {
  return formatSegmentName(timelineOfSegment(path, segment, sizeBytes), segment, sizeBytes)
}
