/**
 * Publishes a backup under its hold.
 *
 * Invariant: no backup stays in the repository whose hold was taken away before its record was
 * there: an expiry may have removed its packs. A hold goes only when its writer is dead, or
 * when a person said so of one that lives; then this backup ends and leaves no record.
 */
import { Failure } from '../base/failure.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { backupKey, holdKey } from '../repository/keys.ts'
import type { PackSummary } from '../repository/pack-writer.ts'
import { publishUnderHold } from '../repository/publish-under-hold.ts'
import { publishBackup } from '../repository/write-backup.ts'
import type { Storage } from '../storage/storage.ts'

/** Returns sentences for the report. */
export async function publishHeld(
  storage: Storage,
  record: BackupRecord,
  raw: Uint8Array,
  written: readonly PackSummary[],
): Promise<string[]> {
  const { id, cluster } = record
  return await publishUnderHold(storage, {
    what: 'backup',
    hold: holdKey(cluster, id),
    record: backupKey(cluster, id),
    create: async () => await publishBackup(storage, record, raw, written),
    refuse: () => holdTaken(cluster, id),
  })
}

function holdTaken(cluster: string, id: string): Failure {
  return new Failure('TM1901', {
    message: `the hold of backup ${id} was taken away while it ran`,
    because: 'somebody declared this run dead (tidemark expire --release), and it was not',
    fix: `nothing of this backup is kept; run it again: tidemark backup ${cluster}`,
  })
}
