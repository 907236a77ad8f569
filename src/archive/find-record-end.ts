/**
 * Where the last whole record of a tail ends. What is behind it may be the beginning of a
 * record that the server has never finished, and may write otherwise after a crash.
 */
import { type Lsn, lsn, parseSegmentName, segmentStart } from '../postgres/lsn.ts'
import { createWalReader, type WalReadResult } from '../postgres/wal-reader.ts'
import { parseWalPageHeader, WAL_PAGE_BYTES } from '../postgres/wal-page.ts'
import type { TailPlace } from './tail-keys.ts'

/** An offset in the segment; 0 when no record ends in it. */
export function findRecordEnd(place: TailPlace, segment: string, bytes: Uint8Array): number {
  const { walSegmentSizeBytes, systemIdentifier } = place
  const named = parseSegmentName(segment, walSegmentSizeBytes)
  if (named === undefined) return 0
  const start = segmentStart(named.segment, walSegmentSizeBytes)
  const reader = createWalReader({
    walSegmentSizeBytes,
    systemIdentifier: BigInt(systemIdentifier),
    start: { from: start },
  })
  const padded = padSegment(bytes, walSegmentSizeBytes)
  reader.give(named.segment, padded)
  const continued = Number((continuedEnd(padded, start) ?? start) - start)
  let end = continued <= bytes.length ? continued : 0
  for (;;) {
    const result = reader.next()
    if (result.kind !== 'record') return end
    const recordEnd = Number(result.record.endLsn - start)
    if (recordEnd > Math.ceil(bytes.length / 8) * 8) return end
    end = Math.min(recordEnd, bytes.length)
  }
}

/** A whole segment: what the tail holds, then zeros. */
export function padSegment(bytes: Uint8Array, walSegmentSizeBytes: number): Buffer {
  const padded = Buffer.alloc(walSegmentSizeBytes)
  padded.set(bytes)
  return padded
}

type Invalid = Extract<WalReadResult, { kind: 'invalid' }>

const RECORD_HEADER_BYTES = 24

/**
 * The reader met an invalid record in a padded tail: is it one that the tail cuts? Else its bytes
 * are those that were flushed, and do not hold.
 */
export function isCutByTail(
  invalid: Pick<Invalid, 'lsn' | 'faultLsn'>,
  segment: Buffer,
  start: Lsn,
  tailEnd: Lsn,
): boolean {
  if (invalid.lsn >= tailEnd) return true
  const page = invalid.faultLsn - (invalid.faultLsn % BigInt(WAL_PAGE_BYTES))
  const pageHeader = page === start ? 40n : 24n
  if (page + pageHeader > tailEnd) return true
  if (invalid.lsn < start) {
    // Its rest should be here: a page that holds none is no end.
    const end = continuedEnd(segment, start)
    return end !== undefined && end > tailEnd
  }
  const end = recordEnd(segment, start, invalid.lsn, tailEnd)
  return end === undefined || end > tailEnd
}

/** Of a record that began in the segment before; undefined: there is none. */
function continuedEnd(segment: Buffer, start: Lsn): Lsn | undefined {
  const header = parseWalPageHeader(segment, 0)
  if (header?.isContinuation !== true) return undefined
  return walk(start, lsn(start + BigInt(header.headerBytes)), header.remainingBytes)
}

/** Undefined: its header is cut. */
function recordEnd(segment: Buffer, start: Lsn, record: Lsn, tailEnd: Lsn): Lsn | undefined {
  if (walk(start, record, RECORD_HEADER_BYTES) > tailEnd) return undefined
  return walk(start, record, segment.readUInt32LE(Number(record - start)))
}

/** Where `length` bytes of a record end that begin at `from`, page headers passed over. */
function walk(start: Lsn, from: Lsn, length: number): Lsn {
  const page = BigInt(WAL_PAGE_BYTES)
  let at: bigint = from
  let left = BigInt(length)
  for (;;) {
    const room = page - (at % page)
    if (left <= room) return lsn(at + left)
    left -= room
    at += room
    at += at === start ? 40n : 24n
  }
}
