/**
 * The process that `wal push` leaves behind: writes the indexes of the segments that were noted,
 * until none is noted or the server is gone (docs/design/event-index.md, section 8).
 *
 * Invariants: an index is computed from the bytes that the archive has, wherever they are read.
 * A name is taken before it is tried, so that nothing is tried twice.
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { findWalFile } from '../archive/fetch-wal.ts'
import { findSystemIdentifier } from '../archive/read-wal-file.ts'
import { segmentKey } from '../archive/wal-file-name.ts'
import { isHashOf, peekContentHash, WAL_HEADER_BYTES } from '../archive/wal-object.ts'
import { sleep } from '../base/clock.ts'
import type { Storage } from '../storage/storage.ts'
import { indexSegment } from './index-segment.ts'
import {
  claimTodo,
  type IndexTodo,
  indexTodoOf,
  isClaimed,
  isServerThere,
  listNoted,
  releaseTodo,
  takeNote,
} from './index-todo.ts'

/** Larger ones would fill the memory. */
const LARGEST_BYTES = 256 * 1024 * 1024
const LOOK_MS = 500

export interface IndexNotedOptions {
  readonly dataDirectory: string
  readonly cluster: string
  /** Asked for when there is something to do; those that cannot be opened are left out. */
  readonly open: () => Promise<readonly Storage[]>
}

/** `taken`, `replaced`: another process is at it. `ended`: the server is gone. */
export type IndexNotedOutcome = 'done' | 'taken' | 'replaced' | 'ended'

/** After `ended` something may be under way still: the process has to exit. */
export async function indexNoted(options: IndexNotedOptions): Promise<IndexNotedOutcome> {
  const todo = indexTodoOf(options.dataDirectory)
  const stop = new AbortController()
  try {
    return await Promise.race([work(options, todo), waitForEnd(todo, stop.signal)])
  } finally {
    stop.abort()
    await releaseTodo(todo)
  }
}

async function waitForEnd(todo: IndexTodo, signal: AbortSignal): Promise<'ended'> {
  while (!signal.aborted && (await isServerThere(todo).catch(() => false))) {
    await sleep(LOOK_MS, signal).catch(() => undefined)
  }
  return 'ended'
}

async function work(options: IndexNotedOptions, todo: IndexTodo): Promise<IndexNotedOutcome> {
  const { dataDirectory, cluster } = options
  const systemIdentifier = await findSystemIdentifier(dataDirectory)
  if (systemIdentifier === undefined || !(await isServerThere(todo))) return 'ended'
  if (!(await claimTodo(todo))) return 'taken'
  const archive = { storages: await options.open(), cluster, systemIdentifier, dataDirectory }
  for (;;) {
    const outcome = await takeAll(archive, todo)
    if (outcome !== 'done') return outcome
    // A push that notes a name and sees the claim starts nobody: look again without it.
    await releaseTodo(todo)
    if ((await listNoted(todo)).length === 0) return 'done'
    if (!(await claimTodo(todo))) return 'taken'
  }
}

interface NotedArchive {
  readonly storages: readonly Storage[]
  readonly cluster: string
  readonly systemIdentifier: string
  readonly dataDirectory: string
}

async function takeAll(archive: NotedArchive, todo: IndexTodo): Promise<IndexNotedOutcome> {
  for (;;) {
    const [name] = await listNoted(todo)
    if (name === undefined) return 'done'
    if (!(await isServerThere(todo))) return 'ended'
    if (!(await isClaimed(todo))) return 'replaced'
    if (!(await takeNote(todo, name))) continue
    // Why one fails is told by `wal index`.
    await indexArchived(archive, name).catch(() => undefined)
  }
}

/** True: every repository that has the segment has its index. */
export async function indexArchived(archive: NotedArchive, name: string): Promise<boolean> {
  const { cluster, systemIdentifier } = archive
  const key = segmentKey(cluster, systemIdentifier, name)
  const hashes = new Map<Storage, string>()
  await Promise.allSettled(
    archive.storages.map(async (storage) => {
      const header = await storage.readRange(key, 0, WAL_HEADER_BYTES)
      const hash = header === undefined ? undefined : peekContentHash(header)
      if (hash !== undefined) hashes.set(storage, hash)
    }),
  )
  const bytes = await readArchived(archive, name, hashes)
  if (bytes === undefined) return false
  const storages = [...hashes].flatMap(([storage, one]) => (isHashOf(bytes, one) ? [storage] : []))
  const { failures } = await indexSegment({ storages, cluster, systemIdentifier, name, bytes })
  return failures.length === 0 && storages.length > 0
}

/**
 * From pg_wal while it is there: the server may take the file for another segment at any moment,
 * also while it is read, and the hash tells.
 */
async function readArchived(
  { dataDirectory, cluster, systemIdentifier }: NotedArchive,
  name: string,
  hashes: ReadonlyMap<Storage, string>,
): Promise<Uint8Array | undefined> {
  if (hashes.size === 0) return undefined
  const path = join(dataDirectory, 'pg_wal', name)
  const bytes = await readSmall(path).catch(() => undefined)
  if (bytes !== undefined && [...hashes.values()].some((one) => isHashOf(bytes, one))) return bytes
  const request = { storages: [...hashes.keys()], cluster, systemIdentifier, name }
  const found = await findWalFile({ ...request, holes: 'absent' })
  return found === undefined || found.rawLength > LARGEST_BYTES ? undefined : found.content
}

async function readSmall(path: string): Promise<Buffer | undefined> {
  return (await stat(path)).size > LARGEST_BYTES ? undefined : await readFile(path)
}
