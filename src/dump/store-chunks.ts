/**
 * Stores chunks, lists of chunks and lists of objects as frames of the packs of one dump.
 *
 * Invariant: a chunk that is in the index is referred to, not stored again; the index names only
 * frames that a living member of the group has, or that this dump has written to all of them.
 */
import { createHash, hash } from 'node:crypto'
import type { FrameReference } from '../repository/backup-record.ts'
import { ChunkListBuilder } from '../repository/chunk-list.ts'
import type { DumpedFile } from '../repository/dump-record.ts'
import { FRAME_KINDS, type FrameKind } from '../repository/pack-format.ts'
import type { PackWriter } from '../repository/pack-writer.ts'
import type { ChunkIndex } from './chunk-index.ts'
import { ChunkCutter } from './cut-chunks.ts'

export class ChunkStore {
  readonly packs: PackWriter
  readonly #index: ChunkIndex
  /** Packs that frames were referred to in. */
  readonly usedPacks = new Set<string>()
  rawBytes = 0
  chunks = 0
  reusedChunks = 0
  reusedBytes = 0

  constructor(packs: PackWriter, index: ChunkIndex) {
    this.packs = packs
    this.#index = index
  }

  /** Adds a chunk to `list`, after it was stored where it must be. */
  async store(chunk: Uint8Array, list: ChunkListBuilder): Promise<void> {
    const digest = hash('sha256', chunk, 'buffer')
    this.chunks++
    this.rawBytes += chunk.length
    const known = this.#index.find(digest, chunk.length)
    if (known >= 0) {
      const pack = this.#index.packOf(known)
      this.usedPacks.add(pack)
      this.reusedChunks++
      this.reusedBytes += chunk.length
      return list.add(digest, chunk.length, pack, this.#index.frameOf(known))
    }
    const { pack, frame } = await this.addFrame(FRAME_KINDS.chunk, chunk)
    this.#index.add(digest, chunk.length, pack, frame)
    list.add(digest, chunk.length, pack, frame)
  }

  async addFrame(kind: FrameKind, raw: Uint8Array): Promise<FrameReference> {
    if (this.packs.needsPack) await this.packs.begin()
    const reference = this.packs.add(kind, raw, 1, [])
    this.packs.closeIfFull()
    this.usedPacks.add(reference.pack)
    return reference
  }
}

/** One file of the dump, from its first byte to its last. */
export class StoredFile {
  readonly #name: string
  readonly #store: ChunkStore
  readonly #cutter = new ChunkCutter()
  readonly #list = new ChunkListBuilder()
  readonly #lists: FrameReference[] = []
  readonly #hash = createHash('sha256')
  #bytes = 0

  constructor(name: string, store: ChunkStore) {
    this.#name = name
    this.#store = store
  }

  get bytes(): number {
    return this.#bytes
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes)
    this.#bytes += bytes.length
    for (const chunk of this.#cutter.cut(bytes)) await this.#storeChunk(chunk)
  }

  async finish(): Promise<DumpedFile> {
    const last = this.#cutter.finish()
    if (last !== undefined) await this.#storeChunk(last)
    if (this.#list.count > 0) await this.#storeList()
    return {
      name: this.#name,
      bytes: this.#bytes,
      sha256: this.#hash.digest('hex'),
      chunkLists: this.#lists,
    }
  }

  async #storeChunk(chunk: Uint8Array): Promise<void> {
    await this.#store.store(chunk, this.#list)
    if (this.#list.isFull) await this.#storeList()
  }

  async #storeList(): Promise<void> {
    this.#lists.push(await this.#store.addFrame(FRAME_KINDS.chunkList, this.#list.take()))
  }
}
