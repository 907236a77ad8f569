/**
 * Where the WAL of a path says that no recovery goes on, as the listing tells it. Pure.
 */
import type { BreakPlace } from '../archive/break-mark.ts'
import type { WalListing } from '../archive/list-wal.ts'
import { pathOf, timelineEnd, type TimelineHistory } from '../postgres/history-file.ts'
import { type Lsn, segmentNumber } from '../postgres/lsn.ts'

/**
 * Ascending. What a timeline's own copy of the fork's segment says of before the fork is of the
 * path, too; what it wrote behind the place where the path leaves it is not.
 */
export function breaksAlong(archive: WalListing, path: TimelineHistory): BreakPlace[] {
  const timelines = pathOf(path)
  return (archive.breaks ?? [])
    .filter(({ timeline, lsn }) => {
      const end = timelineEnd(path, timeline)
      return timelines.includes(timeline) && (end === undefined || lsn < end)
    })
    .sort((a, b) => (a.lsn < b.lsn ? -1 : 1))
}

/** The first that a recovery from `start` cannot pass. */
export function firstBreak(breaks: readonly BreakPlace[], start: Lsn): BreakPlace | undefined {
  return breaks.find(({ kind, lsn }) => kind !== 'fpw-off' && lsn >= start)
}

/** The last segment that holds something of before the break. */
export function lastBefore({ kind, lsn }: BreakPlace, walSegmentSizeBytes: number): bigint {
  const segment = segmentNumber(lsn, walSegmentSizeBytes)
  return kind === 'reset' ? segment - 1n : segment
}
