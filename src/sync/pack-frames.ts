/**
 * A pack as a copier sees it: header, index and trailer as they lie there, and the stored
 * bytes of its frames, each proved by its hash. Nothing is decompressed.
 */
import { damagedObject } from '../repository/envelope.ts'
import { type PackKeyOf, packKey } from '../repository/keys.ts'
import {
  CODEC_DROPPED,
  type FrameEntry,
  frameHash,
  PACK_HEADER_BYTES,
  PACK_TRAILER_BYTES,
  parsePackIndex,
  parsePackTrailer,
} from '../repository/pack-format.ts'
import type { Storage } from '../storage/storage.ts'
import { isDamage } from './damage.ts'

export interface PackShape {
  readonly key: string
  readonly packId: string
  readonly sizeBytes: number
  readonly header: Uint8Array
  readonly frames: readonly FrameEntry[]
  /** Index and trailer. */
  readonly tail: Uint8Array
}

export function isKept(entry: FrameEntry): boolean {
  return entry.codec !== CODEC_DROPPED
}

/** Undefined when the pack is proved absent; TM1601 when its index does not hold. */
export async function findPackShape(
  storage: Storage,
  cluster: string,
  packId: string,
  keyOf: PackKeyOf = packKey,
): Promise<PackShape | undefined> {
  const key = keyOf(cluster, packId)
  const sizeBytes = await storage.size(key)
  if (sizeBytes === undefined) return undefined
  if (sizeBytes < PACK_HEADER_BYTES + PACK_TRAILER_BYTES) {
    throw damagedObject(key, `it has only ${sizeBytes} bytes`)
  }
  const read = async (offset: number): Promise<Uint8Array> => {
    return await readExactly(storage, key, offset, sizeBytes - offset)
  }
  const trailerBytes = await read(sizeBytes - PACK_TRAILER_BYTES)
  const { indexOffset } = parsePackTrailer(key, trailerBytes, sizeBytes)
  const header = await readExactly(storage, key, 0, PACK_HEADER_BYTES)
  const tail = await read(indexOffset)
  const index = tail.subarray(0, tail.length - PACK_TRAILER_BYTES)
  const proof = tail.subarray(tail.length - PACK_TRAILER_BYTES)
  const frames = parsePackIndex(key, packId, header, index, proof)
  const end = frames.at(-1)
  const framesEnd = end === undefined ? PACK_HEADER_BYTES : end.offset + end.storedLength
  if (framesEnd !== indexOffset) throw damagedObject(key, 'its frames do not end at its index')
  return { key, packId, sizeBytes, header, frames, tail }
}

/** Read at once; a larger frame is read alone. */
const READ_BYTES = 4 * 1024 * 1024

/** The frames of one pack, asked for by rising ordinals. */
export class StoredFrames {
  readonly shape: PackShape
  readonly #storage: Storage
  #first = 0
  #end = 0
  #bytes: Uint8Array = new Uint8Array(0)

  constructor(storage: Storage, shape: PackShape) {
    this.#storage = storage
    this.shape = shape
  }

  /** The stored bytes where the pack keeps the frame and its hash holds. */
  async findProved(ordinal: number): Promise<Uint8Array | undefined> {
    const entry = this.shape.frames[ordinal]
    if (entry === undefined || !isKept(entry)) return undefined
    const bytes = await this.findStored(ordinal)
    if (bytes === undefined) return undefined
    return frameHash(bytes).equals(entry.hash) ? bytes : undefined
  }

  /** The bytes at the frame's place, proved or not; undefined where the disk does not give them. */
  async findStored(ordinal: number): Promise<Uint8Array | undefined> {
    if (ordinal < this.#first || ordinal >= this.#end) {
      try {
        await this.#load(ordinal, this.#groupEnd(ordinal))
      } catch (error) {
        if (!isDamage(error)) throw error
        return await this.#findAlone(ordinal)
      }
    }
    const { offset, storedLength } = this.#entry(ordinal)
    const start = offset - this.#entry(this.#first).offset
    return this.#bytes.subarray(start, start + storedLength)
  }

  /** A place that cannot be read costs its own frame only. */
  async #findAlone(ordinal: number): Promise<Uint8Array | undefined> {
    try {
      await this.#load(ordinal, ordinal + 1)
      return this.#bytes
    } catch (error) {
      if (!isDamage(error)) throw error
      this.#end = this.#first
      return undefined
    }
  }

  async #load(first: number, end: number): Promise<void> {
    const { offset } = this.#entry(first)
    const last = this.#entry(end - 1)
    const length = last.offset + last.storedLength - offset
    this.#bytes = await readExactly(this.#storage, this.shape.key, offset, length)
    this.#first = first
    this.#end = end
  }

  #groupEnd(first: number): number {
    const { frames } = this.shape
    const from = this.#entry(first).offset
    let end = first + 1
    for (; end < frames.length; end++) {
      const { offset, storedLength } = this.#entry(end)
      if (offset + storedLength - from > READ_BYTES) break
    }
    return end
  }

  #entry(ordinal: number): FrameEntry {
    return this.shape.frames[ordinal] as FrameEntry
  }
}

async function readExactly(
  storage: Storage,
  key: string,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = await storage.readRange(key, offset, length)
  if (bytes === undefined) throw damagedObject(key, 'it went away while it was read')
  if (bytes.length !== length) throw damagedObject(key, 'it has been cut short')
  return bytes
}
