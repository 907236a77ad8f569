/**
 * Cleans up after attempts that died: only where the death of the writer is proved.
 */
import { now } from '../base/clock.ts'
import { randomHex } from '../base/random.ts'
import type { Storage } from '../storage/storage.ts'
import { removeCondemnedSet, writeCondemnedSet } from './condemned-sets.ts'
import {
  attemptPackKey,
  type Hold,
  isDeadWriter,
  listAttempt,
  listHolds,
  readHolder,
  readKeysOfOthers,
  removeDeadAttempt,
} from './holds.ts'

/** Returns a sentence per hold that was removed. */
export async function cleanUpDeadHolds(storage: Storage, cluster: string): Promise<string[]> {
  const notes: string[] = []
  await storage.removeLeftovers()
  for (const hold of (await listHolds(storage, cluster)).holds) {
    if (!isDeadWriter(hold)) continue
    const removed = await removeCondemned(storage, cluster, hold)
    if (removed !== 'held') notes.push(describeRemoval(hold, removed))
  }
  return notes
}

function describeRemoval({ id, purpose }: Hold, packs: number): string {
  const hasPacks = purpose === 'backup' || purpose === 'dump'
  if (!hasPacks) return `removed the hold ${id} of an interrupted ${purpose}`
  return `removed what the interrupted ${purpose} ${id} left (${packs} packs)`
}

/**
 * By the protocol of an expiry: two that clean up after the same writer, one of them stopped for
 * long, must not remove packs of a backup that a sync has brought back meanwhile. A removal
 * that fails may still take effect: its set stays until this process is dead.
 */
async function removeCondemned(
  storage: Storage,
  cluster: string,
  hold: Hold,
): Promise<number | 'held'> {
  const packs = await listAttempt(storage, cluster, hold)
  if (packs.length === 0) return await removeDeadAttempt(storage, cluster, hold, packs)
  const id = randomHex(8)
  const startedAt = now().toISOString()
  // Sets name packs of dumps by their keys: an id among `packs` is that of a backup's pack.
  const packKeys = packs.map((pack) => attemptPackKey(cluster, hold, pack))
  const named = hold.purpose === 'dump' ? { packs: [], keys: packKeys } : { packs, keys: [] }
  const set = { id, ...readHolder(), startedAt, backups: [], ...named }
  await writeCondemnedSet(storage, cluster, set)
  const others = await readKeysOfOthers(storage, cluster, hold.id)
  const isHeld = (key: string): boolean => others === 'unknown' || others.has(key)
  const removed = packKeys.some(isHeld)
    ? 'held'
    : await removeDeadAttempt(storage, cluster, hold, packs)
  await removeCondemnedSet(storage, cluster, id)
  return removed
}
