/**
 * Publishes a backup: the record becomes visible only after everything that it names was
 * seen (docs/design/repository-format.md, section 7, steps 5 and 6).
 */
import { Failure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupRecord } from './backup-record.ts'
import { encodeEnvelope, missingObject } from './envelope.ts'
import { findWholePacks } from './judge-pack-size.ts'
import { backupKey, packKey, packPrefix, parsePackKey } from './keys.ts'
import type { PackSummary } from './pack-writer.ts'

export function encodeBackupRecord(record: BackupRecord): Uint8Array {
  return Buffer.from(JSON.stringify(record))
}

/** Sizes of all packs of a cluster by pack id, from one listing. */
export async function listPacks(storage: Storage, cluster: string): Promise<Map<string, number>> {
  const sizes = new Map<string, number>()
  for await (const { key, sizeBytes } of storage.list(packPrefix(cluster))) {
    const id = parsePackKey(key)
    if (id !== undefined) sizes.set(id, sizeBytes)
  }
  return sizes
}

/**
 * Creates the record. `written` are the packs of this run, whose sizes must be exactly
 * what was written; older ones must exist, and may have another size, if their index holds.
 * `raw` are the record's bytes, as they stand in the last frame of the attempt's last pack.
 */
export async function publishBackup(
  storage: Storage,
  record: BackupRecord,
  raw: Uint8Array,
  written: readonly PackSummary[],
): Promise<void> {
  const seen = await listPacks(storage, record.cluster)
  for (const { id } of record.packs) {
    if (!seen.has(id)) throw missingObject(packKey(record.cluster, id), `backup ${record.id}`)
  }
  const own = new Set(written.map(({ id }) => id))
  const differ = [...record.packs, ...written].filter(
    ({ id, bytes }) => bytes !== undefined && seen.get(id) !== bytes,
  )
  const older = differ.map(({ id }) => id).filter((id) => !own.has(id))
  const whole = await findWholePacks(storage, record.cluster, older)
  for (const { id, bytes } of differ) {
    if (whole.has(id)) continue
    throw new Failure('TM1601', {
      message: `the pack ${packKey(record.cluster, id)} has not the size that was written`,
      because: `${bytes} bytes were written, ${seen.get(id) ?? 0} are there`,
      fix: 'check the storage of the repository, then run the backup again',
    })
  }
  const key = backupKey(record.cluster, record.id)
  await storage.write(key, encodeEnvelope('RECD', raw), { createOnly: true })
}
