/**
 * The bytes of one segment while it is received. It holds the segment from its start, so that a
 * tail can be begun anew at any time.
 */
import {
  formatSegmentName,
  type Lsn,
  lsn,
  segmentStart,
  type Timeline,
} from '../../postgres/lsn.ts'

/** Segments up to this size get their memory at once; larger ones as they fill. */
const AT_ONCE_BYTES = 16 * 1024 * 1024

/** Buffers kept for the next segments: new ones cost a page fault for every 4 KiB. */
const MOST_KEPT = 3

/** Shared with the threads that read it: a copy of 16 MB would hold up the commits that wait. */
function allocate(bytes: number): Buffer {
  return Buffer.from(new SharedArrayBuffer(bytes))
}

/** The memory of segments that nobody reads any more. Of one sink. */
export class BufferPool {
  readonly #free: Buffer[] = []

  take(sizeBytes: number): Buffer {
    const length = Math.min(sizeBytes, AT_ONCE_BYTES)
    const at = this.#free.findIndex((one) => one.length >= length)
    const [found] = at < 0 ? [] : this.#free.splice(at, 1)
    return found ?? allocate(length)
  }

  give(bytes: Buffer): void {
    if (this.#free.length < MOST_KEPT && bytes.length <= AT_ONCE_BYTES) this.#free.push(bytes)
  }
}

/**
 * Whoever reads it later (not before the call returns) holds it meanwhile; the memory of one that
 * nobody holds any more is used again.
 */
export class SegmentBuffer {
  readonly timeline: Timeline
  readonly segment: bigint
  readonly name: string
  readonly start: Lsn
  readonly sizeBytes: number
  readonly #pool: BufferPool
  #bytes: Buffer
  #length = 0
  #holders = 1

  /** Held by who makes it. */
  constructor(timeline: Timeline, segment: bigint, sizeBytes: number, pool = new BufferPool()) {
    this.#pool = pool
    this.timeline = timeline
    this.segment = segment
    this.sizeBytes = sizeBytes
    this.name = formatSegmentName(timeline, segment, sizeBytes)
    this.start = segmentStart(segment, sizeBytes)
    this.#bytes = pool.take(sizeBytes)
  }

  get length(): number {
    return this.#length
  }

  get end(): Lsn {
    return lsn(this.start + BigInt(this.#length))
  }

  get isWhole(): boolean {
    return this.#length === this.sizeBytes
  }

  /** Copies what has room; returns how much that was. */
  append(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.sizeBytes - this.#length)
    this.#reserve(this.#length + count)
    this.#bytes.set(count === bytes.length ? bytes : bytes.subarray(0, count), this.#length)
    this.#length += count
    return count
  }

  hold(): void {
    this.#holders += 1
  }

  release(): void {
    this.#holders -= 1
    if (this.#holders > 0) return
    const bytes = this.#bytes
    this.#bytes = Buffer.alloc(0)
    this.#pool.give(bytes)
  }

  /** A view that stays true while the segment is held: what was appended never changes. */
  view(from: number, to: number): Buffer {
    if (this.#holders === 0) throw new Error(`the segment ${this.name} is not held any more`)
    return this.#bytes.subarray(from, Math.min(to, this.#length))
  }

  #reserve(needed: number): void {
    if (needed <= this.#bytes.length) return
    const larger = allocate(Math.min(this.sizeBytes, this.#bytes.length * 2))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
    this.#reserve(needed)
  }
}
