/**
 * One pack of several repositories that are read as one: opened in the first that has it
 * whole; a frame that this one cannot give is taken from the next. An ordinal names the same
 * frame everywhere, though not at the same offset, and what was dropped in one may be in another.
 *
 * Invariant: a frame from another repository was proved by the hash in the index there, and
 * that index by its pack's trailer.
 */
import { isAway, takeFromFirst } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { FrameEntry } from './pack-format.ts'
import type { FrameCopy, PackReader } from './pack-reader.ts'

type OpenAlone = (copy: Storage) => Promise<PackReader>

/** TM1601 or TM1602 with what is wrong in each, when none has it. */
export async function openPackCopies(
  storage: Storage,
  key: string,
  open: OpenAlone,
): Promise<PackReader> {
  const opened = await takeFromFirst(storage, key, async (copy) => {
    return { copy, reader: await open(copy) }
  })
  // A missing pack is a failure of `open`, so that one was opened or that was thrown.
  if (opened === undefined) throw new Error(`${key} was neither opened nor refused`)
  return new PackCopies(storage, opened.copy, opened.reader, open)
}

class PackCopies implements PackReader {
  readonly key: string
  readonly packId: string
  readonly sizeBytes: number
  readonly isSparse: boolean
  readonly frames: readonly FrameEntry[]
  readonly #storage: Storage
  /** Where it was opened. */
  readonly #home: Storage
  readonly #reader: PackReader
  readonly #open: OpenAlone
  readonly #others = new Map<Storage, Promise<PackReader>>()

  constructor(storage: Storage, home: Storage, reader: PackReader, open: OpenAlone) {
    this.key = reader.key
    this.packId = reader.packId
    this.sizeBytes = reader.sizeBytes
    this.isSparse = reader.isSparse
    this.frames = reader.frames
    this.#storage = storage
    this.#home = home
    this.#reader = reader
    this.#open = open
  }

  get isAway(): boolean {
    return isAway(this.#storage, this.#home)
  }

  holdsFrame(ordinal: number): boolean {
    return this.#reader.holdsFrame(ordinal)
  }

  storedLength(first: number, count: number): number {
    return this.#reader.storedLength(first, count)
  }

  async readStored(first: number, count: number, into?: Uint8Array): Promise<Uint8Array> {
    return await this.#reader.readStored(first, count, into)
  }

  decodeStored(ordinal: number, first: number, stored: Uint8Array): Uint8Array {
    return this.#reader.decodeStored(ordinal, first, stored)
  }

  decodeUnproved(ordinal: number, first: number, stored: Uint8Array): Uint8Array {
    return this.#reader.decodeUnproved(ordinal, first, stored)
  }

  async reopen(): Promise<PackReader | undefined> {
    const now = await this.#reader.reopen()
    if (now === undefined) return undefined
    return new PackCopies(this.#storage, this.#home, now, this.#open)
  }

  async readFrame(ordinal: number): Promise<Uint8Array> {
    const { reader, stored } = await this.readCopy(ordinal)
    const raw = reader.decodeUnproved(ordinal, ordinal, stored)
    return raw === stored ? raw : new Uint8Array(raw)
  }

  async readCopy(ordinal: number): Promise<FrameCopy> {
    const copied = await takeFromFirst(this.#storage, this.key, async (copy) => {
      return await (await this.#readerIn(copy)).readCopy(ordinal)
    })
    if (copied === undefined) throw new Error(`${this.key} was neither read nor refused`)
    return copied
  }

  /** One that cannot be opened there is not asked for again, until this reader is forgotten. */
  async #readerIn(copy: Storage): Promise<PackReader> {
    if (copy === this.#home) return this.#reader
    let other = this.#others.get(copy)
    if (other === undefined) {
      other = this.#open(copy)
      this.#others.set(copy, other)
    }
    return await other
  }
}
