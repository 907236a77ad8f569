/**
 * Gives up what stands in the way of expiry because a person says so: a hold or a condemned set
 * whose writer is dead although that cannot be proved from here, or a record that is lost.
 *
 * Invariant: nothing is given up whose writer is proved to live. A writer that lives all the
 * same, on another machine, notices before its backup counts (src/backup/publish-held.ts).
 */
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import {
  listCondemnedSets,
  removeCondemnedSet,
  writeCondemnedSet,
} from '../repository/condemned-sets.ts'
import { judgeWriter, listHolds, readHolder, removeHold } from '../repository/holds.ts'
import { backupKey, condemnedKey, holdKey, isBackupId } from '../repository/keys.ts'
import { readPerhapsDamaged } from '../storage/read-damaged.ts'
import type { Storage } from '../storage/storage.ts'
import { addLostRecords } from './find-lost-records.ts'
import { readFacts } from './read-facts.ts'

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
  const set = sets.find((one) => one.id === id)
  requireDead(set)
  // Some of them may have lost their records already: those expired, and were not lost.
  if (set !== undefined && set.isLeft !== true && set.backups.length > 0) {
    const rest = { ...set, id: randomHex(8), ...readHolder(), isLeft: true, packs: [], keys: [] }
    await writeCondemnedSet(storage, cluster, { ...rest, repacked: [] })
  }
  await removeCondemnedSet(storage, cluster, id)
  return 'condemned-set' as const
}

/**
 * Its bytes stay beside it, as those of a record that was rebuilt. A set says that the backup has
 * expired, so that the copy of the record in its packs is not taken for that of a lost one.
 */
async function releaseRecord(storage: Storage, cluster: string, id: string) {
  if (!isBackupId(id) || !(await isLost(storage, cluster, id))) return undefined
  await writeCondemnedSet(storage, cluster, {
    id: randomHex(8),
    ...readHolder(),
    startedAt: now().toISOString(),
    isLeft: true,
    backups: [id],
    packs: [],
    keys: [],
  })
  const key = backupKey(cluster, id)
  const stored = await readPerhapsDamaged(storage, key)
  if (stored !== undefined) await storage.write(`${key}.damaged`, stored.bytes)
  await storage.remove(key)
  return 'record' as const
}

/** Unreadable, or gone while its packs are there. */
async function isLost(storage: Storage, cluster: string, id: string): Promise<boolean> {
  const facts = await addLostRecords(storage, await readFacts({ storage, cluster }))
  return facts.lostRecords.includes(id) || facts.damagedRecords.includes(id)
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
