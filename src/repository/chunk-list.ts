/**
 * Lists of chunks: which frames a run of a dumped file is made of (docs/design/dumps.md,
 * section 1). Pure.
 *
 * | size | chunk list |
 * |---|---|
 * | 4 | number of packs P |
 * | 4 | number of chunks C, 1 to 4096 |
 * | 16·P | pack ids |
 * | 28·C | chunks |
 *
 * | size | chunk |
 * |---|---|
 * | 16 | first 16 bytes of the SHA-256 of its raw bytes |
 * | 4 | raw length, 1 to 262144 |
 * | 4 | number of its pack in this list |
 * | 4 | frame |
 *
 * Invariant: what decodeChunkList() returns names for every chunk a pack of the list, and a
 * length that a chunk may have.
 */
import { damagedObject } from './envelope.ts'

export const CHUNKS_PER_LIST = 4096
export const MAX_CHUNK_BYTES = 256 * 1024
export const CHUNK_HASH_BYTES = 16

const HEAD_BYTES = 8
const PACK_ID_BYTES = 16
const CHUNK_BYTES = 28

/** Collects the chunks of one list. */
export class ChunkListBuilder {
  readonly #chunks = Buffer.alloc(CHUNKS_PER_LIST * CHUNK_BYTES)
  readonly #packs = new Map<string, number>()
  #count = 0

  get count(): number {
    return this.#count
  }

  get isFull(): boolean {
    return this.#count === CHUNKS_PER_LIST
  }

  /** `hash` has at least 16 bytes. */
  add(hash: Uint8Array, rawLength: number, packId: string, frame: number): void {
    let pack = this.#packs.get(packId)
    if (pack === undefined) {
      pack = this.#packs.size
      this.#packs.set(packId, pack)
    }
    const at = this.#count * CHUNK_BYTES
    this.#chunks.set(hash.subarray(0, CHUNK_HASH_BYTES), at)
    this.#chunks.writeUInt32LE(rawLength, at + 16)
    this.#chunks.writeUInt32LE(pack, at + 20)
    this.#chunks.writeUInt32LE(frame, at + 24)
    this.#count++
  }

  /** The bytes of the list; then it is empty. */
  take(): Uint8Array {
    const head = Buffer.alloc(HEAD_BYTES)
    head.writeUInt32LE(this.#packs.size, 0)
    head.writeUInt32LE(this.#count, 4)
    const ids = [...this.#packs.keys()].map((id) => Buffer.from(id, 'hex'))
    const list = Buffer.concat([head, ...ids, this.#chunks.subarray(0, this.#count * CHUNK_BYTES)])
    this.#packs.clear()
    this.#count = 0
    return list
  }
}

/** A list that was read; chunks go by their numbers in it. */
export class ChunkList {
  readonly packs: readonly string[]
  readonly count: number
  readonly #chunks: Buffer

  constructor(packs: readonly string[], chunks: Buffer) {
    this.packs = packs
    this.count = chunks.length / CHUNK_BYTES
    this.#chunks = chunks
  }

  /** First 16 bytes of the SHA-256 of the raw bytes. */
  hashOf(chunk: number): Buffer {
    const at = chunk * CHUNK_BYTES
    return this.#chunks.subarray(at, at + CHUNK_HASH_BYTES)
  }

  rawLengthOf(chunk: number): number {
    return this.#chunks.readUInt32LE(chunk * CHUNK_BYTES + 16)
  }

  packOf(chunk: number): string {
    return this.packs[this.#chunks.readUInt32LE(chunk * CHUNK_BYTES + 20)] as string
  }

  frameOf(chunk: number): number {
    return this.#chunks.readUInt32LE(chunk * CHUNK_BYTES + 24)
  }
}

/** `raw` is frame `frame` of the pack `key`; TM1601 naming it where that is no chunk list. */
export function decodeChunkList(key: string, frame: number, raw: Uint8Array): ChunkList {
  const bytes = Buffer.from(raw)
  const refuse = (because: string): Error =>
    damagedObject(key, `frame ${frame} is no list of chunks: ${because}`)
  if (bytes.length < HEAD_BYTES) throw refuse('it is too short')
  const packCount = bytes.readUInt32LE(0)
  const count = bytes.readUInt32LE(4)
  const chunksAt = HEAD_BYTES + packCount * PACK_ID_BYTES
  if (bytes.length !== chunksAt + count * CHUNK_BYTES) throw refuse('its length is another')
  if (count === 0 || count > CHUNKS_PER_LIST) throw refuse(`it has ${count} chunks`)
  for (let at = chunksAt; at < bytes.length; at += CHUNK_BYTES) {
    const length = bytes.readUInt32LE(at + 16)
    if (length === 0 || length > MAX_CHUNK_BYTES) throw refuse(`a chunk has ${length} bytes`)
    if (bytes.readUInt32LE(at + 20) >= packCount) throw refuse('it names a pack without an id')
  }
  const packs = Array.from({ length: packCount }, (_, pack) => {
    const at = HEAD_BYTES + pack * PACK_ID_BYTES
    return bytes.toString('hex', at, at + PACK_ID_BYTES)
  })
  return new ChunkList(packs, bytes.subarray(chunksAt))
}
