/**
 * Which records of a segment end the window, or are said with it; and those that cross into the
 * next segment (docs/design/event-index.md, section 8). Pure.
 *
 * Invariant: of a crossing record nothing is said before both of its parts are there and it has
 * passed its checksum.
 */
import type { WalBreak } from '../archive/break-mark.ts'
import type { Lsn } from '../postgres/lsn.ts'
import { recordOperation, RECORD_HEADER_BYTES, RM_XLOG } from '../postgres/wal-record.ts'
import { lsnAt } from './build-index.ts'
import { joinRecord } from './reading/crossing-record.ts'
import type { IndexHeader, RecordHead, SegmentEvents, SegmentIndex } from './segment-index.ts'

type BreakPlaces = Pick<IndexHeader, 'timeline' | 'segmentStart' | 'walSegmentSizeBytes'>

/**
 * All changes to wal_level=minimal, since a backup may have begun between two of them. Of
 * full_page_writes=off one is enough. The first segment of all begins anew with initdb.
 */
export function findBreaks({ header, events }: SegmentIndex): WalBreak[] {
  return breaksIn(header, events.others)
}

function breaksIn(header: BreakPlaces, others: SegmentEvents['others']): WalBreak[] {
  const { timeline, segmentStart, walSegmentSizeBytes } = header
  const found: WalBreak[] = []
  for (const { offset, content } of others) {
    const at = { timeline, lsn: lsnAt(header, offset) }
    if (content.kind === 'parameters' && content.walLevel === 'minimal') {
      found.push({ ...at, kind: 'minimal' })
    }
    if (content.kind === 'checkpoint' && content.isFirst) {
      if (segmentStart > BigInt(walSegmentSizeBytes)) found.push({ ...at, kind: 'reset' })
    }
    if (content.kind === 'full-page-writes' && !content.on) {
      if (!found.some(({ kind }) => kind === 'fpw-off')) found.push({ ...at, kind: 'fpw-off' })
    }
  }
  return found
}

/** The parts of break records at the ends of a segment; undefined: there is none. */
export interface SegmentEdges {
  readonly walSegmentSizeBytes: number
  /** The record's first bytes; it goes on in the next segment. */
  readonly head: BreakHead | undefined
  /** The last bytes of a record that began in the segment before. */
  readonly rest: BreakRest | undefined
}

export interface BreakHead extends BreakPlaces {
  readonly lsn: Lsn
  readonly major: number
  readonly bytes: Uint8Array
}

export interface BreakRest {
  readonly endLsn: Lsn
  readonly bytes: Uint8Array
}

/** Its bytes are copies: the segment is not kept for them. */
export function findEdges({ header, events }: Omit<SegmentIndex, 'pages'>): SegmentEdges {
  const { timeline, segmentStart, walSegmentSizeBytes, major } = header
  const { head, rest } = events
  const places = { timeline, segmentStart, walSegmentSizeBytes, major }
  const isHead = head !== undefined && mayBeginBreak(head)
  const endsHere = rest.firstOffset < walSegmentSizeBytes && !rest.isOverwritten
  return {
    walSegmentSizeBytes,
    head: isHead
      ? { ...places, lsn: lsnAt(header, head.offset), bytes: Uint8Array.from(head.bytes) }
      : undefined,
    rest:
      endsHere && mayEndBreak(rest.bytes)
        ? { endLsn: lsnAt(header, rest.firstOffset), bytes: Uint8Array.from(rest.bytes) }
        : undefined,
  }
}

/** XLOG_PARAMETER_CHANGE with xl_parameter_change, XLOG_FPW_CHANGE with a bool. */
const PARAMETERS = { operation: 0x60, totalLength: RECORD_HEADER_BYTES + 2 + 28 }
const PAGE_WRITES = { operation: 0x80, totalLength: RECORD_HEADER_BYTES + 2 + 1 }
const CANDIDATES = [PARAMETERS, PAGE_WRITES]
const ALIGNMENT = 8

/** Records begin at multiples of 8: their length and xid are never cut. */
function mayBeginBreak({ bytes }: RecordHead): boolean {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 24))
  if (head.length < ALIGNMENT || head.readUInt32LE(4) !== 0) return false
  return CANDIDATES.some(({ operation, totalLength }) => {
    if (head.readUInt32LE(0) !== totalLength) return false
    if (head.length < RECORD_HEADER_BYTES) return true
    return head.readUInt8(17) === RM_XLOG && recordOperation(head.readUInt8(16)) === operation
  })
}

/** wal_level is 8 bytes before the end of the one, `off` the last byte of the other. */
function mayEndBreak(rest: Uint8Array): boolean {
  const fits = ({ totalLength }: { readonly totalLength: number }): boolean => {
    const head = totalLength - rest.length
    return rest.length > 0 && head > 0 && head % ALIGNMENT === 0
  }
  if (fits(PAGE_WRITES)) return rest.at(-1) === 0
  const level = rest.subarray(Math.max(0, rest.length - 8), Math.max(0, rest.length - 4))
  return fits(PARAMETERS) && level.every((byte) => byte === 0)
}

/** What the record says whose parts these are; nothing when they are not of one record. */
export function findCrossingBreaks(head: BreakHead, rest: BreakRest): WalBreak[] {
  const pieces = [head.bytes, rest.bytes]
  const joined = joinRecord({ ...head, pieces }, rest.endLsn)
  if (joined.kind !== 'record') return []
  return breaksIn({ ...head, segmentStart: head.lsn }, joined.events.others)
}
