/**
 * Holds: what a backup under way writes first, so that nothing takes its packs away, and
 * so that the next run on the same host can clean up after a dead one.
 *
 * Invariant: packs of an attempt are removed only while its hold is there, its writer is
 * proved dead, and no record of that backup exists.
 */
import { isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import { damagedObject, decodeEnvelope, encodeEnvelope } from './envelope.ts'
import { attemptPrefix, backupKey, holdKey, holdPrefix, isBackupId } from './keys.ts'

export interface Hold {
  readonly backupId: string
  readonly attemptId: string
  /** For people. */
  readonly host: string
  /** formatProcessIdentity() of the writer: tells a reused process id apart. */
  readonly writer: string
  readonly startedAt: string
  /** Backups whose packs the new one may refer to. */
  readonly comparedWith: readonly string[]
}

export async function writeHold(storage: Storage, cluster: string, hold: Hold): Promise<void> {
  const bytes = encodeEnvelope('HOLD', Buffer.from(JSON.stringify(hold)))
  await storage.write(holdKey(cluster, hold.backupId), bytes, { createOnly: true })
}

export async function removeHold(
  storage: Storage,
  cluster: string,
  backupId: string,
): Promise<void> {
  await storage.remove(holdKey(cluster, backupId))
}

/** All holds that can be read; a damaged one protects what it names and is left alone. */
export async function listHolds(storage: Storage, cluster: string): Promise<Hold[]> {
  const holds: Hold[] = []
  for await (const { key } of storage.list(holdPrefix(cluster))) {
    try {
      const bytes = await storage.read(key)
      if (bytes !== undefined) holds.push(parseHold(key, decodeEnvelope(key, 'HOLD', bytes)))
    } catch (error) {
      if (!isFailure(error, 'TM1601')) throw error
    }
  }
  return holds
}

function parseHold(key: string, raw: Uint8Array): Hold {
  const hold = JSON.parse(Buffer.from(raw).toString('utf8')) as Hold
  if (!/^[0-9a-f]{24}$/.test(hold.attemptId)) throw damagedObject(key, 'its attempt has no id')
  if (!isBackupId(hold.backupId) || !key.endsWith(`/${hold.backupId}.hold`)) {
    throw damagedObject(key, 'it is the hold of another backup')
  }
  return hold
}

/**
 * Removes what a dead attempt left behind, the hold last: a crash in between is cleaned
 * up by the next run. A backup whose record exists keeps its packs; only the hold goes.
 */
export async function removeDeadAttempt(
  storage: Storage,
  cluster: string,
  hold: Hold,
): Promise<number> {
  let removed = 0
  const record = backupKey(cluster, hold.backupId)
  if ((await storage.size(record)) !== undefined) {
    // Its writer may have died, or failed, before the record was durable.
    await storage.confirmDurable([record])
  } else {
    const keys: string[] = []
    for await (const { key } of storage.list(attemptPrefix(cluster, hold.attemptId))) keys.push(key)
    for (const key of keys) {
      await storage.remove(key)
      removed++
    }
  }
  await storage.remove(holdKey(cluster, hold.backupId))
  return removed
}
