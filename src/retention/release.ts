/**
 * Gives up what stands in the way of expiry because a person says so: a hold or a condemned set
 * whose writer is dead although that cannot be proved from here, or a record that is lost.
 *
 * Invariant: nothing is given up whose writer is proved to live. A writer that lives all the
 * same, on another machine, notices before its backup counts (src/backup/publish-held.ts).
 */
import { Failure, isFailure } from '../base/failure.ts'
import { listCondemnedSets, removeCondemnedSet } from '../repository/condemned-sets.ts'
import { judgeWriter, listHolds, removeHold } from '../repository/holds.ts'
import { backupKey, condemnedKey, holdKey, isBackupId } from '../repository/keys.ts'
import { readBackup } from '../repository/read-backups.ts'
import type { Storage } from '../storage/storage.ts'

export interface Released {
  readonly kind: 'hold' | 'condemned-set' | 'record'
  readonly id: string
}

/** TM1903: nothing of that name is in the way. TM1906: its writer lives. */
export async function release(storage: Storage, cluster: string, id: string): Promise<Released> {
  const done =
    (await releaseHold(storage, cluster, id)) ??
    (await releaseSet(storage, cluster, id)) ??
    (await releaseRecord(storage, cluster, id))
  if (done !== undefined) return { kind: done, id }
  throw new Failure('TM1903', {
    message: `there is no hold, condemned set or unreadable record ${id} of ${cluster}`,
    because: `${storage.url} holds none; a record that can be read is not given up`,
    fix: `tidemark expire ${cluster} shows what is in the way`,
    details: { id },
  })
}

async function releaseHold(storage: Storage, cluster: string, id: string) {
  if (!isBackupId(id) || (await storage.size(holdKey(cluster, id))) === undefined) return undefined
  const { holds } = await listHolds(storage, cluster)
  requireDead(holds.find((hold) => hold.id === id))
  await removeHold(storage, cluster, id)
  return 'hold' as const
}

async function releaseSet(storage: Storage, cluster: string, id: string) {
  const isId = /^[0-9a-f]{16}$/.test(id)
  if (!isId || (await storage.size(condemnedKey(cluster, id))) === undefined) return undefined
  const { sets } = await listCondemnedSets(storage, cluster)
  requireDead(sets.find((set) => set.id === id))
  await removeCondemnedSet(storage, cluster, id)
  return 'condemned-set' as const
}

/** Its bytes stay beside it, as those of a record that was rebuilt. */
async function releaseRecord(storage: Storage, cluster: string, id: string) {
  try {
    await readBackup(storage, cluster, id)
    return undefined
  } catch (error) {
    if (isFailure(error, 'TM1505')) return undefined
    if (!isFailure(error, 'TM1601')) throw error
  }
  const key = backupKey(cluster, id)
  const bytes = await storage.read(key)
  if (bytes !== undefined) await storage.write(`${key}.damaged`, bytes)
  await storage.remove(key)
  return 'record' as const
}

function requireDead(owner: { readonly id: string; readonly writer: string } | undefined): void {
  if (owner === undefined || judgeWriter(owner) !== 'alive') return
  throw new Failure('TM1906', {
    message: `${owner.id} belongs to a process that lives`,
    because: `it runs on this machine now (${owner.writer.split('.').at(-2)})`,
    fix: 'wait until it has ended, or end it',
    details: { id: owner.id },
  })
}
