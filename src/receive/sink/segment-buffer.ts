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

export class SegmentBuffer {
  readonly timeline: Timeline
  readonly segment: bigint
  readonly name: string
  readonly start: Lsn
  readonly sizeBytes: number
  #bytes: Buffer
  #length = 0

  constructor(timeline: Timeline, segment: bigint, sizeBytes: number) {
    this.timeline = timeline
    this.segment = segment
    this.sizeBytes = sizeBytes
    this.name = formatSegmentName(timeline, segment, sizeBytes)
    this.start = segmentStart(segment, sizeBytes)
    this.#bytes = Buffer.allocUnsafeSlow(Math.min(sizeBytes, AT_ONCE_BYTES))
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

  /** A view that stays true: what was appended never changes. */
  view(from: number, to: number): Buffer {
    return this.#bytes.subarray(from, Math.min(to, this.#length))
  }

  #reserve(needed: number): void {
    if (needed <= this.#bytes.length) return
    const larger = Buffer.allocUnsafeSlow(Math.min(this.sizeBytes, this.#bytes.length * 2))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
    this.#reserve(needed)
  }
}
