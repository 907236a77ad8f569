/** Takes what is gone out of the memory of verify, which is a hint and may be lost. */
import { isFailure } from '../base/failure.ts'
import { parseBackupKey } from '../repository/keys.ts'
import { readVerifiedMemory, writeVerifiedMemory } from '../repository/verified-memory.ts'
import type { Storage } from '../storage/storage.ts'

export async function forgetVerified(
  storage: Storage,
  cluster: string,
  removed: readonly string[],
): Promise<void> {
  const { memory, damaged } = await readVerifiedMemory(storage, cluster)
  if (damaged !== undefined) return
  let changes = 0
  for (const key of removed) {
    if (memory.objects.delete(key)) changes++
    if (memory.damagedObjects.delete(key)) changes++
    const backupId = parseBackupKey(key)
    if (backupId !== undefined && memory.backups.delete(backupId)) changes++
  }
  if (changes === 0) return
  try {
    await writeVerifiedMemory(storage, cluster, memory)
  } catch (error) {
    // Another user's file: what it names is simply not there any more.
    if (!isFailure(error, 'TM1501')) throw error
  }
}
