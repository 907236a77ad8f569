/**
 * `wal push` writes the event index of what it has just archived, when PostgreSQL has nothing else
 * to archive.
 *
 * Invariant: the segment is durable before this begins; nothing here makes a push fail, and
 * nothing here takes longer than a limit. What is left out is computed by `wal index`.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { setPriority } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { sleep } from '../base/clock.ts'
import { type IndexedSegment, indexSegment } from '../events/index-segment.ts'
import type { Storage } from '../storage/storage.ts'

const LIMIT_MS = 5000
/** Larger segments take seconds. */
const LARGEST_BYTES = 64 * 1024 * 1024
/** Whoever waits for a processor comes first. */
const LOW_PRIORITY = 10

export interface PushedSegment {
  readonly storages: readonly Storage[]
  readonly cluster: string
  readonly systemIdentifier: string
  /** As it was pushed. */
  readonly path: string
}

/**
 * Undefined: something else is ready, or the file has gone or is large. `late`: it took too long, and may
 * still be under way.
 */
export async function indexAfterPush(
  pushed: PushedSegment,
  limitMs = LIMIT_MS,
): Promise<IndexedSegment | 'late' | undefined> {
  const limit = new AbortController()
  try {
    if (await isMoreReady(pushed.path)) return undefined
    if ((await stat(pushed.path)).size > LARGEST_BYTES) return undefined
    setPriority(LOW_PRIORITY)
    const bytes = await readFile(pushed.path)
    const { storages, cluster, systemIdentifier } = pushed
    const name = basename(pushed.path)
    const indexing = indexSegment({ storages, cluster, systemIdentifier, name, bytes })
    const late = sleep(limitMs, limit.signal).then(
      () => 'late' as const,
      () => undefined,
    )
    return await Promise.race([indexing, late])
  } catch {
    // The segment is safe, and its index can be computed at any time.
    return undefined
  } finally {
    limit.abort()
  }
}

/** Other files that the archiver is about to hand over; a file of no server has none. */
async function isMoreReady(path: string): Promise<boolean> {
  const own = `${basename(path)}.ready`
  const names = await readdir(join(dirname(path), 'archive_status')).catch(() => [])
  return names.some((name) => name.endsWith('.ready') && name !== own)
}
