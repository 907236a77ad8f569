/**
 * An index with the marks of breaks (docs/design/event-index.md, section 8).
 *
 * Invariant: an index is written only when the marks that its segment, or it and a neighbour in
 * the same storage, give are durable. Its segment is in the archive before: of two neighbours
 * that are indexed at the same time one sees the other.
 */
import { type WalBreak, writeBreak } from '../archive/break-mark.ts'
import { findWalFile } from '../archive/fetch-wal.ts'
import { parseSegmentKey } from '../archive/list-segments.ts'
import { segmentKey, walPrefix } from '../archive/wal-file-name.ts'
import { hashContent, peekContentHash, WAL_HEADER_BYTES } from '../archive/wal-object.ts'
import { isFailure } from '../base/failure.ts'
import { formatSegmentName, parseSegmentName } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { buildIndex } from './build-index.ts'
import { findCrossingBreaks, findEdges, type SegmentEdges } from './find-breaks.ts'
import { eventsKey } from './index-keys.ts'
import type { EncodedIndex } from './pool/index-worker.ts'
import { findIndexEvents, type IndexedArchive } from './store-index.ts'

/** `name`: of the segment, which is in the storage. */
export async function storeDerived(
  storage: Storage,
  archive: IndexedArchive,
  name: string,
  { bytes, breaks, edges }: EncodedIndex,
): Promise<void> {
  const { cluster, systemIdentifier } = archive
  for (const mark of breaks) await writeBreak(storage, cluster, systemIdentifier, mark)
  await markCrossingBreaks(storage, archive, name, edges)
  await storage.write(eventsKey(cluster, systemIdentifier, name), bytes)
}

/** The breaks whose records the segment shares with those beside it, as far as these are there. */
export async function markCrossingBreaks(
  storage: Storage,
  archive: IndexedArchive,
  name: string,
  { walSegmentSizeBytes: size, head, rest }: SegmentEdges,
): Promise<void> {
  const named = parseSegmentName(name, size)
  if (named === undefined) throw new Error(`${name} is no segment of ${size} bytes`)
  const nameAt = (segment: bigint): string => formatSegmentName(named.timeline, segment, size)
  const found: WalBreak[] = []
  if (rest !== undefined && named.segment > 0n) {
    for (const { head: before } of await readBeside(storage, archive, nameAt(named.segment - 1n))) {
      if (before !== undefined) found.push(...findCrossingBreaks(before, rest))
    }
  }
  if (head !== undefined) {
    for (const { rest: behind } of await readBeside(storage, archive, nameAt(named.segment + 1n))) {
      if (behind !== undefined) found.push(...findCrossingBreaks(head, behind))
    }
  }
  const { cluster, systemIdentifier } = archive
  for (const mark of found) await writeBreak(storage, cluster, systemIdentifier, mark)
}

async function readBeside(
  storage: Storage,
  archive: IndexedArchive,
  beside: string,
): Promise<SegmentEdges[]> {
  const edges: SegmentEdges[] = []
  for (const name of await listBeside(storage, archive, beside)) {
    const one = await readEdges(storage, archive, name)
    if (one !== undefined) edges.push(one)
  }
  return edges
}

/** The one of the same timeline; where it is not there, all of that number. */
async function listBeside(
  storage: Storage,
  { cluster, systemIdentifier }: IndexedArchive,
  beside: string,
): Promise<string[]> {
  const key = segmentKey(cluster, systemIdentifier, beside)
  if ((await storage.size(key)) !== undefined) return [beside]
  const names: string[] = []
  for await (const object of storage.list(walPrefix(cluster, systemIdentifier))) {
    const other = parseSegmentKey(object.key)
    if (other?.slice(8) === beside.slice(8)) names.push(other)
  }
  return names
}

/** Undefined: it is not there, or damaged: what takes its place is indexed anew. */
async function readEdges(
  storage: Storage,
  archive: IndexedArchive,
  name: string,
): Promise<SegmentEdges | undefined> {
  const { cluster, systemIdentifier } = archive
  try {
    const key = segmentKey(cluster, systemIdentifier, name)
    const header = await storage.readRange(key, 0, WAL_HEADER_BYTES)
    if (header === undefined) return undefined
    const index = await findIndexEvents(storage, archive, name).catch(requireDamage)
    if (index !== undefined && index.header.contentHash === peekContentHash(header)) {
      return findEdges(index)
    }
    const request = {
      storages: [storage],
      cluster,
      systemIdentifier,
      name,
      holes: 'absent',
    } as const
    const content = (await findWalFile(request))?.content
    return content === undefined ? undefined : edgesOf(archive, name, content)
  } catch (error) {
    return requireDamage(error)
  }
}

function requireDamage(error: unknown): undefined {
  if (!isFailure(error, 'TM1601')) throw error
  return undefined
}

function edgesOf(
  { systemIdentifier }: IndexedArchive,
  name: string,
  bytes: Uint8Array,
): SegmentEdges | undefined {
  const named = parseSegmentName(name, bytes.length)
  if (named === undefined) return undefined
  const contentHash = hashContent(bytes)
  const source = { systemIdentifier: BigInt(systemIdentifier), ...named, bytes, contentHash }
  return findEdges(buildIndex(source))
}
