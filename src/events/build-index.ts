/**
 * Computes the event index of one segment from its bytes (docs/design/event-index.md).
 *
 * Invariant: pure; equal bytes give an equal index. Checksums of records are not computed: the
 * bytes are proved by the hash of the archived object, and the reader proves those records that
 * it joins.
 */
import { lsn, type Lsn, segmentStart, type Timeline } from '../postgres/lsn.ts'
import { parseWalPageHeader, WAL_PAGE_BYTES } from '../postgres/wal-page.ts'
import { createWalReader, type WalReader } from '../postgres/wal-reader.ts'
import type { RecordBatch } from '../postgres/wal-walk.ts'
import { SegmentFold } from './fold/segment-fold.ts'
import { alignRecord } from '../postgres/wal-record.ts'
import type {
  ChangedFork,
  IndexedRelation,
  IndexHeader,
  RecordHead,
  RecordRest,
  SegmentEvents,
  SegmentIndex,
} from './segment-index.ts'

export interface SegmentToIndex {
  readonly systemIdentifier: bigint
  /** Of the segment's name. */
  readonly timeline: Timeline
  readonly segment: bigint
  /** The whole segment. */
  readonly bytes: Uint8Array
  /** hashContent(bytes). */
  readonly contentHash: string
  /** Records from here on are of another branch. */
  readonly usableEnd?: Lsn | undefined
}

export function buildIndex(source: SegmentToIndex): SegmentIndex {
  const { bytes, segment } = source
  const start = segmentStart(segment, bytes.length)
  const rest = readRest(bytes)
  const fold = new SegmentFold(start)
  const reader = createWalReader({
    walSegmentSizeBytes: bytes.length,
    systemIdentifier: source.systemIdentifier,
    start: { from: start },
    checksums: false,
  })
  reader.give(segment, bytes)
  const end = foldRecords(reader, fold, source.usableEnd)
  const endOffset = Number(end.lsn - start)
  const head = end.reason === 'whole' ? readHead(bytes, endOffset) : undefined
  const header = headerOf(source, start, fold, endOffset, end.reason)
  return { header, ...contentOf(fold, head, rest) }
}

interface FoldEnd {
  readonly lsn: Lsn
  readonly reason: IndexHeader['end']
}

function foldRecords(reader: WalReader, fold: SegmentFold, usableEnd: Lsn | undefined): FoldEnd {
  for (;;) {
    const result = reader.nextBatch()
    if (result.kind === 'batch') {
      const end = foldBatch(result.batch, fold, usableEnd)
      if (end !== undefined) return end
      continue
    }
    if (result.kind === 'segment-needed') return { lsn: reader.position(), reason: 'whole' }
    if (result.kind === 'invalid') {
      return { lsn: result.lsn, reason: result.isFollowedByWal ? 'damage' : 'no-record' }
    }
    const { record } = result
    if (usableEnd !== undefined && record.lsn >= usableEnd) {
      return { lsn: record.lsn, reason: 'no-record' }
    }
    if (!fold.take(record)) return { lsn: record.lsn, reason: 'damage' }
  }
}

/** Undefined: to be continued. */
function foldBatch(
  batch: RecordBatch,
  fold: SegmentFold,
  usableEnd: Lsn | undefined,
): FoldEnd | undefined {
  const limit = usableEnd === undefined ? Infinity : Number(usableEnd - batch.base)
  for (let n = 0; n < batch.count; n++) {
    if (batch.start(n) >= limit) return { lsn: batch.lsn(n), reason: 'no-record' }
    if (!fold.takeWalked(batch, n)) return { lsn: batch.lsn(n), reason: 'damage' }
  }
  return undefined
}

/** What continues an earlier record, from the pages that say so. */
function readRest(bytes: Uint8Array): RecordRest {
  const pieces: Uint8Array[] = []
  let first = parseWalPageHeader(bytes, 0)
  const isOverwritten = first?.isOverwrittenContinuation === true
  let at = 0
  while (first?.isContinuation === true) {
    const from = at + first.headerBytes
    const room = WAL_PAGE_BYTES - first.headerBytes
    const length = Math.min(first.remainingBytes, room)
    pieces.push(bytes.subarray(from, from + length))
    if (first.remainingBytes < room) {
      return { isOverwritten, firstOffset: from + alignRecord(length), bytes: join(pieces) }
    }
    at += WAL_PAGE_BYTES
    if (at >= bytes.length) break
    first = first.remainingBytes === room ? undefined : parseWalPageHeader(bytes, at)
  }
  const firstOffset = at >= bytes.length ? bytes.length : at + headerBytesAt(bytes, at)
  return { isOverwritten, firstOffset, bytes: join(pieces) }
}

function headerBytesAt(bytes: Uint8Array, at: number): number {
  return parseWalPageHeader(bytes, at)?.headerBytes ?? 0
}

/** From the start of a record to the end of the segment, page headers left out. */
function readHead(bytes: Uint8Array, offset: number): RecordHead | undefined {
  if (offset >= bytes.length) return undefined
  const pieces: Uint8Array[] = []
  let at = offset
  while (at < bytes.length) {
    const pageEnd = at - (at % WAL_PAGE_BYTES) + WAL_PAGE_BYTES
    const from = at % WAL_PAGE_BYTES === 0 ? at + headerBytesAt(bytes, at) : at
    pieces.push(bytes.subarray(from, pageEnd))
    at = pageEnd
  }
  return { offset, bytes: join(pieces) }
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces)
}

function headerOf(
  source: SegmentToIndex,
  start: Lsn,
  fold: SegmentFold,
  endOffset: number,
  end: IndexHeader['end'],
): IndexHeader {
  const { bytes, timeline, systemIdentifier, contentHash } = source
  const { earliest, latest, snapshot } = fold
  return {
    systemIdentifier,
    segmentStart: start,
    timeline,
    walSegmentSizeBytes: bytes.length,
    contentHash,
    major: parseWalPageHeader(bytes, 0)?.major ?? 0,
    times: earliest <= latest ? { earliest, latest } : undefined,
    snapshot,
    endOffset,
    end,
    endCount: fold.kinds.length,
  }
}

/** Relations get the order of their file nodes: it compresses better. */
export function contentOf(
  fold: SegmentFold,
  head: RecordHead | undefined,
  rest: RecordRest,
): { readonly events: SegmentEvents; readonly pages: readonly ChangedFork[] } {
  const open = fold.parts.open()
  const { kinds, xids, offsets, endOffsets, times, shapes, begins, extras, others } = fold
  const ends = { kinds, xids, offsets, endOffsets, times, shapes, begins, extras }
  const relations = relationsOf(fold)
  const events = { relations, shapes: fold.parts.shapes, ends, open, others, head, rest }
  const pages = [...fold.pages.forks()].map(({ relation, fork, blocks }) => ({
    node: relations[relation] as IndexedRelation,
    fork,
    blocks,
  }))
  return { events, pages }
}

function relationsOf({ relations }: SegmentFold): IndexedRelation[] {
  return Array.from({ length: relations.size }, (_, n) => ({
    tablespace: relations.tablespaces[n] as number,
    database: relations.databases[n] as number,
    number: relations.numbers[n] as number,
    isToast: relations.toast[n] === 1,
  }))
}

/** A record that crosses segments, joined, as an index of its own that lies at `start`. */
export function foldJoinedRecord(
  start: Lsn,
  record: Parameters<SegmentFold['take']>[0],
): { readonly events: SegmentEvents; readonly pages: readonly ChangedFork[] } | undefined {
  const fold = new SegmentFold(start)
  if (!fold.take(record)) return undefined
  return contentOf(fold, undefined, NO_REST)
}

const NO_REST: RecordRest = { isOverwritten: false, firstOffset: 0, bytes: new Uint8Array(0) }

/** LSN of an offset in an index. */
export function lsnAt(header: Pick<IndexHeader, 'segmentStart'>, offset: number): Lsn {
  return lsn(header.segmentStart + BigInt(offset))
}
