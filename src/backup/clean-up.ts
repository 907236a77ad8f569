/**
 * Cleans up after attempts that died: only where the death of the writer is proved.
 */
import { listHolds, removeDeadAttempt } from '../repository/holds.ts'
import {
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  readProcessIdentity,
} from '../storage/process-identity.ts'
import type { Storage } from '../storage/storage.ts'

/** Returns a sentence per attempt that was removed. */
export async function cleanUpDeadAttempts(storage: Storage, cluster: string): Promise<string[]> {
  const self = readProcessIdentity()
  const notes: string[] = []
  await storage.removeLeftovers()
  for (const hold of await listHolds(storage, cluster)) {
    const writer = parseProcessIdentity(hold.writer)
    if (writer === undefined) continue
    if (judgeLiveness(writer, self, lookUpStartTicks) !== 'dead') continue
    const removed = await removeDeadAttempt(storage, cluster, hold)
    notes.push(`removed what the interrupted backup ${hold.backupId} left (${removed} packs)`)
  }
  return notes
}
