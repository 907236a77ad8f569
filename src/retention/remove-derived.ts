/**
 * Removes what is derived from WAL that expires: event indexes, and names of before all of it.
 *
 * Nobody needs them to restore, and all can be computed again, so they go first: a crash then
 * leaves segments without indexes, which the next expiry removes, and never the reverse.
 */
import { parseSegmentKey } from '../archive/list-segments.ts'
import { timelinePrefix } from '../archive/wal-file-name.ts'
import { isFailure } from '../base/failure.ts'
import { eventsKey } from '../events/index-keys.ts'
import { type ListedNames, listNamesSnapshots } from '../events/names-snapshot.ts'
import { formatSegmentName, lsn, type Lsn, parseSegmentName } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import type { ExpiredWal } from './plan-expiration.ts'

const BATCH_OBJECTS = 1000

/** Before the segments go. */
export async function removeIndexes(
  storage: Storage,
  cluster: string,
  system: ExpiredWal,
): Promise<void> {
  const keys = system.timelines.flatMap(({ timeline, segments }) =>
    segments.map((segment) => {
      const name = formatSegmentName(timeline, BigInt(segment), system.walSegmentSizeBytes)
      return eventsKey(cluster, system.systemIdentifier, name)
    }),
  )
  for (let from = 0; from < keys.length; from += BATCH_OBJECTS) {
    await removeSome(storage, keys.slice(from, from + BATCH_OBJECTS))
  }
}

/** A bucket may lock whatever is put there; then it stays until it no longer is. */
async function removeSome(storage: Storage, keys: readonly string[]): Promise<void> {
  try {
    await storage.removeMany(keys)
  } catch (error) {
    if (!isFailure(error, 'TM1513')) throw error
  }
}

/** After the segments have gone. */
export async function removeOldNames(
  storage: Storage,
  cluster: string,
  { systemIdentifier, walSegmentSizeBytes }: ExpiredWal,
): Promise<void> {
  const listed = await listNamesSnapshots(storage, { cluster, systemIdentifier })
  const byTimeline = Map.groupBy(listed, ({ timeline }) => timeline)
  for (const [timeline, names] of byTimeline) {
    const prefix = timelinePrefix(cluster, systemIdentifier, timeline)
    const oldest = await findOldest(storage, prefix, walSegmentSizeBytes)
    const keys = chooseOldNames(names, oldest).map(({ key }) => key)
    if (keys.length > 0) await removeSome(storage, keys)
  }
}

/** Where the WAL of a timeline begins that is still there. */
async function findOldest(
  storage: Storage,
  prefix: string,
  size: number,
): Promise<Lsn | undefined> {
  for await (const { key } of storage.list(prefix)) {
    const name = parseSegmentKey(key)
    const segment = name === undefined ? undefined : parseSegmentName(name, size)
    if (segment !== undefined) return lsn(segment.segment * BigInt(size))
  }
  return undefined
}

/**
 * Of one timeline, ascending. The newest before the oldest WAL says what was there when that WAL
 * began. Pure.
 */
export function chooseOldNames(
  names: readonly ListedNames[],
  oldest: Lsn | undefined,
): readonly ListedNames[] {
  const before = oldest === undefined ? names : names.filter((one) => one.lsn <= oldest)
  return before.slice(0, -1)
}
