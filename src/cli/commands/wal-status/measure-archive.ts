/** What was read of a repository against what was read of the server, for all who tell of it. */
import { now } from '../../../base/clock.ts'
import { parseLsn } from '../../../postgres/lsn.ts'
import type { MeasuredArchive } from './format-wal-status.ts'
import { measureLag, measureRate, type WalPoint } from './measure-wal.ts'
import type { ArchiveStatus } from './read-archive.ts'
import type { ReachedWalServer } from './read-wal-server.ts'

/** How far a repository is behind the server, and how fast WAL is written. */
export function measureArchive(
  archive: ArchiveStatus,
  reached: ReachedWalServer | undefined,
): MeasuredArchive {
  const { position, lastMoment, earlier } = archive
  const lsn = parseLsn(position?.lsn ?? '')
  const archived = lsn === undefined ? undefined : { lsn, atMs: archivedAt(archive, reached) }
  const server = serverPoint(reached)
  const atMs = server?.atMs ?? now().getTime()
  const lag = measureLag(archived, { lsn: server?.lsn, atMs })
  return { ...archive, lag, rate: measureRate([earlier, lastMoment, server]) }
}

/** What the archiver handed over last was complete then: nothing older is lacking. */
export function archivedAt(
  { position, lastMoment }: ArchiveStatus,
  reached: ReachedWalServer | undefined,
): number | undefined {
  const isLast = reached?.lastArchivedWal === position?.segment
  if (isLast && reached?.lastArchivedAt != null) return Date.parse(reached.lastArchivedAt)
  return lastMoment?.atMs
}

function serverPoint(reached: ReachedWalServer | undefined): WalPoint | undefined {
  const lsn = parseLsn(reached?.currentLsn ?? '')
  return reached === undefined || lsn === undefined
    ? undefined
    : { lsn, atMs: Date.parse(reached.at) }
}
