/** The check of gap records: WAL that was lost, and no backup has been taken since. */
import type { GapPlace } from '../../../archive/gap-record.ts'
import { hasSegment } from '../../../archive/list-wal.ts'
import { formatLsn, parseLsn, previousSegmentNumber, segmentNumber } from '../../../postgres/lsn.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import { formatCount } from '../../format-units.ts'
import type { ServerProtection } from '../../protection.ts'
import { type Check, found, ok } from './check.ts'

/**
 * Gap records of the receiver: each counts until a backup has begun behind it, or its segments
 * have come after all. Pure.
 */
export function checkRecordedGaps(
  server: ServerProtection | undefined,
  backups: readonly BackupRecord[],
): Check {
  const name = 'lost WAL'
  const open = (server?.archive.recordedGaps ?? []).filter((gap) => {
    const isBehind = ({ systemIdentifier, startLsn }: BackupRecord): boolean =>
      systemIdentifier === server?.systemIdentifier && (parseLsn(startLsn) ?? 0n) >= gap.to
    return !backups.some(isBehind) && !isFilled(server as ServerProtection, gap)
  })
  const last = open.at(-1)
  if (last === undefined) return ok('TM1425', name, 'none is recorded')
  const place = `${formatLsn(last.from)} to ${formatLsn(last.to)} of timeline ${last.timeline}`
  const more = open.length > 1 ? `, and ${formatCount(open.length - 1, 'gap')} before` : ''
  const detail = `WAL is missing for ever from ${place}${more}`
  return found('problem', 'TM1425', name, detail, 'take a backup now: tidemark backup')
}

/** Pushed after all, under the timeline of the gap or an older one. */
function isFilled(
  { archive, walSegmentSizeBytes: size }: ServerProtection,
  gap: GapPlace,
): boolean {
  const last = previousSegmentNumber(gap.to, size)
  for (let segment = segmentNumber(gap.from, size); segment <= last; segment++) {
    const isThere = archive.timelines.some(
      ({ timeline }) => timeline <= gap.timeline && hasSegment(archive, timeline, segment),
    )
    if (!isThere) return false
  }
  return true
}
