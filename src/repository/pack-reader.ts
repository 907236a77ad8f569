/**
 * Reads packs: the index once, then frames by ordinal. Every byte handed out was proved
 * by the hashes of the index, and the index by the trailer.
 */
import { copiesOf } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { damagedObject, missingObject } from './envelope.ts'
import { decodeFrame, decodeSharedFrame, decodeUnprovedFrame, proveFrame } from './frame-codec.ts'
import { packKey } from './keys.ts'
import { openPackCopies } from './pack-copies.ts'
import {
  type FrameEntry,
  PACK_HEADER_BYTES,
  PACK_TRAILER_BYTES,
  parsePackIndex,
  parsePackTrailer,
} from './pack-format.ts'

export interface PackReader {
  readonly key: string
  readonly packId: string
  readonly sizeBytes: number
  readonly frames: readonly FrameEntry[]
  /** One frame, proved and decompressed. */
  readFrame(ordinal: number): Promise<Uint8Array>
  /**
   * The stored bytes of frames [first, first + count), in one ranged read, in `into` where
   * that is given (of storedLength() bytes). Hand them to decodeStored() one by one: so a
   * caller decides how much is in memory.
   */
  readStored(first: number, count: number, into?: Uint8Array): Promise<Uint8Array>
  /** Bytes of frames [first, first + count) as they are stored. */
  storedLength(first: number, count: number): number
  /**
   * Proves and decompresses frame `ordinal` out of readStored(first, …). The result holds
   * until the next frame is decoded on this thread.
   */
  decodeStored(ordinal: number, first: number, stored: Uint8Array): Uint8Array
  /**
   * The same without the proof by hash, for a caller that proves every page by its
   * fingerprint, and asks decodeStored() which object is damaged when one differs.
   */
  decodeUnproved(ordinal: number, first: number, stored: Uint8Array): Uint8Array
  /** The stored bytes of one frame, proved, from whichever repository has them. */
  readCopy(ordinal: number): Promise<FrameCopy>
  /** The repository that it was opened in does not answer any more: open it again. */
  readonly isAway: boolean
}

/** What `reader` decodes with decodeStored(ordinal, ordinal, stored). */
export interface FrameCopy {
  readonly reader: PackReader
  readonly stored: Uint8Array
}

type ReadRange = (offset: number, length: number, into?: Uint8Array) => Promise<Uint8Array>

/**
 * Opens a pack and proves its index; TM1602 when it is missing, TM1601 when damaged. Of
 * storages that are read as one, the first that has it whole.
 */
export async function openPack(
  storage: Storage,
  cluster: string,
  packId: string,
  neededBy = 'a backup',
): Promise<PackReader> {
  if (copiesOf(storage).length === 1) return await openAlone(storage, cluster, packId, neededBy)
  const open = async (copy: Storage) => await openAlone(copy, cluster, packId, neededBy)
  return await openPackCopies(storage, packKey(cluster, packId), open)
}

async function openAlone(
  storage: Storage,
  cluster: string,
  packId: string,
  neededBy: string,
): Promise<PackReader> {
  const key = packKey(cluster, packId)
  const sizeBytes = await storage.size(key)
  if (sizeBytes === undefined) throw missingObject(key, neededBy)
  if (sizeBytes < PACK_HEADER_BYTES + PACK_TRAILER_BYTES) {
    throw damagedObject(key, `it has only ${sizeBytes} bytes`)
  }
  const read: ReadRange = async (offset, length, into) => {
    const bytes = await storage.readRange(key, offset, length, into)
    if (bytes === undefined) throw missingObject(key, neededBy)
    if (bytes.length !== length) throw damagedObject(key, 'it has been cut short')
    return bytes
  }
  const trailerBytes = await read(sizeBytes - PACK_TRAILER_BYTES, PACK_TRAILER_BYTES)
  const trailer = parsePackTrailer(key, trailerBytes, sizeBytes)
  const header = await read(0, PACK_HEADER_BYTES)
  const index = await read(trailer.indexOffset, trailer.indexStoredLength)
  const frames = parsePackIndex(key, packId, header, index, trailerBytes)
  return makeReader(key, packId, sizeBytes, frames, read)
}

function makeReader(
  key: string,
  packId: string,
  sizeBytes: number,
  frames: readonly FrameEntry[],
  read: ReadRange,
): PackReader {
  const entryAt = (ordinal: number): FrameEntry => {
    const entry = frames[ordinal]
    if (entry === undefined) throw damagedObject(key, `it has no frame ${ordinal}`)
    return entry
  }
  const bytesOf = (ordinal: number, first: number, stored: Uint8Array): Uint8Array => {
    const { offset, storedLength: length } = entryAt(ordinal)
    const start = offset - entryAt(first).offset
    return stored.subarray(start, start + length)
  }
  const storedLength = (first: number, count: number): number => {
    const last = entryAt(first + count - 1)
    return last.offset + last.storedLength - entryAt(first).offset
  }
  const reader: PackReader = {
    key,
    packId,
    sizeBytes,
    frames,
    isAway: false,
    async readFrame(ordinal) {
      const entry = entryAt(ordinal)
      return decodeFrame(key, ordinal, entry, await read(entry.offset, entry.storedLength))
    },
    storedLength,
    async readStored(first, count, into) {
      return await read(entryAt(first).offset, storedLength(first, count), into)
    },
    decodeStored(ordinal, first, stored) {
      return decodeSharedFrame(key, ordinal, entryAt(ordinal), bytesOf(ordinal, first, stored))
    },
    decodeUnproved(ordinal, first, stored) {
      return decodeUnprovedFrame(key, ordinal, entryAt(ordinal), bytesOf(ordinal, first, stored))
    },
    async readCopy(ordinal) {
      const entry = entryAt(ordinal)
      const stored = await read(entry.offset, entry.storedLength)
      proveFrame(key, ordinal, entry, stored)
      return { reader, stored }
    },
  }
  return reader
}
