/**
 * Reads runs of chunks: what lies together in a pack is read in one go, and the next runs are on
 * their way while one is handed out.
 *
 * Invariants: every chunk was proved by the hash in its list; at most RUNS_AT_ONCE runs of
 * RUN_BYTES are in memory, whatever the size of the dump.
 */
import { hash } from 'node:crypto'
import { type Failure, isFailure } from '../base/failure.ts'
import { CHUNK_HASH_BYTES, type ChunkList } from '../repository/chunk-list.ts'
import { damagedObject } from '../repository/envelope.ts'
import type { PackCache } from '../repository/pack-cache.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import type { FrameCopy, PackReader } from '../repository/pack-reader.ts'
import { copiesOf } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { requireKind } from './read-dump-frame.ts'

const RUN_BYTES = 1024 * 1024
export const RUNS_AT_ONCE = 8

/** Chunks of one list that lie one behind the other in one pack. */
export interface ChunkRun {
  readonly list: ChunkList
  /** Number of the first one in the list. */
  readonly first: number
  readonly count: number
  readonly rawBytes: number
}

/** `isWanted`: chunks that it refuses are in no run. */
export function* planRuns(
  list: ChunkList,
  isWanted: (chunk: number) => boolean = () => true,
): Generator<ChunkRun, void, undefined> {
  let first = 0
  while (first < list.count) {
    if (!isWanted(first)) {
      first++
      continue
    }
    const pack = list.packOf(first)
    let rawBytes = list.rawLengthOf(first)
    let next = first + 1
    while (next < list.count && rawBytes + list.rawLengthOf(next) <= RUN_BYTES) {
      const isBehind = list.frameOf(next) === list.frameOf(next - 1) + 1
      if (!isBehind || list.packOf(next) !== pack || !isWanted(next)) break
      rawBytes += list.rawLengthOf(next++)
    }
    yield { list, first, count: next - first, rawBytes }
    first = next
  }
}

/** A run as it is stored. */
export interface StoredRun extends ChunkRun {
  /** Undefined where it did not come in one piece. */
  readonly read: FrameCopy | undefined
  /** Used again once the run was proved. */
  readonly memory: Uint8Array | undefined
}

export class ChunkReader {
  readonly #packs: PackCache
  readonly #hasCopies: boolean
  readonly #memory: Uint8Array[] = []
  readonly #opening = new Map<string, Promise<PackReader>>()

  constructor(storage: Storage, packs: PackCache) {
    this.#packs = packs
    this.#hasCopies = copiesOf(storage).length > 1
  }

  /** Fails only for what no other way of reading can heal. */
  async load(run: ChunkRun): Promise<StoredRun> {
    try {
      const reader = await this.#open(run.list.packOf(run.first))
      const first = run.list.frameOf(run.first)
      const length = reader.storedLength(first, run.count)
      const memory =
        length <= RUN_BYTES ? (this.#memory.pop() ?? new Uint8Array(RUN_BYTES)) : undefined
      const stored = await reader.readStored(first, run.count, memory?.subarray(0, length))
      return { ...run, read: { reader, stored }, memory }
    } catch (error) {
      if (!this.#mayHeal(error)) throw error
      return { ...run, read: undefined, memory: undefined }
    }
  }

  /** Runs that are on their way together open a pack once. */
  async #open(packId: string): Promise<PackReader> {
    let opening = this.#opening.get(packId)
    if (opening === undefined) {
      opening = this.#packs.open(packId).finally(() => this.#opening.delete(packId))
      this.#opening.set(packId, opening)
    }
    return await opening
  }

  /** A pack that was replaced, or another repository, may have what did not hold. */
  #mayHeal(error: unknown): boolean {
    if (!isFailure(error)) return false
    return error.code === 'TM1601' || error.code === 'TM1602' || this.#hasCopies
  }

  /**
   * The raw bytes of the run. `tell` hears of every chunk that nobody has whole, and may throw
   * what it hears; else the run comes out as undefined.
   */
  async prove(run: StoredRun, tell: (failure: Failure) => void): Promise<Uint8Array | undefined> {
    const raw = Buffer.allocUnsafeSlow(run.rawBytes)
    let isWhole = true
    let at = 0
    for (let chunk = run.first; chunk < run.first + run.count; chunk++) {
      try {
        await this.#proveChunk(run, chunk, raw, at)
      } catch (error) {
        if (!isDamage(error)) throw error
        tell(error)
        isWhole = false
      }
      at += run.list.rawLengthOf(chunk)
    }
    if (run.memory !== undefined) this.#memory.push(run.memory)
    return isWhole ? raw : undefined
  }

  async #proveChunk(
    { list, first, read }: StoredRun,
    chunk: number,
    into: Buffer,
    at: number,
  ): Promise<void> {
    if (read !== undefined) {
      try {
        return decodeChunk(list, chunk, read, list.frameOf(first), into, at)
      } catch (error) {
        if (!this.#mayHeal(error)) throw error
      }
    }
    const frame = list.frameOf(chunk)
    const pack = await this.#packs.open(list.packOf(chunk))
    const copy = await pack.readCopy(frame)
    decodeChunk(list, chunk, copy, frame, into, at)
  }
}

/** Missing, damaged, or of another dump: about this object, not about the repository. */
export function isDamage(error: unknown): error is Failure {
  if (!isFailure(error)) return false
  return error.code === 'TM1601' || error.code === 'TM1602'
}

/** What comes out is proved by its own hash; that of the stored bytes would cost a tenth more. */
function decodeChunk(
  list: ChunkList,
  chunk: number,
  { reader, stored }: FrameCopy,
  firstFrame: number,
  into: Buffer,
  at: number,
): void {
  const frame = list.frameOf(chunk)
  requireKind(reader, frame, FRAME_KINDS.chunk)
  const raw = reader.decodeUnproved(frame, firstFrame, stored)
  const digest = hash('sha256', raw, 'buffer').subarray(0, CHUNK_HASH_BYTES)
  if (raw.length !== list.rawLengthOf(chunk) || !digest.equals(list.hashOf(chunk))) {
    throw damagedObject(reader.key, `its frame ${frame} is not the chunk that a dump refers to`)
  }
  into.set(raw, at)
}
