/**
 * The hold of a restore: no expiry takes its backup away, nor the WAL from its start on, while it
 * runs and while the server that it starts recovers.
 *
 * Invariant: that nothing is held is said, and keeps no restore from being tried: whoever
 * restores may have nothing but read access, or a repository that is full.
 */
import { now } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { readHolder, removeHold, takeHold } from '../repository/holds.ts'
import { backupKey, makeBackupId } from '../repository/keys.ts'
import { openStorage, type StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'

export interface RestoreHold {
  /** Sentences for the person. */
  readonly notes: readonly string[]
  /** Never fails: a hold that stays is shown by `expire`, and the next run removes it. */
  release(): Promise<void>
}

/** TM1602: the backup has expired since it was chosen. */
export async function holdForRestore(storage: Storage, record: BackupRecord): Promise<RestoreHold> {
  const { cluster, systemIdentifier, walFirst } = record
  const at = now()
  const hold = {
    id: makeBackupId(at),
    purpose: 'restore' as const,
    ...readHolder(),
    startedAt: at.toISOString(),
    needs: [record.id],
    wal: { systemIdentifier, first: walFirst },
  }
  const release = async (): Promise<void> => {
    await removeHold(storage, cluster, hold.id).catch(ignoreFailure)
  }
  try {
    const { lost } = await takeHold(storage, cluster, hold)
    if (lost.length === 0) return { notes: [], release }
  } catch (error) {
    if (!isFailure(error)) throw error
    return { notes: [notHeld(error)], release: async () => undefined }
  }
  if ((await storage.size(backupKey(cluster, record.id))) !== undefined) {
    return { notes: [beingRemoved(record)], release }
  }
  await release()
  throw new Failure('TM1602', {
    message: `the backup ${record.id} has expired since it was chosen`,
    because: 'its record is not there any more',
    fix: 'run the restore again: it chooses among the backups that are there',
  })
}

/**
 * In every repository that lists the backup: any of them may be asked for any part of it. One
 * in which it has expired is no source of it, unless none is left.
 */
export async function holdInSources(
  { fallbacks = [], ...nearest }: StorageSpecification,
  record: BackupRecord,
): Promise<RestoreHold> {
  const held: { readonly hold: RestoreHold; readonly storage: Storage }[] = []
  const release = async (): Promise<void> => {
    for (const { hold, storage } of held) {
      await hold.release()
      await storage.close()
    }
  }
  let expired: unknown
  for (const specification of [nearest, ...fallbacks]) {
    const storage = await openStorage(specification)
    try {
      held.push({ hold: await holdForRestore(storage, record), storage })
    } catch (error) {
      await storage.close()
      if (!isFailure(error, 'TM1602')) {
        await release()
        throw error
      }
      expired ??= error
    }
  }
  if (held.length === 0) throw expired
  return { notes: held.flatMap(({ hold }) => hold.notes), release }
}

function ignoreFailure(error: unknown): void {
  if (!isFailure(error)) throw error
}

function notHeld(error: Failure): string {
  return (
    'this restore holds nothing in the repository, so that an expiry that runs meanwhile could ' +
    `remove what it needs (the restore would fail then, and say so): ${error.message}`
  )
}

function beingRemoved({ id }: BackupRecord): string {
  return `an expiry is removing backup ${id}, or was stopped while it did: this restore may fail`
}
