/**
 * Writes the packs of one worker: frames in, references out. Synchronous up to the close
 * of a pack, whose fsync runs while the next one is filled.
 *
 * Invariant: a reference handed out is good only after finish() is fulfilled.
 */
import type { ObjectWriter } from '../storage/storage.ts'
import type { WriterSource } from '../storage/write-group.ts'
import type { FrameReference } from './backup-record.ts'
import { encodeFrame } from './frame-codec.ts'
import { formatPackId, type PackKeyOf, packKey } from './keys.ts'
import {
  encodePackEnd,
  encodePackHeader,
  type FrameEntry,
  type FrameExtent,
  type FrameKind,
  frameHash,
  PACK_HEADER_BYTES,
  PACK_TARGET_BYTES,
} from './pack-format.ts'

/** A pack that was written: its frames and its stored size. */
export interface PackSummary {
  readonly id: string
  readonly frames: number
  readonly bytes: number
}

export interface PackWriterOptions {
  readonly storage: WriterSource
  readonly cluster: string
  readonly attemptId: string
  /** Sequence numbers that this writer may use: first, first + step, … */
  readonly firstSequence: number
  readonly sequenceStep: number
  readonly compressionLevel: number
  readonly packTargetBytes?: number
  /** Of a pack; packKey() unless told. */
  readonly keyOf?: PackKeyOf
}

interface OpenPack {
  readonly id: string
  readonly header: Uint8Array
  readonly writer: ObjectWriter
  readonly frames: FrameEntry[]
  offset: number
}

/** At most this many closed packs wait for their fsync at once. */
const MAX_PENDING_COMMITS = 2

export class PackWriter {
  readonly #options: PackWriterOptions
  #sequence: number
  #open: OpenPack | undefined
  readonly #pending = new Set<Promise<void>>()
  #failure: unknown
  readonly packs: PackSummary[] = []

  constructor(options: PackWriterOptions) {
    this.#options = options
    this.#sequence = options.firstSequence
  }

  /** True when the next frame begins a new pack: begin() must be awaited before add(). */
  get needsPack(): boolean {
    return this.#open === undefined
  }

  /** The pack that the next frame goes into. */
  get openPackId(): string | undefined {
    return this.#open?.id
  }

  /** Bytes of all packs so far; the one that is open counts without its index. */
  get bytesWritten(): number {
    return this.packs.reduce((sum, { bytes }) => sum + bytes, this.#open?.offset ?? 0)
  }

  /** Opens the next pack, waiting for the fsync of earlier ones where too many pend. */
  async begin(): Promise<void> {
    while (this.#pending.size >= MAX_PENDING_COMMITS) await Promise.race(this.#pending)
    this.#rethrow()
    const { storage, cluster, attemptId, sequenceStep, keyOf = packKey } = this.#options
    const id = formatPackId(attemptId, this.#sequence)
    this.#sequence += sequenceStep
    const header = encodePackHeader(id)
    const writer = await storage.openWriter(keyOf(cluster, id))
    this.#open = { id, header, writer, frames: [], offset: PACK_HEADER_BYTES }
    writer.append([header])
  }

  /** Compresses and appends one frame. The bytes of `raw` may be reused on return. */
  add(
    kind: FrameKind,
    raw: Uint8Array,
    slots: number,
    extents: readonly FrameExtent[],
  ): FrameReference {
    const pack = this.#open
    if (pack === undefined) throw new Error('add() without an open pack')
    const { codec, stored } = encodeFrame(raw, this.#options.compressionLevel)
    pack.writer.append([stored])
    const reference = { pack: pack.id, frame: pack.frames.length }
    pack.frames.push({
      kind,
      codec,
      slots,
      offset: pack.offset,
      storedLength: stored.length,
      rawLength: raw.length,
      hash: frameHash(stored),
      extents,
    })
    pack.offset += stored.length
    return reference
  }

  /**
   * Closes the pack when it is large enough. The commit goes on by itself; its failure
   * comes out of the next begin() or of finish().
   */
  closeIfFull(): void {
    const target = this.#options.packTargetBytes ?? PACK_TARGET_BYTES
    if (this.#open !== undefined && this.#open.offset >= target) this.#close()
  }

  /** Closes the open pack and waits until every pack is durable. */
  async finish(): Promise<void> {
    this.#close()
    await Promise.all(this.#pending)
    this.#rethrow()
  }

  /**
   * Leaves nothing of the open pack behind; closed ones belong to the hold's attempt. No
   * commit runs any more when it is settled.
   */
  async abort(): Promise<void> {
    const pack = this.#open
    this.#open = undefined
    try {
      await pack?.writer.abort()
    } finally {
      await Promise.all(this.#pending)
    }
  }

  #close(): void {
    const pack = this.#open
    if (pack === undefined) return
    const end = encodePackEnd(pack.header, pack.frames, pack.offset)
    pack.writer.append([end])
    this.#open = undefined
    this.packs.push({
      id: pack.id,
      frames: pack.frames.length,
      bytes: pack.offset + end.length,
    })
    const commit: Promise<void> = pack.writer
      .commit()
      .catch((error: unknown) => {
        this.#failure ??= error
      })
      .finally(() => this.#pending.delete(commit))
    this.#pending.add(commit)
  }

  #rethrow(): void {
    if (this.#failure !== undefined) throw this.#failure
  }
}
