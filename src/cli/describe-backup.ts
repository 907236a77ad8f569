/** A backup record as the fields of --json that are promised to stay. Pure. */
import type { BackupRecord } from '../repository/backup-record.ts'

export function backupJson(backup: BackupRecord): Record<string, unknown> {
  const { server, statistics, files } = backup
  return {
    id: backup.id,
    cluster: backup.cluster,
    systemIdentifier: backup.systemIdentifier,
    source: backup.source,
    tidemarkVersion: backup.tidemarkVersion,
    serverVersion: server.version,
    major: server.major,
    takenFromStandby: server.isStandby,
    startedAt: backup.startedAt,
    stoppedAt: backup.stoppedAt,
    durationMs: statistics.durationMs,
    timeline: backup.timeline,
    startLsn: backup.startLsn,
    stopLsn: backup.stopLsn,
    walFirst: backup.walFirst,
    walLast: backup.walLast,
    sizeBytes: files.bytes,
    readBytes: statistics.bytesRead,
    storedBytes: statistics.bytesStored,
    files: files.entries,
    filesRead: statistics.filesRead,
    filesUnchanged: statistics.filesUnchangedByStatus,
    pagesStored: statistics.pagesStored,
    packs: backup.packs.length,
    comparedWith: backup.comparedWith ?? null,
    lastFullReadAt: backup.lastFullReadAt,
    dataChecksums: backup.dataChecksumVersion !== 0,
    contentHash: files.contentHash,
    labels: backup.labels,
    pinned: backup.pinned,
    damagedPages: backup.damage.reduce((sum, { blocks }) => sum + blocks.length, 0),
  }
}
