/**
 * Gives up the record of a dump that cannot be read, because a person says so. Its packs are then
 * those of nobody, and the next expiry removes what no other dump needs.
 */
import { dumpKey, isBackupId } from '../repository/keys.ts'
import { listDumps } from '../repository/read-dumps.ts'
import type { Released } from '../retention/release.ts'
import { readPerhapsDamaged } from '../storage/read-damaged.ts'
import type { Storage } from '../storage/storage.ts'

/** Its bytes stay beside it. Undefined: there is none, or it can be read. */
export async function releaseDump(
  storage: Storage,
  cluster: string,
  id: string,
): Promise<Released | undefined> {
  if (!isBackupId(id)) return undefined
  const key = dumpKey(cluster, id)
  const { unreadable } = await listDumps(storage, cluster)
  if (!unreadable.some((one) => one.key === key)) return undefined
  const stored = await readPerhapsDamaged(storage, key)
  if (stored !== undefined) await storage.write(`${key}.damaged`, stored.bytes)
  await storage.remove(key)
  return { kind: 'record', id }
}
