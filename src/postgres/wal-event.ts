/**
 * The WAL records that recovery asks about, as values: ends of transactions, restore
 * points, checkpoints and timeline ends, parameter changes, tablespaces and databases.
 * PostgreSQL: access/xact.h (ParseCommitRecord, ParseAbortRecord), catalog/pg_control.h,
 * access/xlog_internal.h, commands/tablespace.h, commands/dbcommands_xlog.h.
 *
 * Pure. A record of another kind is undefined; one of these kinds that is too short to be
 * what it says is `damaged`: its checksum holds, so the format is not the one known here.
 */
import type { Lsn, Timeline } from './lsn.ts'
import { lsn } from './lsn.ts'
import { walRecordFormat } from './versions.ts'
import { mainDataOf } from './wal-blocks.ts'
import type { WalRecord } from './wal-reader.ts'
import {
  RM_DATABASE,
  RM_TABLESPACE,
  RM_TRANSACTION,
  RM_XLOG,
  recordOperation,
} from './wal-record.ts'

/** Microseconds since 1970-01-01 UTC: what PostgreSQL compares recovery times with. */
export type Microseconds = bigint

interface EventPlace {
  readonly lsn: Lsn
  /** First byte after the record. */
  readonly endLsn: Lsn
  readonly timeline: Timeline
}

export type WalEvent = EventPlace & WalEventContent

export type WalEventContent =
  | TransactionEnd
  | PreparedTransaction
  | RestorePoint
  | Checkpoint
  | EndOfRecovery
  | ParameterChange
  | FullPageWritesChange
  | BackupEnd
  | SegmentSwitch
  | OverwrittenRecord
  | TablespaceCreate
  | TablespaceDrop
  | DatabaseCreate
  | DatabaseDrop

export interface TransactionEnd {
  readonly kind: 'commit' | 'abort'
  /** For a prepared transaction its own xid, not that of COMMIT PREPARED. */
  readonly xid: number
  readonly subxids: readonly number[]
  readonly time: Microseconds
  readonly isPrepared: boolean
  /** Relation files that end with it, as (tablespace, database, relation file number). */
  readonly droppedRelations: readonly (readonly [number, number, number])[]
}

export interface PreparedTransaction {
  readonly kind: 'prepare'
  readonly xid: number
  readonly database: number
  readonly time: Microseconds
}

export interface RestorePoint {
  readonly kind: 'restore-point'
  readonly name: string
  readonly time: Microseconds
}

export interface Checkpoint {
  readonly kind: 'checkpoint'
  readonly isShutdown: boolean
  readonly redo: Lsn
  readonly timelineAfter: Timeline
  readonly timelineBefore: Timeline
  readonly fullPageWrites: boolean
  /** 64 bits: epoch and xid. */
  readonly nextXid: bigint
  readonly time: Microseconds
}

export interface EndOfRecovery {
  readonly kind: 'end-of-recovery'
  readonly time: Microseconds
  readonly timelineAfter: Timeline
  readonly timelineBefore: Timeline
}

export interface ParameterChange {
  readonly kind: 'parameter-change'
  readonly maxConnections: number
  readonly maxWorkerProcesses: number
  readonly maxWalSenders: number
  readonly maxPreparedTransactions: number
  readonly maxLocksPerTransaction: number
  readonly walLevel: WalLevel
  readonly walLogHints: boolean
  readonly trackCommitTimestamp: boolean
}

export type WalLevel = 'minimal' | 'replica' | 'logical'
const WAL_LEVELS: readonly WalLevel[] = ['minimal', 'replica', 'logical']

export interface FullPageWritesChange {
  readonly kind: 'full-page-writes'
  readonly on: boolean
}

export interface BackupEnd {
  readonly kind: 'backup-end'
  readonly startLsn: Lsn
}

export interface SegmentSwitch {
  readonly kind: 'switch'
}

export interface OverwrittenRecord {
  readonly kind: 'overwritten-record'
  readonly overwrittenLsn: Lsn
  readonly time: Microseconds
}

export interface TablespaceCreate {
  readonly kind: 'tablespace-create'
  readonly oid: number
  /** Empty for an in-place tablespace. */
  readonly path: string
}

export interface TablespaceDrop {
  readonly kind: 'tablespace-drop'
  readonly oid: number
}

export interface DatabaseCreate {
  readonly kind: 'database-create'
  readonly database: number
  readonly tablespace: number
  /** file-copy: PostgreSQL copies the source's directory while it replays. */
  readonly strategy: 'file-copy' | 'wal-log'
  /** Of file-copy. */
  readonly source: { readonly database: number; readonly tablespace: number } | undefined
}

export interface DatabaseDrop {
  readonly kind: 'database-drop'
  readonly database: number
  readonly tablespaces: readonly number[]
}

export type ParsedEvent =
  | { readonly kind: 'event'; readonly event: WalEvent }
  | { readonly kind: 'other' }
  | { readonly kind: 'damaged' }

const OTHER: ParsedEvent = { kind: 'other' }

export function parseWalEvent(record: WalRecord): ParsedEvent {
  const parse = PARSERS[record.resourceManager]
  if (parse === undefined) return OTHER
  const data = mainDataOf(record)
  if (data === undefined) return { kind: 'damaged' }
  try {
    const content = parse(new Fields(data), record)
    if (content === undefined) return OTHER
    const { lsn: start, endLsn, timeline } = record
    return { kind: 'event', event: { lsn: start, endLsn, timeline, ...content } }
  } catch (error) {
    if (error instanceof RangeError) return { kind: 'damaged' }
    throw error
  }
}

/** False: no record of this resource manager is one of these. */
export function mayBeEvent(resourceManager: number): boolean {
  return PARSERS[resourceManager] !== undefined
}

type Parser = (data: Fields, record: WalRecord) => WalEventContent | undefined

const PARSERS: Readonly<Record<number, Parser>> = {
  [RM_XLOG]: (data, record) => parseXlog(data, record),
  [RM_TRANSACTION]: (data, record) => parseTransaction(data, record),
  [RM_DATABASE]: (data, record) => parseDatabase(data, record),
  [RM_TABLESPACE]: (data, record) => parseTablespace(data, record),
}

/** Reads little-endian fields in their order; RangeError past the end. */
class Fields {
  readonly #data: Buffer
  #at = 0

  constructor(data: Buffer) {
    this.#data = data
  }

  u8(): number {
    return this.#data.readUInt8(this.#step(1))
  }

  u32(): number {
    return this.#data.readUInt32LE(this.#step(4))
  }

  u64(): bigint {
    return this.#data.readBigUInt64LE(this.#step(8))
  }

  lsn(): Lsn {
    return lsn(this.u64())
  }

  /** TimestampTz: microseconds since 2000-01-01. */
  timestamp(): Microseconds {
    return this.#data.readBigInt64LE(this.#step(8)) + POSTGRES_EPOCH
  }

  skip(bytes: number): void {
    this.#step(bytes)
  }

  /** A count, then as many elements of `bytes` bytes; the count is checked first. */
  count(bytes: number): number {
    const count = this.u32()
    if (count * bytes > this.#data.length - this.#at) throw new RangeError('count')
    return count
  }

  /** Up to a zero byte, at most to the end of the data. */
  text(): string {
    const end = this.#data.indexOf(0, this.#at)
    const text = this.#data.toString('utf8', this.#at, end < 0 ? this.#data.length : end)
    this.#at = end < 0 ? this.#data.length : end + 1
    return text
  }

  #step(bytes: number): number {
    const at = this.#at
    if (bytes > this.#data.length - at) throw new RangeError('end of record')
    this.#at += bytes
    return at
  }
}

const POSTGRES_EPOCH = 946_684_800_000_000n

function parseXlog(data: Fields, record: WalRecord): WalEventContent | undefined {
  switch (recordOperation(record.info)) {
    case 0x00:
      return parseCheckpoint(data, true)
    case 0x10:
      return parseCheckpoint(data, false)
    case 0x40:
      return { kind: 'switch' }
    case 0x50:
      return { kind: 'backup-end', startLsn: data.lsn() }
    case 0x60:
      return parseParameterChange(data)
    case 0x70: {
      const time = data.timestamp()
      return { kind: 'restore-point', time, name: data.text() }
    }
    case 0x80:
      return { kind: 'full-page-writes', on: data.u8() !== 0 }
    case 0x90:
      return parseEndOfRecovery(data)
    case 0xd0: {
      const overwrittenLsn = data.lsn()
      return { kind: 'overwritten-record', overwrittenLsn, time: data.timestamp() }
    }
    default:
      return undefined
  }
}

/**
 * struct CheckPoint: redo 0, ThisTimeLineID 8, PrevTimeLineID 12, fullPageWrites 16,
 * (17 and later: wal_level 20), nextXid 24, nextOid 32, nextMulti 36, nextMultiOffset 40,
 * oldestXid 44, oldestXidDB 48, oldestMulti 52, oldestMultiDB 56, time 64 (seconds).
 */
function parseCheckpoint(data: Fields, isShutdown: boolean): Checkpoint {
  const redo = data.lsn()
  const timelineAfter = data.u32()
  const timelineBefore = data.u32()
  const fullPageWrites = data.u8() !== 0
  data.skip(7)
  const nextXid = data.u64()
  data.skip(32)
  const time = data.u64() * 1_000_000n
  const timelines = { timelineAfter, timelineBefore }
  return { kind: 'checkpoint', isShutdown, redo, ...timelines, fullPageWrites, nextXid, time }
}

function parseEndOfRecovery(data: Fields): EndOfRecovery {
  const time = data.timestamp()
  const timelineAfter = data.u32()
  return { kind: 'end-of-recovery', time, timelineAfter, timelineBefore: data.u32() }
}

function parseParameterChange(data: Fields): ParameterChange {
  return {
    kind: 'parameter-change',
    maxConnections: data.u32(),
    maxWorkerProcesses: data.u32(),
    maxWalSenders: data.u32(),
    maxPreparedTransactions: data.u32(),
    maxLocksPerTransaction: data.u32(),
    walLevel: requireWalLevel(data.u32()),
    walLogHints: data.u8() !== 0,
    trackCommitTimestamp: data.u8() !== 0,
  }
}

function requireWalLevel(value: number): WalLevel {
  const level = WAL_LEVELS[value]
  if (level === undefined) throw new RangeError('wal_level')
  return level
}

const XACT_COMMIT = 0x00
const XACT_PREPARE = 0x10
const XACT_ABORT = 0x20
const XACT_COMMIT_PREPARED = 0x30
const XACT_ABORT_PREPARED = 0x40
const XACT_OPERATION_MASK = 0x70
const XACT_HAS_INFO = 0x80

const HAS_DATABASE = 1 << 0
const HAS_SUBXACTS = 1 << 1
const HAS_RELATIONS = 1 << 2
const HAS_INVALIDATIONS = 1 << 3
const HAS_TWO_PHASE = 1 << 4
const HAS_DROPPED_STATISTICS = 1 << 8

function parseTransaction(data: Fields, record: WalRecord): WalEventContent | undefined {
  switch (record.info & XACT_OPERATION_MASK) {
    case XACT_COMMIT:
    case XACT_COMMIT_PREPARED:
      return parseTransactionEnd('commit', data, record)
    case XACT_ABORT:
    case XACT_ABORT_PREPARED:
      return parseTransactionEnd('abort', data, record)
    case XACT_PREPARE:
      return parsePrepare(data)
    default:
      return undefined
  }
}

/** xl_xact_commit and xl_xact_abort with the parts that xinfo names, in their order. */
function parseTransactionEnd(
  kind: 'commit' | 'abort',
  data: Fields,
  record: WalRecord,
): TransactionEnd {
  const time = data.timestamp()
  const parts = (record.info & XACT_HAS_INFO) === 0 ? 0 : data.u32()
  const has = (part: number): boolean => (parts & part) !== 0
  if (has(HAS_DATABASE)) data.skip(8)
  const subxids = has(HAS_SUBXACTS) ? readList(data, 4, () => data.u32()) : []
  const droppedRelations = has(HAS_RELATIONS)
    ? readList(data, 12, () => [data.u32(), data.u32(), data.u32()] as const)
    : []
  if (has(HAS_DROPPED_STATISTICS))
    skipList(data, walRecordFormat(record.major).droppedStatisticBytes)
  if (kind === 'commit' && has(HAS_INVALIDATIONS)) skipList(data, 16)
  const isPrepared = has(HAS_TWO_PHASE)
  const xid = isPrepared ? data.u32() : record.xid
  return { kind, xid, subxids, time, isPrepared, droppedRelations }
}

function readList<T>(data: Fields, elementBytes: number, read: () => T): T[] {
  const count = data.count(elementBytes)
  return Array.from({ length: count }, read)
}

function skipList(data: Fields, elementBytes: number): void {
  data.skip(data.count(elementBytes) * elementBytes)
}

/** struct xl_xact_prepare: magic 0, total_len 4, xid 8, database 12, prepared_at 16. */
function parsePrepare(data: Fields): PreparedTransaction {
  data.skip(8)
  return { kind: 'prepare', xid: data.u32(), database: data.u32(), time: data.timestamp() }
}

function parseTablespace(data: Fields, record: WalRecord): WalEventContent | undefined {
  switch (recordOperation(record.info)) {
    case 0x00:
      return { kind: 'tablespace-create', oid: data.u32(), path: data.text() }
    case 0x10:
      return { kind: 'tablespace-drop', oid: data.u32() }
    default:
      return undefined
  }
}

/** 15 put CREATE_WAL_LOG between CREATE_FILE_COPY and DROP. */
function parseDatabase(data: Fields, record: WalRecord): WalEventContent | undefined {
  const operation = recordOperation(record.info)
  const hasWalLog = walRecordFormat(record.major).hasLoggedDatabaseCreate
  if (operation === 0x00) return parseDatabaseCopy(data)
  if (hasWalLog && operation === 0x10) {
    const [database, tablespace] = [data.u32(), data.u32()]
    return { kind: 'database-create', database, tablespace, strategy: 'wal-log', source: undefined }
  }
  if (operation !== (hasWalLog ? 0x20 : 0x10)) return undefined
  const database = data.u32()
  return { kind: 'database-drop', database, tablespaces: readList(data, 4, () => data.u32()) }
}

function parseDatabaseCopy(data: Fields): DatabaseCreate {
  const [database, tablespace] = [data.u32(), data.u32()]
  const source = { database: data.u32(), tablespace: data.u32() }
  return { kind: 'database-create', database, tablespace, strategy: 'file-copy', source }
}

/** `2026-11-20T14:03:11.123456Z` */
export function formatMicroseconds(time: Microseconds): string {
  const micros = ((time % 1000n) + 1000n) % 1000n
  const date = new Date(Number((time - micros) / 1000n))
  return date.toISOString().replace('Z', `${micros.toString().padStart(3, '0')}Z`)
}
