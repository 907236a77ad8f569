/**
 * Folds records, in the order of the WAL, into what the index of a segment holds: counts per
 * transaction and relation, ends, other events, changed pages.
 *
 * Invariant: what comes out depends on the records alone.
 */
import { RecordParts } from '../../postgres/wal-blocks.ts'
import { parseWalEvent } from '../../postgres/wal-event.ts'
import { type HeapChange, parseHeapRecord } from '../../postgres/wal-heap.ts'
import type { WalRecord } from '../../postgres/wal-reader.ts'
import type { RecordBatch } from '../../postgres/wal-walk.ts'
import {
  RM_DATABASE,
  RM_HEAP,
  RM_HEAP2,
  RM_RELATION_MAP,
  RM_STANDBY,
  RM_STORAGE,
  RM_TABLESPACE,
  RM_TRANSACTION,
  RM_XLOG,
} from '../../postgres/wal-record.ts'
import {
  DELETED,
  END_ABORT,
  END_COMMIT,
  END_HAS_EXTRA,
  END_PREPARED,
  type EndExtra,
  INSERTED,
  MOVED_AWAY,
  NO_SHAPE,
  PAGES_LOGGED,
  type PlacedOther,
  POSTGRES_EPOCH_MICROS,
  type RunningSnapshot,
  TAKEN_BACK,
  UPDATED,
} from '../segment-index.ts'
import { isNamingCatalogue, namesInRecord } from './catalogue-rows.ts'
import { clearedMapPages } from './cleared-map-pages.ts'
import { otherContentOf } from './other-records.ts'
import { PageSets } from './page-sets.ts'
import { RelationTable } from './relation-table.ts'
import { TransactionParts } from './transaction-parts.ts'

const XACT_OPERATION_MASK = 0x70
const XACT_COMMIT = 0x00
const XACT_ABORT = 0x20
const XACT_COMMIT_PREPARED = 0x30
const XACT_ABORT_PREPARED = 0x40
const XACT_HAS_INFO = 0x80
const HAS_DATABASE = 1
const XLOG_OPERATION_MASK = 0xf0
const XLOG_FPI = 0xb0
const XLOG_FPI_FOR_HINT = 0xa0
const MAIN_FORK = 0
const VISIBILITY_FORK = 2
const HIGH_WORD = 0x1_0000_0000

export class SegmentFold {
  readonly relations: RelationTable = new RelationTable()
  readonly pages: PageSets = new PageSets()
  readonly parts: TransactionParts = new TransactionParts()
  readonly kinds: number[] = []
  readonly xids: number[] = []
  readonly offsets: number[] = []
  readonly endOffsets: number[] = []
  readonly times: number[] = []
  readonly shapes: number[] = []
  readonly begins: number[] = []
  readonly extras = new Map<number, EndExtra>()
  readonly others: PlacedOther[] = []
  snapshot: RunningSnapshot | undefined
  earliest = Number.POSITIVE_INFINITY
  latest = Number.NEGATIVE_INFINITY
  readonly #record = new RecordParts()
  readonly #segmentStart: bigint
  /** Of the record at hand. */
  #endOffset = 0
  #batchBase = -1n
  #batchOffset = 0

  constructor(segmentStart: bigint) {
    this.#segmentStart = segmentStart
  }

  /** False: the record is not what it says it is. */
  take(record: WalRecord): boolean {
    if (!this.#record.read(record)) return false
    const offset = Number(record.lsn - this.#segmentStart)
    return this.#fold(offset, Number(record.endLsn - this.#segmentStart), () => record)
  }

  /** Record `n` of a batch; few of them are needed as objects. */
  takeWalked(batch: RecordBatch, n: number): boolean {
    const { bytes, major, base } = batch
    if (!this.#record.readAt(bytes, batch.at(n), batch.totalLength(n), major)) return false
    if (base !== this.#batchBase) {
      this.#batchBase = base
      this.#batchOffset = Number(base - this.#segmentStart)
    }
    const [offset, endOffset] = [batch.start(n), batch.end(n)]
    const delta = this.#batchOffset
    return this.#fold(offset + delta, endOffset + delta, () => batch.record(n))
  }

  #fold(offset: number, endOffset: number, record: () => WalRecord): boolean {
    const parts = this.#record
    this.#endOffset = endOffset
    const first = parts.blocks === 0 ? -1 : this.#noteBlocks(parts)
    switch (parts.resourceManager) {
      case RM_HEAP:
      case RM_HEAP2:
        return this.#takeHeap(parts, first, offset)
      case RM_TRANSACTION:
        return this.#takeTransaction(record, parts, offset)
      case RM_XLOG:
        return this.#takeXlog(record, parts, first, offset)
      case RM_STORAGE:
      case RM_DATABASE:
      case RM_TABLESPACE:
      case RM_RELATION_MAP:
      case RM_STANDBY:
        this.#takeOther(record, parts, offset)
        return true
      default:
        this.#noteTopXid(parts, offset)
        return true
    }
  }

  /** The number of the first block's relation. */
  #noteBlocks(parts: RecordParts): number {
    let first = -1
    for (let n = 0; n < parts.blocks; n++) {
      const relation = this.relations.number(
        parts.tablespaces[n] as number,
        parts.databases[n] as number,
        parts.relations[n] as number,
      )
      if (n === 0) first = relation
      this.pages.add(relation, parts.forks[n] as number, parts.blockNumbers[n] as number)
    }
    return first
  }

  #noteTopXid(parts: RecordParts, offset: number): void {
    if (parts.topLevelXid === 0 || parts.xid === 0) return
    this.parts.at(parts.xid, offset).topXid = parts.topLevelXid
  }

  #takeHeap(parts: RecordParts, relation: number, offset: number): boolean {
    const change = parseHeapRecord(parts)
    if (change === undefined) return false
    this.#noteTopXid(parts, offset)
    if (relation >= 0) this.#countRows(change, parts, relation, offset)
    if (change.kind === 'truncate') {
      const { database, relations } = change
      const content = { kind: 'relation-truncated', database, relationOids: relations } as const
      this.others.push({ offset, xid: parts.xid, content })
    }
    return true
  }

  #countRows(change: HeapChange, parts: RecordParts, relation: number, offset: number): void {
    for (const block of clearedMapPages(change, parts)) {
      this.pages.add(relation, VISIBILITY_FORK, block)
    }
    switch (change.kind) {
      case 'insert':
        if (change.isToast) this.relations.toast[relation] = 1
        this.parts.at(parts.xid, offset).add(relation, INSERTED, 1)
        break
      case 'multi-insert':
        this.parts.at(parts.xid, offset).add(relation, INSERTED, change.rows)
        break
      case 'update':
        this.parts.at(parts.xid, offset).add(relation, UPDATED, 1)
        break
      case 'delete': {
        const kind = change.isSuper ? TAKEN_BACK : change.isPartitionMove ? MOVED_AWAY : DELETED
        this.parts.at(parts.xid, offset).add(relation, kind, 1)
        break
      }
      default:
        return
    }
    if (isNamingCatalogue(parts.relations[0] as number) && parts.databases[0] !== 0) {
      for (const content of namesInRecord(parts, change)) {
        this.others.push({ offset, xid: parts.xid, content })
      }
    }
  }

  #takeXlog(
    record: () => WalRecord,
    parts: RecordParts,
    relation: number,
    offset: number,
  ): boolean {
    const operation = parts.info & XLOG_OPERATION_MASK
    if (operation === XLOG_FPI && relation >= 0) {
      if (parts.xid === 0) return true
      const part = this.parts.at(parts.xid, offset)
      for (let n = 0; n < parts.blocks; n++) {
        if (parts.forks[n] === MAIN_FORK) part.add(relation, PAGES_LOGGED, 1)
      }
    } else if (operation !== XLOG_FPI_FOR_HINT) this.#takeOther(record, parts, offset)
    return true
  }

  #takeOther(record: () => WalRecord, parts: RecordParts, offset: number): void {
    this.#noteTopXid(parts, offset)
    const content = otherContentOf(record(), parts)
    if (content === undefined) return
    if (content.kind === 'running') {
      const { nextXid, oldestXid } = content
      this.snapshot ??= { offset, nextXid, oldestXid }
    }
    if (content.kind === 'restore-point') {
      this.#noteTime(Number(content.time - POSTGRES_EPOCH_MICROS))
    }
    if (content.kind === 'assigned') {
      const top = parts.mainU32(0)
      for (const subxid of content.subxids) {
        const part = this.parts.find(subxid)
        if (part !== undefined) part.topXid = top
      }
      this.others.push({ offset, xid: top, content })
    } else this.others.push({ offset, xid: parts.xid, content })
  }

  #noteTime(time: number): void {
    if (time < this.earliest) this.earliest = time
    if (time > this.latest) this.latest = time
  }

  #takeTransaction(record: () => WalRecord, parts: RecordParts, offset: number): boolean {
    const operation = parts.info & XACT_OPERATION_MASK
    switch (operation) {
      case XACT_COMMIT:
      case XACT_ABORT:
        if ((parts.info & XACT_HAS_INFO) !== 0) return this.#takeEnd(record(), parts, offset)
        if (parts.mainLength < 8) return false
        this.#end(parts, offset, operation === XACT_COMMIT ? END_COMMIT : END_ABORT)
        return true
      case XACT_COMMIT_PREPARED:
      case XACT_ABORT_PREPARED:
        return this.#takeEnd(record(), parts, offset)
      default:
        this.#takeOther(record, parts, offset)
        return true
    }
  }

  /** An end that says more than its time. */
  #takeEnd(record: WalRecord, parts: RecordParts, offset: number): boolean {
    const parsed = parseWalEvent(record)
    if (parsed.kind !== 'event') return false
    const { event } = parsed
    if (event.kind !== 'commit' && event.kind !== 'abort') return false
    const hasDatabase =
      (record.info & XACT_HAS_INFO) !== 0 && (parts.mainU32(8) & HAS_DATABASE) !== 0
    const extra: EndExtra = {
      database: hasDatabase ? parts.mainU32(12) : 0,
      subxids: event.subxids,
      dropped: event.droppedRelations.map((node) => this.relations.number(...node)),
    }
    const hasExtra = extra.database !== 0 || extra.subxids.length > 0 || extra.dropped.length > 0
    const base = event.kind === 'commit' ? END_COMMIT : END_ABORT
    const kind = base + (event.isPrepared ? END_PREPARED : 0)
    this.#end(parts, offset, kind, event.xid, hasExtra ? extra : undefined)
    return true
  }

  #end(parts: RecordParts, offset: number, kind: number, xid = parts.xid, extra?: EndExtra): void {
    const part = this.parts.end(xid, extra?.subxids ?? NONE)
    const time = (parts.mainU32(4) | 0) * HIGH_WORD + parts.mainU32(0)
    this.#noteTime(time)
    if (extra !== undefined) this.extras.set(this.kinds.length, extra)
    this.kinds.push(extra === undefined ? kind : kind + END_HAS_EXTRA)
    this.xids.push(xid)
    this.offsets.push(offset)
    this.endOffsets.push(this.#endOffset)
    this.times.push(time)
    this.shapes.push(part === undefined ? NO_SHAPE : this.parts.shapeOf(part))
    this.begins.push(part?.first ?? offset)
  }
}

const NONE: readonly number[] = []
