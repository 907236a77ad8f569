/**
 * Cleans up after attempts that died: only where the death of the writer is proved.
 */
import { type Hold, isDeadWriter, listHolds, removeDeadAttempt } from './holds.ts'
import type { Storage } from '../storage/storage.ts'

/** Returns a sentence per hold that was removed. */
export async function cleanUpDeadHolds(storage: Storage, cluster: string): Promise<string[]> {
  const notes: string[] = []
  await storage.removeLeftovers()
  for (const hold of (await listHolds(storage, cluster)).holds) {
    if (!isDeadWriter(hold)) continue
    notes.push(describeRemoval(hold, await removeDeadAttempt(storage, cluster, hold)))
  }
  return notes
}

function describeRemoval({ id, purpose }: Hold, packs: number): string {
  if (purpose !== 'backup') return `removed the hold ${id} of an interrupted ${purpose}`
  return `removed what the interrupted backup ${id} left (${packs} packs)`
}
