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

  /** Empty between files; they are made once, since a directory has many small ones. */
  readonly cutter = new ChunkCutter()
  readonly list = new ChunkListBuilder()

  constructor(packs: PackWriter, index: ChunkIndex) {
    this.packs = packs
    this.#index = index
  }

  /** Adds a chunk to the list, after it was stored where it must be. */
  async store(chunk: Uint8Array): Promise<void> {
    const { list } = this
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

/**
 * One file of the dump, from its first byte to its last.
 *
 * Invariant: after a call that failed, or while another one runs, every call fails: a file is never
 * finished without a byte of it, or with its bytes in another order.
 */
export class StoredFile {
  readonly #name: string
  readonly #store: ChunkStore
  readonly #lists: FrameReference[] = []
  readonly #hash = createHash('sha256')
  #bytes = 0
  #isUsable = true

  constructor(name: string, store: ChunkStore) {
    this.#name = name
    this.#store = store
  }

  get bytes(): number {
    return this.#bytes
  }

  async append(bytes: Uint8Array): Promise<void> {
    await this.#alone(async () => {
      this.#hash.update(bytes)
      this.#bytes += bytes.length
      for (const chunk of this.#store.cutter.cut(bytes)) await this.#storeChunk(chunk)
    })
  }

  async finish(): Promise<DumpedFile> {
    return await this.#alone(async () => {
      const last = this.#store.cutter.finish()
      if (last !== undefined) await this.#storeChunk(last)
      if (this.#store.list.count > 0) await this.#storeList()
      const sha256 = this.#hash.digest('hex')
      return { name: this.#name, bytes: this.#bytes, sha256, chunkLists: this.#lists }
    })
  }

  async #alone<T>(act: () => Promise<T>): Promise<T> {
    if (!this.#isUsable) throw new Error(`${this.#name}: a call runs, or one has failed`)
    this.#isUsable = false
    const result = await act()
    this.#isUsable = true
    return result
  }

  async #storeChunk(chunk: Uint8Array): Promise<void> {
    await this.#store.store(chunk)
    if (this.#store.list.isFull) await this.#storeList()
  }

  async #storeList(): Promise<void> {
    this.#lists.push(await this.#store.addFrame(FRAME_KINDS.chunkList, this.#store.list.take()))
  }
}
