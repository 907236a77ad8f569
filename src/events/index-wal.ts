/**
 * Computes the indexes that an archive lacks, or all of them, and writes each to every repository
 * that has the segment (docs/design/event-index.md, section 8).
 *
 * Invariant: an archive is never changed here; a segment of which no index can be made is
 * named, and the others go on.
 */
import { findWalFile } from '../archive/fetch-wal.ts'
import { parseSegmentKey } from '../archive/list-segments.ts'
import { walPrefix } from '../archive/wal-file-name.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { type Progress, SILENT } from '../base/progress.ts'
import type { Storage } from '../storage/storage.ts'
import { chooseIndexThreads, IndexPool } from './index-pool.ts'
import { eventsPrefix, parseEventsKey } from './index-keys.ts'
import { storeDerived } from './store-derived.ts'
import type { IndexedArchive } from './store-index.ts'

export interface IndexWalOptions extends IndexedArchive {
  readonly storages: readonly Storage[]
  readonly walSegmentSizeBytes: number
  /** Also those that are there. */
  readonly rebuild?: boolean
  /** At most so many, the newest first: what a process does beside its work. */
  readonly limit?: number
  readonly progress?: Progress
  readonly signal?: AbortSignal
}

export interface IndexWalResult {
  readonly segments: number
  /** Indexes that were computed. */
  readonly built: number
  readonly storedBytes: number
  readonly failed: readonly { readonly name: string; readonly failure: Failure }[]
}

export async function indexWal(options: IndexWalOptions): Promise<IndexWalResult> {
  const { progress = SILENT, limit } = options
  const { wanted, segments } = await planIndexing(options)
  const jobs = limit === undefined ? wanted : wanted.slice(-limit)
  progress.phase('indexing WAL', jobs.length, 'segments')
  const failed: { name: string; failure: Failure }[] = []
  let [built, storedBytes] = [0, 0]
  if (jobs.length === 0) return { segments, built, storedBytes, failed }
  const threads = chooseIndexThreads(jobs.length, options.walSegmentSizeBytes)
  const pool = new IndexPool(threads)
  const remaining = jobs.values()
  const work = async (): Promise<void> => {
    for (const job of remaining) {
      options.signal?.throwIfAborted()
      const outcome = await indexOne(options, job, pool)
      if (outcome instanceof Failure) failed.push({ name: job.name, failure: outcome })
      else {
        built += 1
        storedBytes += outcome
      }
      progress.advance(1)
    }
  }
  try {
    // One more than threads: a segment is read while others are computed.
    await Promise.all(Array.from({ length: threads + 1 }, work))
  } finally {
    await pool.close()
  }
  failed.sort((a, b) => (a.name < b.name ? -1 : 1))
  return { segments, built, storedBytes, failed }
}

interface IndexJob {
  readonly name: string
  /** That have the segment, and not the index. */
  readonly into: readonly Storage[]
}

/** Two listings of each repository. */
async function planIndexing(
  options: IndexWalOptions,
): Promise<{ readonly wanted: readonly IndexJob[]; readonly segments: number }> {
  const { storages, cluster, systemIdentifier, rebuild } = options
  const into = new Map<string, Storage[]>()
  const all = new Set<string>()
  for (const storage of storages) {
    const there = rebuild === true ? new Set() : await listIndexes(storage, options)
    for await (const { key } of storage.list(walPrefix(cluster, systemIdentifier))) {
      const name = parseSegmentKey(key)
      if (name === undefined) continue
      all.add(name)
      if (there.has(name)) continue
      const known = into.get(name)
      if (known === undefined) into.set(name, [storage])
      else known.push(storage)
    }
  }
  const names = [...into.keys()].sort()
  const wanted = names.map((name) => ({ name, into: into.get(name) as Storage[] }))
  return { wanted, segments: all.size }
}

/** The segments of which a repository has an index. */
export async function listIndexes(
  storage: Storage,
  { cluster, systemIdentifier }: IndexedArchive,
): Promise<Set<string>> {
  const names = new Set<string>()
  for await (const { key } of storage.list(eventsPrefix(cluster, systemIdentifier))) {
    const name = parseEventsKey(key)
    if (name !== undefined) names.add(name)
  }
  return names
}

/** Stored bytes, or why there is no index. */
async function indexOne(
  options: IndexWalOptions,
  { name, into }: IndexJob,
  pool: IndexPool,
): Promise<number | Failure> {
  const { storages, cluster, systemIdentifier } = options
  try {
    const request = { storages, cluster, systemIdentifier, name, holes: 'absent' } as const
    const found = await findWalFile(request)
    // It has expired since it was listed.
    if (found === undefined) return 0
    const index = await pool.encode(systemIdentifier, name, found.content)
    await Promise.all(
      into.map(async (storage) => await storeDerived(storage, options, name, index)),
    )
    return index.bytes.length
  } catch (error) {
    if (isFailure(error)) return error
    throw error
  }
}
