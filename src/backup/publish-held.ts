/**
 * Publishes a backup under its hold.
 *
 * Invariant: no backup stays in the repository whose hold was taken away before its record was
 * there: an expiry may have removed its packs. A hold goes only when its writer is dead, or
 * when a person said so of one that lives; then this backup ends and leaves no record.
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { compactPack } from '../repository/compact-pack.ts'
import { backupKey, holdKey } from '../repository/keys.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import type { PackSummary } from '../repository/pack-writer.ts'
import { publishBackup } from '../repository/write-backup.ts'
import type { Storage } from '../storage/storage.ts'

/**
 * Looks before, so that such a backup is not even listed; and after, since the hold may have
 * gone in between. An expiry that begins when the record is there sees it. Returns sentences for
 * the report.
 */
export async function publishHeld(
  storage: Storage,
  record: BackupRecord,
  raw: Uint8Array,
  written: readonly PackSummary[],
): Promise<string[]> {
  const { id, cluster } = record
  if (!(await isHeld(storage, cluster, id))) throw holdTaken(cluster, id)
  await publishBackup(storage, record, raw, written)
  try {
    if (await isHeld(storage, cluster, id)) return []
  } catch (error) {
    if (!isFailure(error)) throw error
    return [`whether the hold of this backup was still there could not be seen: ${error.message}`]
  }
  await storage.remove(backupKey(cluster, id))
  throw holdTaken(cluster, id)
}

/**
 * Where the backup is not published, the copy of its record must not stay: it would be taken for
 * that of a record that was lost, and rebuilt although packs are missing. sync brings it.
 */
export async function dropRecordCopy(
  storage: Storage,
  { cluster, packs }: BackupRecord,
): Promise<void> {
  const own = packs.find(({ bytes }) => bytes === undefined)
  if (own === undefined) return
  await compactPack(storage, cluster, own.id, (_, kind) => kind !== FRAME_KINDS.record)
}

async function isHeld(storage: Storage, cluster: string, id: string): Promise<boolean> {
  return (await storage.size(holdKey(cluster, id))) !== undefined
}

function holdTaken(cluster: string, id: string): Failure {
  return new Failure('TM1901', {
    message: `the hold of backup ${id} was taken away while it ran`,
    because: 'somebody declared this run dead (tidemark expire --release), and it was not',
    fix: `nothing of this backup is kept; run it again: tidemark backup ${cluster}`,
  })
}
