/**
 * Reads packs: the index once, then frames by ordinal. Every byte handed out was proved
 * by the hashes of the index, and the index by the trailer.
 *
 * A pack may be replaced under its key by the same pack without its dead frames
 * (docs/design/repacking.md). A reader goes by the index that it has read: what it reads out of
 * the new object does not hold, and the pack is opened again, once, before that is damage.
 */
import { isFailure } from '../base/failure.ts'
import { copiesOf } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { damagedObject, missingObject } from './envelope.ts'
import { decodeFrame, decodeSharedFrame, decodeUnprovedFrame, proveFrame } from './frame-codec.ts'
import { type PackKeyOf, packKey } from './keys.ts'
import { openPackCopies } from './pack-copies.ts'
import {
  CODEC_DROPPED,
  type FrameEntry,
  isSparseHeader,
  PACK_HEADER_BYTES,
  PACK_TRAILER_BYTES,
  parsePackIndex,
  parsePackTrailer,
} from './pack-format.ts'

export interface PackReader {
  readonly key: string
  readonly packId: string
  readonly sizeBytes: number
  /** Frames of it were dropped: it is smaller than what was written first. */
  readonly isSparse: boolean
  /** Dropped ones too. */
  readonly frames: readonly FrameEntry[]
  /** True where the frame exists and was not dropped. */
  holdsFrame(ordinal: number): boolean
  /** One frame, proved and decompressed; TM1602 when it was dropped. */
  readFrame(ordinal: number): Promise<Uint8Array>
  /**
   * The stored bytes of frames [first, first + count), in one ranged read, in `into` where
   * that is given (of storedLength() bytes). Hand them to decodeStored() one by one: so a
   * caller decides how much is in memory. TM1601 when the pack ends before: ask reopen().
   */
  readStored(first: number, count: number, into?: Uint8Array): Promise<Uint8Array>
  /** Bytes of frames [first, first + count) as they are stored. */
  storedLength(first: number, count: number): number
  /**
   * Proves and decompresses frame `ordinal` out of readStored(first, …) of this reader. The
   * result holds until the next frame is decoded on this thread. After TM1601 ask reopen().
   */
  decodeStored(ordinal: number, first: number, stored: Uint8Array): Uint8Array
  /**
   * The same without the proof by hash, for a caller that proves every page by its
   * fingerprint, and asks decodeStored() which object is damaged when one differs.
   */
  decodeUnproved(ordinal: number, first: number, stored: Uint8Array): Uint8Array
  /**
   * For what did not hold: a reader of the pack as it is now, or undefined when it was not
   * replaced since this one was opened, so that what was found is damage.
   */
  reopen(): Promise<PackReader | undefined>
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

interface Place {
  readonly storage: Storage
  readonly cluster: string
  readonly packId: string
  readonly neededBy: string
  readonly keyOf: PackKeyOf
}

/**
 * Opens a pack and proves its index; TM1602 when it is missing, TM1601 when damaged. Of
 * storages that are read as one, the first that has it whole.
 */
export async function openPack(
  storage: Storage,
  cluster: string,
  packId: string,
  neededBy = 'a backup',
  keyOf: PackKeyOf = packKey,
): Promise<PackReader> {
  const place = { storage, cluster, packId, neededBy, keyOf }
  if (copiesOf(storage).length === 1) return await openAlone(place)
  return await openPackCopies(storage, keyOf(cluster, packId), async (copy) => {
    return await openAlone({ ...place, storage: copy })
  })
}

async function openAlone(place: Place): Promise<OpenPack> {
  try {
    return await openOnce(place)
  } catch (error) {
    // Size, trailer and index may be those of two objects.
    if (!isFailure(error, 'TM1601')) throw error
    return await openOnce(place)
  }
}

async function openOnce(place: Place): Promise<OpenPack> {
  const { storage, cluster, packId, neededBy, keyOf } = place
  const key = keyOf(cluster, packId)
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
  return new OpenPack(place, {
    sizeBytes,
    frames,
    isSparse: isSparseHeader(header),
    trailer: Uint8Array.from(trailerBytes),
    read,
  })
}

interface Opened {
  readonly sizeBytes: number
  readonly frames: readonly FrameEntry[]
  readonly isSparse: boolean
  /** Its hash tells versions of a pack apart. */
  readonly trailer: Uint8Array
  readonly read: ReadRange
}

class OpenPack implements PackReader {
  readonly key: string
  readonly packId: string
  readonly sizeBytes: number
  readonly isSparse: boolean
  readonly frames: readonly FrameEntry[]
  readonly isAway = false
  readonly trailer: Uint8Array
  readonly #place: Place
  readonly #read: ReadRange
  /** The pack as it was found when this reader met bytes of a newer one. */
  #successor: OpenPack | undefined

  constructor(place: Place, { sizeBytes, frames, isSparse, trailer, read }: Opened) {
    this.key = place.keyOf(place.cluster, place.packId)
    this.packId = place.packId
    this.sizeBytes = sizeBytes
    this.isSparse = isSparse
    this.frames = frames
    this.trailer = trailer
    this.#place = place
    this.#read = read
  }

  holdsFrame(ordinal: number): boolean {
    const entry = this.frames[ordinal]
    return entry !== undefined && entry.codec !== CODEC_DROPPED
  }

  async readFrame(ordinal: number): Promise<Uint8Array> {
    if (this.#successor !== undefined) return await this.#successor.readFrame(ordinal)
    try {
      return await this.#readFrame(ordinal)
    } catch (error) {
      if (!isFailure(error, 'TM1601')) throw error
      const successor = await this.reopen()
      if (successor === undefined) throw error
      return await successor.readFrame(ordinal)
    }
  }

  async #readFrame(ordinal: number): Promise<Uint8Array> {
    const entry = this.#entryAt(ordinal)
    const stored = await this.#read(entry.offset, entry.storedLength)
    return decodeFrame(this.key, ordinal, entry, stored)
  }

  storedLength(first: number, count: number): number {
    const last = this.#entryAt(first + count - 1)
    return last.offset + last.storedLength - this.#entryAt(first).offset
  }

  async readStored(first: number, count: number, into?: Uint8Array): Promise<Uint8Array> {
    return await this.#read(this.#entryAt(first).offset, this.storedLength(first, count), into)
  }

  decodeStored(ordinal: number, first: number, stored: Uint8Array): Uint8Array {
    const bytes = this.#bytesOf(ordinal, first, stored)
    return decodeSharedFrame(this.key, ordinal, this.#entryAt(ordinal), bytes)
  }

  decodeUnproved(ordinal: number, first: number, stored: Uint8Array): Uint8Array {
    const bytes = this.#bytesOf(ordinal, first, stored)
    return decodeUnprovedFrame(this.key, ordinal, this.#entryAt(ordinal), bytes)
  }

  async reopen(): Promise<OpenPack | undefined> {
    const opened = await openAlone(this.#place)
    if (Buffer.from(opened.trailer).equals(this.trailer)) return undefined
    this.#successor = opened
    return opened
  }

  async readCopy(ordinal: number): Promise<FrameCopy> {
    if (this.#successor !== undefined) return await this.#successor.readCopy(ordinal)
    try {
      const entry = this.#entryAt(ordinal)
      const stored = await this.#read(entry.offset, entry.storedLength)
      proveFrame(this.key, ordinal, entry, stored)
      return { reader: this, stored }
    } catch (error) {
      if (!isFailure(error, 'TM1601')) throw error
      const successor = await this.reopen()
      if (successor === undefined) throw error
      return await successor.readCopy(ordinal)
    }
  }

  #entryAt(ordinal: number): FrameEntry {
    const entry = this.frames[ordinal]
    if (entry === undefined) throw damagedObject(this.key, `it has no frame ${ordinal}`)
    return entry
  }

  #bytesOf(ordinal: number, first: number, stored: Uint8Array): Uint8Array {
    const { offset, storedLength } = this.#entryAt(ordinal)
    const start = offset - this.#entryAt(first).offset
    return stored.subarray(start, start + storedLength)
  }
}
