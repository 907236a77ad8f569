/**
 * What a record of the resource managers Heap and Heap2 does to rows and pages.
 * PostgreSQL: access/heapam_xlog.h, heapdesc.c.
 *
 * Pure. The relation is that of the record's first block (of the second for `visible`, whose
 * first is the visibility map); a truncate has no blocks and names relations by their oid.
 * Undefined: a record of another resource manager, or one too short for what it says
 * it is; its checksum holds, so its format is not the one known here.
 */
import { type Heap2Operation, walRecordFormat } from './versions.ts'
import type { RecordParts } from './wal-blocks.ts'
import { RM_HEAP, RM_HEAP2 } from './wal-record.ts'

export type HeapChange =
  | HeapInsert
  | HeapMultiInsert
  | HeapDelete
  | HeapUpdate
  | HeapConfirm
  | HeapTruncate
  | { readonly kind: 'lock' | 'inplace' | Exclude<Heap2Operation, 'multi-insert'> }

export interface HeapInsert {
  readonly kind: 'insert'
  /** Line pointer of the new row. */
  readonly offset: number
  /** INSERT … ON CONFLICT: counts once `confirm` comes; else it is deleted (`isSuper`). */
  readonly isSpeculative: boolean
  /** Said of TOAST relations from 14 on, at wal_level=logical only. */
  readonly isToast: boolean
  /** The page holds nothing else (XLOG_HEAP_INIT_PAGE). */
  readonly initsPage: boolean
}

/** COPY, CREATE TABLE AS, catalogues. */
export interface HeapMultiInsert {
  readonly kind: 'multi-insert'
  readonly rows: number
  /** Line pointers are 1 to `rows` then; else they are in the record. */
  readonly initsPage: boolean
  /** The last record of one call of heap_multi_insert. */
  readonly isLast: boolean
}

export interface HeapDelete {
  readonly kind: 'delete'
  readonly offset: number
  /** A multixact's number where the row is locked as well. */
  readonly xmax: number
  /** Takes back a speculative insert: no row that anybody saw. */
  readonly isSuper: boolean
  /** UPDATE moves the row to another partition, where it is inserted. */
  readonly isPartitionMove: boolean
}

export interface HeapUpdate {
  readonly kind: 'update'
  readonly isHot: boolean
  readonly oldOffset: number
  readonly newOffset: number
  readonly oldXmax: number
  /** The new row's page, the record's first block, holds nothing else. */
  readonly initsPage: boolean
}

export interface HeapConfirm {
  readonly kind: 'confirm'
  readonly offset: number
}

/** Written at wal_level=logical, of relations that are logically logged, and of those only. */
export interface HeapTruncate {
  readonly kind: 'truncate'
  readonly database: number
  /** Oids, not file numbers. */
  readonly relations: readonly number[]
  readonly isCascade: boolean
  readonly restartsSequences: boolean
}

const OPERATION_MASK = 0x70
const INIT_PAGE = 0x80
const HEAP_INSERT = 0x00
const HEAP_DELETE = 0x10
const HEAP_UPDATE = 0x20
const HEAP_TRUNCATE = 0x30
const HEAP_HOT_UPDATE = 0x40
const HEAP_CONFIRM = 0x50
const HEAP_LOCK = 0x60

export function parseHeapRecord(record: RecordParts): HeapChange | undefined {
  if (record.resourceManager === RM_HEAP2) return parseHeap2(record)
  if (record.resourceManager !== RM_HEAP) return undefined
  switch (record.info & OPERATION_MASK) {
    case HEAP_INSERT:
      return parseInsert(record)
    case HEAP_DELETE:
      return parseDelete(record)
    case HEAP_UPDATE:
      return parseUpdate(record, false)
    case HEAP_HOT_UPDATE:
      return parseUpdate(record, true)
    case HEAP_TRUNCATE:
      return parseTruncate(record)
    case HEAP_CONFIRM:
      return isShort(record, 2) ? undefined : { kind: 'confirm', offset: record.mainU16(0) }
    case HEAP_LOCK:
      return LOCK
    default:
      return INPLACE
  }
}

const LOCK: HeapChange = { kind: 'lock' }
const INPLACE: HeapChange = { kind: 'inplace' }

/** Every row change has its block; where it has not, the format is not this one. */
function isShort(record: RecordParts, mainBytes: number): boolean {
  return record.mainLength < mainBytes || record.blocks === 0
}

/** xl_heap_insert: offnum 0, flags 2. */
function parseInsert(record: RecordParts): HeapInsert | undefined {
  if (isShort(record, 3)) return undefined
  const flags = record.mainU8(2)
  return {
    kind: 'insert',
    offset: record.mainU16(0),
    isSpeculative: (flags & 0x04) !== 0,
    isToast: (flags & 0x10) !== 0,
    initsPage: (record.info & INIT_PAGE) !== 0,
  }
}

/** xl_heap_delete: xmax 0, offnum 4, infobits 6, flags 7. */
function parseDelete(record: RecordParts): HeapDelete | undefined {
  if (isShort(record, 8)) return undefined
  const flags = record.mainU8(7)
  return {
    kind: 'delete',
    offset: record.mainU16(4),
    xmax: record.mainU32(0),
    isSuper: (flags & 0x08) !== 0,
    isPartitionMove: (flags & 0x10) !== 0,
  }
}

/** xl_heap_update: old_xmax 0, old_offnum 4, infobits 6, flags 7, new_xmax 8, new_offnum 12. */
function parseUpdate(record: RecordParts, isHot: boolean): HeapUpdate | undefined {
  if (isShort(record, 14)) return undefined
  return {
    kind: 'update',
    isHot,
    oldOffset: record.mainU16(4),
    newOffset: record.mainU16(12),
    oldXmax: record.mainU32(0),
    initsPage: (record.info & INIT_PAGE) !== 0,
  }
}

/** xl_heap_truncate: dbId 0, nrelids 4, flags 8, relids 12. */
function parseTruncate(record: RecordParts): HeapTruncate | undefined {
  if (record.mainLength < 12) return undefined
  const count = record.mainU32(4)
  if (12 + 4 * count > record.mainLength) return undefined
  const flags = record.mainU8(8)
  return {
    kind: 'truncate',
    database: record.mainU32(0),
    relations: Array.from({ length: count }, (_, n) => record.mainU32(12 + 4 * n)),
    isCascade: (flags & 0x01) !== 0,
    restartsSequences: (flags & 0x02) !== 0,
  }
}

function parseHeap2(record: RecordParts): HeapChange | undefined {
  const operations = walRecordFormat(record.major).heap2Operations
  const kind = operations[(record.info & OPERATION_MASK) >> 4] as Heap2Operation
  return kind === 'multi-insert' ? parseMultiInsert(record) : HEAP2_CHANGES[kind]
}

const HEAP2_CHANGES: Readonly<Record<Exclude<Heap2Operation, 'multi-insert'>, HeapChange>> = {
  rewrite: { kind: 'rewrite' },
  prune: { kind: 'prune' },
  freeze: { kind: 'freeze' },
  'cleanup-info': { kind: 'cleanup-info' },
  visible: { kind: 'visible' },
  'lock-updated': { kind: 'lock-updated' },
  'new-cid': { kind: 'new-cid' },
}

/** xl_heap_multi_insert: flags 0, ntuples 2, offsets 4 (2 each, none when it inits the page). */
function parseMultiInsert(record: RecordParts): HeapMultiInsert | undefined {
  if (isShort(record, 4)) return undefined
  const rows = record.mainU16(2)
  const initsPage = (record.info & INIT_PAGE) !== 0
  if (!initsPage && record.mainLength < 4 + 2 * rows) return undefined
  return { kind: 'multi-insert', rows, initsPage, isLast: (record.mainU8(0) & 0x02) !== 0 }
}

/** A new row as the record has it. */
export interface LoggedRow {
  /** Line pointer. */
  readonly offset: number
  readonly infomask2: number
  readonly infomask: number
  /** Offset of the row's values from the start of its header (t_hoff). */
  readonly headerBytes: number
  /** What follows the fixed 23 bytes of the header: null bitmap, padding, values. */
  readonly body: Uint8Array
}

/**
 * The rows that an insert or a multi-insert writes, where the record has them: a page image
 * stands for them unless wal_level is logical. Undefined: they are not there.
 */
export function insertedRows(
  record: RecordParts,
  change: HeapInsert | HeapMultiInsert,
): LoggedRow[] | undefined {
  const at = record.dataOffsets[0] as number
  const end = at + (record.dataLengths[0] as number)
  if (record.blocks === 0 || at === end) return undefined
  if (change.kind === 'insert') {
    const row = end - at < 5 ? undefined : rowAt(record, change.offset, at, at + 5, end)
    return row === undefined ? undefined : [row]
  }
  return multiInsertedRows(record, change, at, end)
}

/** xl_multi_insert_tuple: datalen 0, t_infomask2 2, t_infomask 4, t_hoff 6; each aligned to 2. */
function multiInsertedRows(
  record: RecordParts,
  change: HeapMultiInsert,
  start: number,
  end: number,
): LoggedRow[] | undefined {
  const rows: LoggedRow[] = []
  let at = start
  for (let n = 0; n < change.rows; n++) {
    // Alignment counts from the start of the block's data, which the server aligns.
    at += (at - start) & 1
    if (at + 7 > end) return undefined
    const bodyEnd = at + 7 + readU16(record.bytes, at)
    if (bodyEnd > end) return undefined
    const offset = change.initsPage ? n + 1 : record.mainU16(4 + 2 * n)
    rows.push(rowAt(record, offset, at + 2, at + 7, bodyEnd))
    at = bodyEnd
  }
  return rows
}

/** xl_heap_header: t_infomask2 0, t_infomask 2, t_hoff 4. */
function rowAt(
  record: RecordParts,
  offset: number,
  header: number,
  from: number,
  to: number,
): LoggedRow {
  const { bytes } = record
  return {
    offset,
    infomask2: readU16(bytes, header),
    infomask: readU16(bytes, header + 2),
    headerBytes: bytes[header + 4] as number,
    body: bytes.subarray(from, to),
  }
}

function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
}
