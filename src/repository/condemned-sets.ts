/**
 * Condemned sets: what an expiry under way is about to remove, by name, written before it
 * takes its second look (docs/design/retention.md).
 *
 * Invariant: whoever writes a hold and lists condemned sets afterwards either finds the set of
 * an expiry, or the second look of that expiry finds the hold. A set that cannot be read
 * condemns everything.
 */
import { isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import { damagedObject } from './envelope.ts'
import { backupKey, condemnedKey, condemnedPrefix, packKey, parseCondemnedKey } from './keys.ts'
import { decodeSmallObject, encodeSmallObject } from './small-object.ts'

export interface CondemnedSet {
  /** 16 hex digits. */
  readonly id: string
  /** For people. */
  readonly host: string
  /** formatProcessIdentity() of the expiry. */
  readonly writer: string
  readonly startedAt: string
  /** Its writer has ended and left this to the next one: backups whose records are gone. */
  readonly isLeft?: boolean
  readonly backups: readonly string[]
  /** Pack ids. */
  readonly packs: readonly string[]
  /** Keys of everything else: WAL, pins. */
  readonly keys: readonly string[]
  /**
   * Ids of packs that stay and lose their dead frames (docs/design/repacking.md): nobody may put
   * frames into them. Backups go on to refer to what their base refers to.
   */
  readonly repacked?: readonly string[]
}

export interface CondemnedSets {
  readonly sets: readonly CondemnedSet[]
  /** Keys of sets that cannot be read. */
  readonly unreadable: readonly string[]
}

/** What a writer that has its hold counts as not there. */
export interface Condemned {
  /** Keys of sets that cannot be read: as long as they are there, everything is condemned. */
  readonly unreadable: readonly string[]
  hasBackup(backupId: string): boolean
  hasPack(packId: string): boolean
  /** Any object, packs and records included, also packs that are about to lose frames. */
  hasKey(key: string): boolean
}

export async function writeCondemnedSet(
  storage: Storage,
  cluster: string,
  set: CondemnedSet,
): Promise<void> {
  const key = condemnedKey(cluster, set.id)
  await storage.write(key, encodeSmallObject('COND', set), { createOnly: true })
}

export async function removeCondemnedSet(
  storage: Storage,
  cluster: string,
  id: string,
): Promise<void> {
  await storage.remove(condemnedKey(cluster, id))
}

export async function listCondemnedSets(storage: Storage, cluster: string): Promise<CondemnedSets> {
  const sets: CondemnedSet[] = []
  const unreadable: string[] = []
  for await (const { key } of storage.list(condemnedPrefix(cluster))) {
    try {
      const bytes = await storage.read(key)
      if (bytes !== undefined) sets.push(parseSet(key, bytes))
    } catch (error) {
      if (!isFailure(error, 'TM1601')) throw error
      unreadable.push(key)
    }
  }
  return { sets, unreadable }
}

function parseSet(key: string, bytes: Uint8Array): CondemnedSet {
  const set = decodeSmallObject(key, 'COND', bytes) as unknown as CondemnedSet
  if (parseCondemnedKey(key) !== set.id) throw damagedObject(key, 'it is another set')
  return set
}

/** Only for a writer that has written its hold: before, the answer means nothing. */
export async function readCondemned(storage: Storage, cluster: string): Promise<Condemned> {
  return joinSets(cluster, await listCondemnedSets(storage, cluster))
}

export const NOTHING_CONDEMNED: Condemned = {
  unreadable: [],
  hasBackup: () => false,
  hasPack: () => false,
  hasKey: () => false,
}

/** Pure. */
export function joinSets(cluster: string, { sets, unreadable }: CondemnedSets): Condemned {
  if (sets.length === 0 && unreadable.length === 0) return NOTHING_CONDEMNED
  const isEverything = unreadable.length > 0
  const backups = new Set(sets.flatMap((set) => set.backups))
  const packs = new Set(sets.flatMap((set) => set.packs))
  const keys = new Set(sets.flatMap((set) => set.keys))
  for (const id of packs) keys.add(packKey(cluster, id))
  for (const { repacked = [] } of sets) for (const id of repacked) keys.add(packKey(cluster, id))
  for (const id of backups) keys.add(backupKey(cluster, id))
  return {
    unreadable,
    hasBackup: (backupId) => isEverything || backups.has(backupId),
    hasPack: (packId) => isEverything || packs.has(packId),
    hasKey: (key) => isEverything || keys.has(key),
  }
}
