/**
 * Keeps the packs of a backup locked where the store locks objects (docs/design/storage.md,
 * "Object lock"). Packs of this run were created locked; the lock of an older one is extended
 * when less than half of its time is left. Until when each is locked is noted in the record, so
 * that a backup asks the store about none.
 *
 * Order: before the record is written, whose notes must be true. A backup whose locks could not
 * be extended is published all the same, and says so.
 */
import { type Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import type { BackupRecord, NamedPack, PackLock } from '../repository/backup-record.ts'
import { clusterPrefix, packKey, REPOSITORY_KEY } from '../repository/keys.ts'
import { openRepository } from '../repository/repository.ts'
import { KEYS_PREFIX } from '../storage/data-keys.ts'
import type { ObjectLocks, Storage } from '../storage/storage.ts'

/** A store that refuses so many refuses all. */
const MOST_FAILURES = 10
/** Requests wait more than they work. */
const AT_ONCE = 16
const DAY_MS = 24 * 3600 * 1000

export interface LockRequest {
  readonly cluster: string
  /** All that the record names, in its order. */
  readonly packs: readonly NamedPack[]
  /** Ids of those that this run has written, since `beganAt`. */
  readonly written: ReadonlySet<string>
  readonly beganAt: Date
  readonly base: BackupRecord | undefined
  readonly at: Date
  readonly progress: Progress
}

export interface ExtendedLocks {
  readonly locks: readonly PackLock[]
  /** Sentences for the report. */
  readonly notes: readonly string[]
}

export async function extendLocks(
  storages: readonly Storage[],
  request: LockRequest,
): Promise<ExtendedLocks> {
  const locks: PackLock[] = []
  const notes: string[] = []
  for (const storage of storages) {
    if (storage.locks === undefined) continue
    try {
      const { repositoryId } = await openRepository(storage)
      const known = await extendIn(storage, storage.locks, repositoryId, request, notes)
      locks.push(...encodeLocks(repositoryId, request.packs, known))
    } catch (error) {
      if (!isFailure(error)) throw error
      notes.push(`objects in ${storage.url} could not be locked for longer: ${error.message}`)
    }
  }
  return { locks, notes }
}

/** Until when each pack is locked now, in milliseconds of 1970; what is not known is left out. */
async function extendIn(
  storage: Storage,
  locks: ObjectLocks,
  repositoryId: string,
  { cluster, packs, written, beganAt, base, at, progress }: LockRequest,
  notes: string[],
): Promise<Map<string, number>> {
  const lengthMs = locks.days * DAY_MS
  const until = new Date(at.getTime() + lengthMs)
  const isDue = (ms: number | undefined): boolean => (ms ?? 0) - at.getTime() < lengthMs / 2
  const known = decodeLocks(repositoryId, base)
  for (const id of written) known.set(id, beganAt.getTime() + lengthMs)
  const due = packs.map(({ id }) => id).filter((id) => isDue(known.get(id)))
  progress.phase('extending locks', due.length, 'files')
  const failures: Failure[] = []
  let refused = 0
  const extend = async (key: string): Promise<boolean> => {
    if (failures.length >= MOST_FAILURES) {
      refused++
      return false
    }
    try {
      await locks.extend(key, until)
      return true
    } catch (error) {
      if (!isFailure(error)) throw error
      failures.push(error)
      return false
    }
  }
  await runAll(due, async (id) => {
    if (await extend(packKey(cluster, id))) known.set(id, until.getTime())
    progress.advance(1)
  })
  const small = await listSmall(storage, cluster)
  await runAll(small, async (key) => {
    if (isDue((await locks.lockedUntil(key))?.getTime())) await extend(key)
  })
  if (due.length > 0 && failures.length === 0) {
    notes.push(`${due.length} packs in ${storage.url} are locked until ${until.toISOString()}`)
  }
  const [first] = failures
  if (first !== undefined) notes.push(notExtended(storage, failures.length + refused, first))
  return known
}

function notExtended(storage: Storage, count: number, first: Failure): string {
  const why = first.because === undefined ? '' : ` (${first.because})`
  return (
    `${count} objects in ${storage.url} are NOT locked for longer, and can be removed by whoever ` +
    `has the keys of the store: ${first.code}: ${first.message}${why}`
  )
}

/** What every backup depends on besides its packs. */
async function listSmall(storage: Storage, cluster: string): Promise<string[]> {
  const keys = [REPOSITORY_KEY]
  for (const prefix of [KEYS_PREFIX, `${clusterPrefix(cluster)}systems/`]) {
    for await (const { key } of storage.list(prefix)) keys.push(key)
  }
  return keys
}

async function runAll<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  const queue = items[Symbol.iterator]()
  const work = async (): Promise<void> => {
    for (const item of queue) await act(item)
  }
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, work))
}

/** Pure. Packs whose locks end together, as pairs of a first place in the list and a count. */
export function encodeLocks(
  repository: string,
  packs: readonly NamedPack[],
  known: ReadonlyMap<string, number>,
): PackLock[] {
  const byEnd = new Map<number, number[]>()
  for (const [place, { id }] of packs.entries()) {
    const ms = known.get(id)
    if (ms === undefined) continue
    const ranges = byEnd.get(ms) ?? []
    byEnd.set(ms, ranges)
    const last = ranges.length - 2
    if (last >= 0 && (ranges[last] as number) + (ranges[last + 1] as number) === place) {
      ranges[last + 1] = (ranges[last + 1] as number) + 1
    } else ranges.push(place, 1)
  }
  const ends = [...byEnd].sort(([a], [b]) => a - b)
  return ends.map(([ms, ranges]) => {
    return { repository, until: new Date(ms).toISOString(), packs: ranges }
  })
}

/** Pure. */
export function decodeLocks(
  repository: string,
  record: BackupRecord | undefined,
): Map<string, number> {
  const known = new Map<string, number>()
  for (const lock of record?.locks ?? []) {
    if (lock.repository !== repository) continue
    for (let at = 0; at + 1 < lock.packs.length; at += 2) {
      const first = lock.packs[at] as number
      const some = record?.packs.slice(first, first + (lock.packs[at + 1] as number)) ?? []
      for (const { id } of some) known.set(id, Date.parse(lock.until))
    }
  }
  return known
}
