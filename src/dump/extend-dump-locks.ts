/**
 * Keeps the packs of a dump locked where the store locks objects (docs/design/storage.md, "Object
 * lock"): what it wrote was created locked; the lock of a pack that an older dump wrote is extended
 * when less than half of its time is left. A dump whose locks could not be extended stays all the
 * same, and says so.
 */
import { now } from '../base/clock.ts'
import { type Failure, isFailure } from '../base/failure.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import { dumpPackKey } from '../repository/keys.ts'
import type { Storage } from '../storage/storage.ts'

const DAY_MS = 24 * 3600 * 1000
/** Requests wait more than they work. */
const AT_ONCE = 16
/** A store that refuses so many refuses all. */
const MOST_FAILURES = 10

/** Returns sentences for the report; one request for each pack, two where its lock is extended. */
export async function extendDumpLocks(storage: Storage, record: DumpRecord): Promise<string[]> {
  const { locks } = storage
  if (locks === undefined) return []
  const at = now().getTime()
  const lengthMs = locks.days * DAY_MS
  const failures: Failure[] = []
  const packs = record.packs.values()
  const work = async (): Promise<void> => {
    for (const { id } of packs) {
      if (failures.length >= MOST_FAILURES) return
      const key = dumpPackKey(record.cluster, id)
      try {
        const until = (await locks.lockedUntil(key))?.getTime() ?? 0
        if (until - at < lengthMs / 2) await locks.extend(key, new Date(at + lengthMs))
      } catch (error) {
        if (!isFailure(error)) throw error
        failures.push(error)
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  const [first] = failures
  if (first === undefined) return []
  return [
    `packs of dump ${record.id} in ${storage.url} are NOT locked for longer, and can be removed ` +
      `by whoever has the keys of the store: ${first.code}: ${first.message}`,
  ]
}
