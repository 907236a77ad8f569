/**
 * Removes what a plan names, in the order that leaves whatever is listed restorable at every
 * moment: records, then WAL, then packs.
 *
 * Invariant: the caller's condemned set names all of it, and a second look that began after
 * the set was written has taken out what somebody needs.
 */
import { advanceExpiredMark } from '../archive/expired-wal.ts'
import { findRanges } from '../archive/find-gaps.ts'
import { segmentKey } from '../archive/wal-file-name.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { formatSegmentName } from '../postgres/lsn.ts'
import { listCondemnedSets } from '../repository/condemned-sets.ts'
import { backupKey, condemnedKey, packKey } from '../repository/keys.ts'
import type { Storage } from '../storage/storage.ts'
import type { ExpirationPlan, ExpiredWal } from './plan-expiration.ts'
import { removeIndexes, removeOldNames } from './remove-derived.ts'

/** An object that may not be removed yet: it is locked by the store. */
export interface LockedObject {
  readonly key: string
  readonly because: string
}

export interface RemovalScope {
  readonly storage: Storage
  readonly cluster: string
  /** The condemned set that names what goes. */
  readonly setId: string
  readonly progress: Progress
  readonly signal: AbortSignal
  readonly locked: LockedObject[]
  /** Keys of what is gone. */
  readonly removed: string[]
  /** A removal was asked for, and whether it took effect is not known. */
  inDoubt: boolean
}

/** Objects of one request to an object store, and of one step between two interruptions. */
const BATCH_OBJECTS = 1000

/** Returns the backups whose records could not be removed: all that they need must stay. */
export async function removeRecords(
  scope: RemovalScope,
  plan: ExpirationPlan,
): Promise<ReadonlySet<string>> {
  const keys = new Map(plan.expire.map(({ id }) => [backupKey(scope.cluster, id), id]))
  scope.progress.phase('removing backup records', keys.size, 'files')
  const before = scope.locked.length
  await removeAll(scope, [...keys.keys()])
  const locked = scope.locked.slice(before).map(({ key }) => keys.get(key))
  return new Set(locked.filter((id) => id !== undefined))
}

/** After the records are gone; `plan` leaves out what locked records need. */
export async function removeContents(scope: RemovalScope, plan: ExpirationPlan): Promise<void> {
  const { cluster, progress } = scope
  const walKeys = plan.wal.flatMap((system) => listWalKeys(cluster, system))
  const packKeys = plan.packs.map(({ id }) => packKey(cluster, id))
  const all = plan.marks.length + walKeys.length + packKeys.length
  progress.phase('removing WAL and packs', all, 'files')
  await removeAll(scope, plan.marks)
  for (const system of plan.wal) {
    await noteHoles(scope, system)
    await removeIndexes(scope.storage, cluster, system)
  }
  await removeAll(scope, walKeys)
  for (const system of plan.wal) await removeOldNames(scope.storage, cluster, system)
  await removeAll(scope, packKeys)
}

export function listWalKeys(cluster: string, system: ExpiredWal): string[] {
  const { systemIdentifier, walSegmentSizeBytes } = system
  const keys: string[] = []
  for (const { timeline, segments } of system.timelines) {
    for (const segment of segments) {
      const name = formatSegmentName(timeline, BigInt(segment), walSegmentSizeBytes)
      keys.push(segmentKey(cluster, systemIdentifier, name))
    }
  }
  return [...keys, ...system.others.map(({ key }) => key)]
}

/** So that the holes to come are not taken for a loss. */
async function noteHoles({ storage, cluster }: RemovalScope, system: ExpiredWal): Promise<void> {
  const gone = system.timelines.map(({ timeline, segments }) => {
    return [timeline, findRanges(segments.map(BigInt))] as const
  })
  await advanceExpiredMark(storage, cluster, system.systemIdentifier, new Map(gone))
}

/** What is locked is noted; the rest is gone. */
export async function removeAll(scope: RemovalScope, keys: readonly string[]): Promise<void> {
  for (let from = 0; from < keys.length; from += BATCH_OBJECTS) {
    scope.signal.throwIfAborted()
    const batch = keys.slice(from, from + BATCH_OBJECTS)
    await requireSet(scope)
    await removeBatch(scope, batch)
    scope.progress.advance(batch.length)
  }
}

/** The one thing that all rests on: what was written is in every listing that begins later. */
export async function requireListed({ storage, cluster, setId }: SetScope): Promise<void> {
  const { sets } = await listCondemnedSets(storage, cluster)
  if (sets.some(({ id }) => id === setId)) return
  throw new Failure('TM1905', {
    message: `${storage.url} does not list what was just written`,
    because: 'an expiry could not see what backups that run now need',
    fix: 'use the store without a cache between; nothing was removed',
  })
}

type SetScope = Pick<RemovalScope, 'storage' | 'cluster' | 'setId'>

/**
 * Whoever was stopped for long may have been given up by a person meanwhile; then backups may
 * refer to what the set named.
 */
export async function requireSet({ storage, cluster, setId }: SetScope): Promise<void> {
  if ((await storage.size(condemnedKey(cluster, setId))) !== undefined) return
  throw new Failure('TM1907', {
    message: `the condemned set ${setId} was taken away while its expiry ran`,
    because: 'somebody declared this run dead (tidemark expire --release), and it was not',
    fix: `nothing more is removed; run it again: tidemark expire ${cluster} --apply`,
    details: { id: setId },
  })
}

async function removeBatch(scope: RemovalScope, batch: readonly string[]): Promise<void> {
  const { storage, locked, removed } = scope
  scope.inDoubt = true
  try {
    await storage.removeMany(batch)
    scope.inDoubt = false
    removed.push(...batch)
  } catch (error) {
    if (!isLocked(error)) throw error
    scope.inDoubt = false
    // A driver goes on with the others; what is still there was not removed.
    for (const key of batch) {
      if ((await storage.size(key)) === undefined) removed.push(key)
      else locked.push({ key, because: error.because ?? error.message })
    }
  }
}

/** The refusal of a store that has locked an object against removal. */
function isLocked(error: unknown): error is Failure {
  return isFailure(error) && (error.code as string) === 'TM1513'
}
