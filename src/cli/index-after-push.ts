/**
 * `wal push` writes the event indexes of what it has just archived, when PostgreSQL has nothing
 * else to archive.
 *
 * Invariant: the segments are durable before this begins; nothing here makes a push fail, and
 * nothing here takes longer than a limit. What is left out is computed by `wal index`.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import { monotonicMs, sleep } from '../base/clock.ts'
import { indexSegment } from '../events/index-segment.ts'
import type { Storage } from '../storage/storage.ts'

/** How long a storage may take. */
const LIMIT_MS = 5000
/** After so long no further segment is begun: PostgreSQL waits for this process. */
const ENOUGH_MS = 500
/** Larger segments take seconds. */
const LARGEST_BYTES = 64 * 1024 * 1024
/** Whoever waits for a processor comes first. */
const LOW_PRIORITY = 10

export interface PushedSegments {
  readonly storages: readonly Storage[]
  readonly cluster: string
  readonly systemIdentifier: string
  /** Where they lie: pg_wal. */
  readonly directory: string
  /** The first of them was asked for. */
  readonly names: readonly string[]
}

/** `late`: it took too long, and may still be under way. */
export async function indexAfterPush(
  pushed: PushedSegments,
  { limitMs = LIMIT_MS, evenIfBusy = false } = {},
): Promise<'done' | 'left' | 'late'> {
  const limit = new AbortController()
  try {
    if (!evenIfBusy && (await isMoreReady(pushed))) return 'left'
    setPriority(LOW_PRIORITY)
    const late = sleep(limitMs, limit.signal).then(
      () => 'late' as const,
      () => 'done' as const,
    )
    return await Promise.race([indexAll(pushed), late])
  } catch {
    // The segments are safe, and their indexes can be computed at any time.
    return 'left'
  } finally {
    limit.abort()
  }
}

async function indexAll(pushed: PushedSegments): Promise<'done' | 'left'> {
  const { storages, cluster, systemIdentifier, directory, names } = pushed
  const beganAt = monotonicMs()
  let isWhole = true
  for (const name of names) {
    if (monotonicMs() - beganAt > ENOUGH_MS) return 'left'
    const path = join(directory, name)
    if ((await stat(path)).size > LARGEST_BYTES) return 'left'
    const bytes = await readFile(path)
    const { failures } = await indexSegment({ storages, cluster, systemIdentifier, name, bytes })
    if (failures.length > 0) isWhole = false
  }
  return isWhole ? 'done' : 'left'
}

/** Files that the archiver is about to hand over and that are not archived yet. */
async function isMoreReady({ directory, names }: PushedSegments): Promise<boolean> {
  const own = new Set(names.map((name) => `${name}.ready`))
  const found = await readdir(join(directory, 'archive_status')).catch(() => [])
  return found.some((name) => name.endsWith('.ready') && !own.has(name))
}
