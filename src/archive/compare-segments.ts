/**
 * Compares WAL segments by their records: two of one name, and two that follow each other
 * (docs/design/lineage.md, sections 2 and 5). Pure.
 *
 * Invariant: `same-records` is said only when every byte up to the shorter valid end is equal, and
 * `fits` only when a record proves it: its CRC across the border, or its link to the one before.
 */
import { type Lsn, segmentNumber, segmentStart } from '../postgres/lsn.ts'
import { SHORT_HEADER_BYTES, WAL_PAGE_BYTES } from '../postgres/wal-page.ts'
import {
  createWalReader,
  type WalReader,
  type WalReadResult,
  type WalRecord,
} from '../postgres/wal-reader.ts'
import { alignRecord, RM_XLOG, recordOperation } from '../postgres/wal-record.ts'
import { parseFirstPage } from './judge-segment.ts'

const XLOG_SWITCH = 0x40

export type SegmentComparison =
  | { readonly kind: 'equal' }
  /** Which of the two has records behind all of the other's; `neither`: both end there. */
  | { readonly kind: 'same-records'; readonly longer: 'first' | 'second' | 'neither' }
  | { readonly kind: 'different' }

/** Two files of one name. */
export function compareSegments(first: Uint8Array, second: Uint8Array): SegmentComparison {
  if (Buffer.compare(first, second) === 0) return { kind: 'equal' }
  const ends = [findValidEnd(first), findValidEnd(second)] as const
  const [a, b] = ends
  if (a === undefined || b === undefined || first.length !== second.length) {
    return { kind: 'different' }
  }
  const shared = Math.min(a, b)
  if (Buffer.compare(first.subarray(0, shared), second.subarray(0, shared)) !== 0) {
    return { kind: 'different' }
  }
  const longer = a === b ? 'neither' : a > b ? 'first' : 'second'
  return { kind: 'same-records', longer }
}

/** Does a record begin in the segment? */
export function hasRecords(bytes: Uint8Array): boolean {
  return findValidEnd(bytes) !== undefined
}

/**
 * Bytes up to the end of the last record, without what fills it up to the next multiple of 8;
 * undefined where no record begins in the segment.
 */
function findValidEnd(bytes: Uint8Array): number | undefined {
  const opened = openReader(bytes)
  if (opened === undefined) return undefined
  const { reader, start } = opened
  let end: Lsn | undefined
  for (;;) {
    const result = reader.next()
    if (result.kind === 'record') {
      end = endOfRecord(result.record)
      if (!isSwitch(result.record)) continue
      end = endOfSwitch(result.record)
      break
    }
    if (end === undefined) return undefined
    // Its own segment's end, in the head of a record that goes on in the next one.
    if (result.kind === 'segment-needed') return bytes.length
    break
  }
  return Number(end - start)
}

function endOfRecord({ endLsn, totalLength }: WalRecord): Lsn {
  return (endLsn - BigInt(alignRecord(totalLength) - totalLength)) as Lsn
}

/** XLOG_SWITCH: up to the end of its segment nothing counts. */
function isSwitch({ resourceManager, info }: WalRecord): boolean {
  return resourceManager === RM_XLOG && recordOperation(info) === XLOG_SWITCH
}

function endOfSwitch({ lsn, totalLength }: WalRecord): Lsn {
  const left = WAL_PAGE_BYTES - Number(lsn % BigInt(WAL_PAGE_BYTES))
  const header = left < totalLength ? SHORT_HEADER_BYTES : 0
  return (lsn + BigInt(alignRecord(totalLength) + header)) as Lsn
}

export type Continuation = 'fits' | 'contradicts' | 'nothing'

/**
 * Do the records of `next` go on where those of `previous` end? `nothing`: that cannot be told,
 * since `previous` ends before its end, or no record of it links to the next one.
 */
export function judgeContinuation(previous: Uint8Array, next: Uint8Array): Continuation {
  const opened = openReader(previous)
  const page = parseFirstPage(next)
  if (opened === undefined || page === undefined) return 'nothing'
  const { reader, segment, start } = opened
  const border = start + BigInt(previous.length)
  if (page.address !== border || next.length !== previous.length) return 'nothing'
  if (readToEnd(reader).kind !== 'segment-needed') return 'nothing'
  const isLinked = reader.lastLsn() !== undefined || reader.position() < border
  if (!isLinked) return 'nothing'
  reader.give(segment + 1n, next)
  const result = reader.next()
  // A record that fills all of `next` has agreed with the header of every page.
  if (result.kind !== 'invalid') return 'fits'
  const isUnwritten = result.reason === 'no-record' && result.lsn >= border
  return isUnwritten ? 'nothing' : 'contradicts'
}

function readToEnd(reader: WalReader): WalReadResult {
  for (;;) {
    const result = reader.next()
    if (result.kind !== 'record') return result
  }
}

/** At the first record that begins in the segment; undefined for what is no segment. */
function openReader(
  bytes: Uint8Array,
): { reader: WalReader; segment: bigint; start: Lsn } | undefined {
  const page = parseFirstPage(bytes)
  if (page === undefined || page.long.walSegmentSizeBytes !== bytes.length) return undefined
  const segment = segmentNumber(page.address, bytes.length)
  const start = segmentStart(segment, bytes.length)
  if (start !== page.address) return undefined
  const reader = createWalReader({
    walSegmentSizeBytes: bytes.length,
    systemIdentifier: page.long.systemIdentifier,
    start: { from: start },
  })
  reader.give(segment, bytes)
  return { reader, segment, start }
}
