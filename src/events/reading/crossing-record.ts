/**
 * Records that cross segments, put together from the head in one index and the rest in those
 * behind it.
 *
 * Invariant: what is handed out has passed its checksum.
 */
import { formatLsn, type Lsn, lsn, type Timeline } from '../../postgres/lsn.ts'
import type { WalRecord } from '../../postgres/wal-reader.ts'
import { isRecordIntact, RECORD_HEADER_BYTES } from '../../postgres/wal-record.ts'
import { foldJoinedRecord } from '../build-index.ts'
import type { IndexHeader, SegmentEvents } from '../segment-index.ts'

export interface JoinableHead {
  readonly lsn: Lsn
  readonly major: number
  readonly timeline: Timeline
  readonly pieces: readonly Uint8Array[]
}

interface Head extends JoinableHead {
  readonly pieces: Uint8Array[]
}

export type Crossing =
  | { readonly kind: 'none' }
  | { readonly kind: 'record'; readonly lsn: Lsn; readonly events: SegmentEvents }
  | { readonly kind: 'broken'; readonly lsn: Lsn }

const NONE: Crossing = { kind: 'none' }

export class CrossingRecords {
  #head: Head | undefined

  /** WAL is missing: nothing continues here. */
  drop(): void {
    this.#head = undefined
  }

  /** The record that ends in this segment; then keeps the head of the one that begins there. */
  take(header: IndexHeader, events: SegmentEvents): Crossing {
    const { rest, head } = events
    const before = this.#head
    if (before !== undefined && rest.bytes.length > 0) before.pieces.push(rest.bytes)
    const goesOn = before !== undefined && rest.firstOffset >= header.walSegmentSizeBytes
    if (goesOn && !isWhole(before)) return NONE
    this.#head = undefined
    if (head !== undefined) {
      const at = lsn(header.segmentStart + BigInt(head.offset))
      const { major, timeline } = header
      this.#head = { lsn: at, major, timeline, pieces: [head.bytes] }
    }
    if (before === undefined || isGivenUp(before, events)) return NONE
    return joinRecord(before, lsn(header.segmentStart + BigInt(rest.firstOffset)))
  }
}

function isWhole({ pieces }: Head): boolean {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
  const total = totalLengthOf(pieces)
  return total !== undefined && length >= total
}

function totalLengthOf(pieces: readonly Uint8Array[]): number | undefined {
  const start = Buffer.concat(pieces.slice(0, 2)).subarray(0, 4)
  return start.length < 4 ? undefined : start.readUInt32LE(0)
}

/** The server says which record it gave up after a crash. */
function isGivenUp(head: Head, events: SegmentEvents): boolean {
  return events.others.some(
    ({ content }) => content.kind === 'overwritten' && content.overwrittenLsn === head.lsn,
  )
}

/** `endLsn`: where the next record begins. */
export function joinRecord(head: JoinableHead, endLsn: Lsn): Crossing {
  const bytes = Buffer.concat(head.pieces)
  const broken: Crossing = { kind: 'broken', lsn: head.lsn }
  const isSound =
    bytes.length >= RECORD_HEADER_BYTES &&
    bytes.readUInt32LE(0) === bytes.length &&
    isRecordIntact(bytes)
  if (!isSound) return broken
  const record: WalRecord = {
    lsn: head.lsn,
    endLsn,
    previousLsn: lsn(bytes.readBigUInt64LE(8)),
    totalLength: bytes.length,
    xid: bytes.readUInt32LE(4),
    info: bytes.readUInt8(16),
    resourceManager: bytes.readUInt8(17),
    timeline: head.timeline,
    major: head.major,
    bytes,
  }
  const folded = foldJoinedRecord(head.lsn, record)
  return folded === undefined ? broken : { kind: 'record', lsn: head.lsn, events: folded.events }
}

export function describeCrossing(at: Lsn): string {
  return `the record at ${formatLsn(at)}, which goes on in the next segment, does not hold`
}
