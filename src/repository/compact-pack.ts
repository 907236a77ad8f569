/**
 * Replaces a pack by itself without its dead frames (docs/design/repacking.md).
 *
 * Order: living frames are copied into a new object under the same key, each proved by its hash;
 * the commit replaces the pack in one step; the index is read back. A crash before the commit
 * leaves the old pack and an unfinished write, after it the new one. Who may call this, and
 * beside whom, is decided in retention/.
 */
import { Failure } from '../base/failure.ts'
import type { ObjectWriter, Storage } from '../storage/storage.ts'
import { damagedObject } from './envelope.ts'
import {
  dropFrame,
  encodePackEnd,
  encodePackHeader,
  type FrameEntry,
  frameHash,
  PACK_HEADER_BYTES,
} from './pack-format.ts'
import { openPack, type PackReader } from './pack-reader.ts'

/** Read and appended at once. */
const COPY_BYTES = 4 * 1024 * 1024

export interface CompactedPack {
  readonly packId: string
  readonly key: string
  readonly bytesBefore: number
  readonly bytesAfter: number
  /** Dropped now, not before. */
  readonly framesDropped: number
}

/**
 * Drops every frame that is not `isLive`; a frame that was dropped before stays so. Writes
 * nothing when there is none to drop. TM1601 when a living frame does not hold: the pack is left
 * as it is. TM1602 when it is gone.
 */
export async function compactPack(
  storage: Storage,
  cluster: string,
  packId: string,
  isLive: (ordinal: number, kind: number) => boolean,
): Promise<CompactedPack> {
  const pack = await openPack(storage, cluster, packId, 'repacking')
  const { key, sizeBytes: bytesBefore } = pack
  const dead = pack.frames.filter(
    ({ kind }, ordinal) => pack.holdsFrame(ordinal) && !isLive(ordinal, kind),
  )
  const framesDropped = dead.length
  if (framesDropped === 0) {
    return { packId, key, bytesBefore, bytesAfter: bytesBefore, framesDropped }
  }
  const writer = await storage.openWriter(key)
  let written: { readonly frames: readonly FrameEntry[]; readonly bytes: number }
  try {
    written = await writeSparse(pack, writer, isLive)
  } catch (error) {
    await writer.abort().catch(() => undefined)
    throw error
  }
  await writer.commit()
  await readBack(storage, cluster, pack, written.frames)
  return { packId, key, bytesBefore, bytesAfter: written.bytes, framesDropped }
}

async function writeSparse(
  pack: PackReader,
  writer: ObjectWriter,
  isLive: (ordinal: number, kind: number) => boolean,
) {
  const header = encodePackHeader(pack.packId, 'sparse')
  writer.append([header])
  const frames: FrameEntry[] = []
  let offset = PACK_HEADER_BYTES
  const keep = (ordinal: number): boolean =>
    pack.holdsFrame(ordinal) && isLive(ordinal, entryOf(pack, ordinal).kind)
  for (const { first, count } of groupKept(pack, keep)) {
    while (frames.length < first)
      frames.push({ ...dropFrame(entryOf(pack, frames.length)), offset })
    const stored = await pack.readStored(first, count)
    requireProved(pack, first, count, stored)
    writer.append([stored])
    for (let ordinal = first; ordinal < first + count; ordinal++) {
      const entry = entryOf(pack, ordinal)
      frames.push({ ...entry, offset })
      offset += entry.storedLength
    }
  }
  while (frames.length < pack.frames.length) {
    frames.push({ ...dropFrame(entryOf(pack, frames.length)), offset })
  }
  const end = encodePackEnd(header, frames, offset)
  writer.append([end])
  return { frames, bytes: offset + end.length }
}

function entryOf(pack: PackReader, ordinal: number): FrameEntry {
  return pack.frames[ordinal] as FrameEntry
}

/** Neighbours that are kept, as far as they are read at once. */
function* groupKept(
  pack: PackReader,
  keep: (ordinal: number) => boolean,
): Generator<{ first: number; count: number }> {
  let first = 0
  let bytes = 0
  let count = 0
  for (const [ordinal, { storedLength }] of pack.frames.entries()) {
    const kept = keep(ordinal)
    if (count > 0 && (!kept || bytes + storedLength > COPY_BYTES)) {
      yield { first, count }
      count = 0
    }
    if (!kept) continue
    if (count === 0) {
      first = ordinal
      bytes = 0
    }
    count++
    bytes += storedLength
  }
  if (count > 0) yield { first, count }
}

function requireProved(pack: PackReader, first: number, count: number, stored: Uint8Array): void {
  const start = entryOf(pack, first).offset
  for (let ordinal = first; ordinal < first + count; ordinal++) {
    const { offset, storedLength, hash } = entryOf(pack, ordinal)
    const bytes = stored.subarray(offset - start, offset - start + storedLength)
    if (frameHash(bytes).equals(hash)) continue
    throw damagedObject(pack.key, `frame ${ordinal} is not the one that was written`)
  }
}

/**
 * The store has acknowledged it; that it gives the same back is looked at all the same. Another
 * repacker may have replaced it meanwhile, by a pack that holds as well (TM1601 else).
 */
async function readBack(
  storage: Storage,
  cluster: string,
  { packId, frames: before }: PackReader,
  written: readonly FrameEntry[],
): Promise<void> {
  const { frames, key } = await openPack(storage, cluster, packId)
  if (haveSamePlaces(frames, written) || !haveSamePlaces(frames, before)) return
  throw new Failure('TM1920', {
    message: `the pack ${key} was replaced, and is still what it was`,
    because: 'keys were rewritten at the same time, or the storage gives back what it took before',
    fix: 'the next expiry repacks it again; when this lasts, look at the storage',
    details: { key },
  })
}

function haveSamePlaces(some: readonly FrameEntry[], others: readonly FrameEntry[]): boolean {
  if (some.length !== others.length) return false
  return some.every(({ codec, offset }, ordinal) => {
    const other = others[ordinal] as FrameEntry
    return other.codec === codec && other.offset === offset
  })
}
