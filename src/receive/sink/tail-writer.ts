/**
 * Writes the tail of one segment into one repository, as a journal or as pieces
 * (docs/design/tails.md, section 2).
 *
 * Invariants: what write() was given is durable when it is fulfilled; after a failure the next
 * write() begins anew, from the segment's first byte, under a new name.
 */
import { now } from '../../base/clock.ts'
import { randomHex } from '../../base/random.ts'
import { journalKey, pieceKey } from '../../archive/tail-keys.ts'
import {
  encodeTailChunk,
  encodeTailHead,
  encodeTailPiece,
  type TailHead,
} from '../../archive/tail-format.ts'
import { MOST_PIECE_BYTES, type TailTarget } from '../../archive/write-tail.ts'
import type { ReadTail } from '../../archive/read-tail.ts'
import { lsn } from '../../postgres/lsn.ts'
import {
  formatProcessIdentity,
  judgeLiveness,
  type Liveness,
  lookUpStartTicks,
  parseProcessIdentity,
  readProcessIdentity,
} from '../../storage/process-identity.ts'
import type { Journal, OpenJournal } from '../../storage/storage.ts'
import type { SegmentBuffer } from './segment-buffer.ts'

/** After so many pieces one of them repeats all, so that a restore reads few. */
const PIECES_BEFORE_WHOLE = 32
export interface TailWriter {
  readonly segment: SegmentBuffer
  /** Offset up to which the tail is durable. */
  readonly written: number
  /** Keys that this writer has created and not removed. */
  readonly keys: readonly string[]
  write(upTo: number): Promise<void>
  /** Nothing has to be waited for: writeNow() does what write() does. */
  readonly canWriteNow: boolean
  writeNow(upTo: number): void
  /** Lets go; what is written stays. */
  close(): Promise<void>
}

export function openTailWriter(target: TailTarget, segment: SegmentBuffer): TailWriter {
  const { openJournal } = target.storage
  if (openJournal === undefined) return new PieceWriter(target, segment)
  return new JournalWriter(target, segment, openJournal.bind(target.storage))
}

let writer: string | undefined

/** Openings that this process writes to: those of a sink that was closed are nobody's. */
const openHere = new Set<string>()

/** Will somebody write more of this tail, or remove it himself? */
export function judgeWriter({ opening, head }: ReadTail): Liveness {
  const identity = head === undefined ? undefined : parseProcessIdentity(head.writer)
  if (identity === undefined) return 'unknown'
  const liveness = judgeLiveness(identity, readProcessIdentity(), lookUpStartTicks)
  const isOurs = head?.writer === writer
  return isOurs && !openHere.has(opening) ? 'dead' : liveness
}

export function describeTail(target: TailTarget, segment: SegmentBuffer): TailHead {
  writer ??= formatProcessIdentity(readProcessIdentity())
  return {
    systemIdentifier: target.systemIdentifier,
    segment: segment.name,
    walSegmentSizeBytes: segment.sizeBytes,
    opening: randomHex(8),
    writer,
    startedAt: now().toISOString(),
  }
}

class JournalWriter implements TailWriter {
  readonly segment: SegmentBuffer
  readonly #target: TailTarget
  readonly #openJournal: OpenJournal
  #journal: Journal | undefined
  #key = ''
  #opening = ''
  /** Of attempts that failed: they go when a later one holds all that they may hold. */
  #failed: string[] = []
  #written = 0

  constructor(target: TailTarget, segment: SegmentBuffer, openJournal: OpenJournal) {
    this.#target = target
    this.segment = segment
    this.#openJournal = openJournal
  }

  get written(): number {
    return this.#written
  }

  get keys(): readonly string[] {
    return this.#key === '' ? this.#failed : [...this.#failed, this.#key]
  }

  async write(upTo: number): Promise<void> {
    if (upTo <= this.#written) return
    if (this.#journal === undefined) await this.#begin()
    this.#append(upTo)
    if (this.#failed.length > 0) await this.#removeFailed()
  }

  get canWriteNow(): boolean {
    return this.#journal !== undefined && this.#failed.length === 0
  }

  writeNow(upTo: number): void {
    if (upTo > this.#written) this.#append(upTo)
  }

  #append(upTo: number): void {
    const from = this.#written
    const start = lsn(this.segment.start + BigInt(from))
    try {
      this.#journal?.append(encodeTailChunk(start, [this.segment.view(from, upTo)]))
    } catch (error) {
      this.#fail()
      throw error
    }
    this.#written = upTo
  }

  async #begin(): Promise<void> {
    const { cluster, systemIdentifier } = this.#target
    const head = describeTail(this.#target, this.segment)
    const key = journalKey(cluster, systemIdentifier, head.segment, head.opening)
    this.#journal = await this.#openJournal(key, encodeTailHead(head))
    this.#key = key
    this.#opening = head.opening
    openHere.add(head.opening)
  }

  #fail(): void {
    this.#journal = undefined
    this.#written = 0
    this.#failed.push(this.#key)
    this.#key = ''
    openHere.delete(this.#opening)
  }

  async #removeFailed(): Promise<void> {
    await this.#target.storage.removeMany(this.#failed)
    this.#failed = []
  }

  async close(): Promise<void> {
    const journal = this.#journal
    this.#journal = undefined
    openHere.delete(this.#opening)
    await journal?.close()
  }
}

class PieceWriter implements TailWriter {
  readonly segment: SegmentBuffer
  readonly #target: TailTarget
  readonly #head: TailHead
  #keys: string[] = []
  #written = 0

  constructor(target: TailTarget, segment: SegmentBuffer) {
    this.#target = target
    this.segment = segment
    this.#head = describeTail(target, segment)
    openHere.add(this.#head.opening)
  }

  get written(): number {
    return this.#written
  }

  get keys(): readonly string[] {
    return this.#keys
  }

  async write(upTo: number): Promise<void> {
    if (upTo <= this.#written) return
    const older = this.#keys
    const isWhole = older.length >= PIECES_BEFORE_WHOLE
    if (isWhole) this.#keys = []
    for (let from = isWhole ? 0 : this.#written; from < upTo; from += MOST_PIECE_BYTES) {
      await this.#writePiece(from, Math.min(upTo, from + MOST_PIECE_BYTES))
    }
    this.#written = upTo
    if (isWhole) await this.#target.storage.removeMany(older)
  }

  /** Each is a request that takes its time. */
  get canWriteNow(): boolean {
    return false
  }

  writeNow(): void {
    throw new Error('a piece has to be waited for')
  }

  /** An attempt that failed may have written it: the same bytes under the same name. */
  async #writePiece(from: number, to: number): Promise<void> {
    const { storage, cluster, systemIdentifier } = this.#target
    const { segment, opening } = this.#head
    const key = pieceKey(cluster, systemIdentifier, segment, opening, from, to)
    this.#keys = [...this.#keys, key]
    await storage.write(key, encodeTailPiece(this.#head, from, [this.segment.view(from, to)]))
  }

  async close(): Promise<void> {
    openHere.delete(this.#head.opening)
  }
}
