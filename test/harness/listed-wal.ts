/** Listings of WAL and records of backups as tests of `window` need them: segments by number. */
import type { BreakPlace } from '../../src/archive/break-mark.ts'
import { findGaps, findRanges } from '../../src/archive/find-gaps.ts'
import type { WalListing, WalTimeline } from '../../src/archive/list-wal.ts'
import type { TimelineHistory } from '../../src/postgres/history-file.ts'
import { formatLsn, type Lsn, lsn } from '../../src/postgres/lsn.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'

export const SEGMENT = 16 * 1024 * 1024

/** A place within a segment. */
export function placeIn(segment: number, offset: number): Lsn {
  return lsn(BigInt(segment) * BigInt(SEGMENT) + BigInt(offset))
}

export function timeline(
  number: number,
  segments: readonly number[],
  history?: TimelineHistory,
): WalTimeline {
  const ranges = findRanges(segments.map(BigInt))
  const counts = { gaps: findGaps(ranges), segments: segments.length, bytes: 0 }
  return { timeline: number, history, historyFailure: undefined, ranges, ...counts }
}

export function archiveOf(
  timelines: readonly WalTimeline[],
  breaks?: readonly BreakPlace[],
): WalListing {
  const kept = { labels: [], partials: [], quarantine: [], tails: [], strangers: [], bytes: 0 }
  const listing = { systemIdentifier: '1', walSegmentSizeBytes: SEGMENT, timelines, ...kept }
  return breaks === undefined ? listing : { ...listing, breaks }
}

/** Needs segments [from, to] of a timeline; begins at 40 and is consistent at 500 of them. */
export function backup(id: string, from: number, to: number, onTimeline = 1): BackupRecord {
  return {
    id,
    timeline: onTimeline,
    startLsn: formatLsn(placeIn(from, 40)),
    stopLsn: formatLsn(placeIn(to, 500)),
    stoppedAt: `2026-11-20T10:00:${String(to).padStart(2, '0')}Z`,
    sizes: { walSegmentSizeBytes: SEGMENT },
  } as unknown as BackupRecord
}
