/**
 * Records about the files of relations and about what runs: storage made and cut short, the
 * file numbers of mapped catalogues, running transactions, subtransactions assigned to their
 * top. PostgreSQL: catalog/storage_xlog.h, utils/relmapper.h, storage/standbydefs.h,
 * access/xact.h.
 *
 * Pure. Undefined: another record, or one too short for what it says it is.
 */
import { FORKS, type RecordParts } from './wal-blocks.ts'
import {
  RM_RELATION_MAP,
  RM_STANDBY,
  RM_STORAGE,
  RM_TRANSACTION,
  recordOperation,
} from './wal-record.ts'

export interface RelationFile {
  readonly tablespace: number
  /** 0 for shared relations. */
  readonly database: number
  readonly relation: number
}

export type StorageChange = StorageCreate | StorageTruncate

export interface StorageCreate extends RelationFile {
  readonly kind: 'storage-create'
  readonly fork: (typeof FORKS)[number]
}

export interface StorageTruncate extends RelationFile {
  readonly kind: 'storage-truncate'
  /** Blocks of the main fork that remain. */
  readonly blocks: number
  readonly cutsMain: boolean
  readonly cutsVisibilityMap: boolean
  readonly cutsFreeSpaceMap: boolean
}

const STORAGE_CREATE = 0x10
const STORAGE_TRUNCATE = 0x20

export function parseStorageRecord(record: RecordParts): StorageChange | undefined {
  if (record.resourceManager !== RM_STORAGE) return undefined
  const operation = recordOperation(record.info)
  if (operation === STORAGE_CREATE) return parseCreate(record)
  return operation === STORAGE_TRUNCATE ? parseTruncate(record) : undefined
}

function relationFileAt(record: RecordParts, at: number): RelationFile {
  return {
    tablespace: record.mainU32(at),
    database: record.mainU32(at + 4),
    relation: record.mainU32(at + 8),
  }
}

/** xl_smgr_create: relation 0, fork 12. */
function parseCreate(record: RecordParts): StorageCreate | undefined {
  const fork = record.mainLength < 16 ? undefined : FORKS[record.mainU32(12)]
  if (fork === undefined) return undefined
  return { kind: 'storage-create', ...relationFileAt(record, 0), fork }
}

/** xl_smgr_truncate: blkno 0, relation 4, flags 16. */
function parseTruncate(record: RecordParts): StorageTruncate | undefined {
  if (record.mainLength < 20) return undefined
  const flags = record.mainU32(16)
  return {
    kind: 'storage-truncate',
    ...relationFileAt(record, 4),
    blocks: record.mainU32(0),
    cutsMain: (flags & 1) !== 0,
    cutsVisibilityMap: (flags & 2) !== 0,
    cutsFreeSpaceMap: (flags & 4) !== 0,
  }
}

/** File numbers of mapped catalogues, whole: pairs of oid and file number. */
export interface RelationMapUpdate {
  readonly kind: 'relation-map'
  /** 0 for the shared map. */
  readonly database: number
  readonly tablespace: number
  readonly files: ReadonlyMap<number, number>
}

const MAP_MAGIC = 0x592717

/**
 * xl_relmap_update: dbid 0, tsid 4, nbytes 8, then the file pg_filenode.map: magic 0,
 * number of mappings 4, mappings 8 (oid, file number).
 */
export function parseRelationMapRecord(record: RecordParts): RelationMapUpdate | undefined {
  if (record.resourceManager !== RM_RELATION_MAP || record.mainLength < 20) return undefined
  const count = record.mainU32(16)
  if (record.mainU32(12) !== MAP_MAGIC || 20 + 8 * count > record.mainLength) return undefined
  const files = new Map<number, number>()
  for (let n = 0; n < count; n++) {
    files.set(record.mainU32(20 + 8 * n), record.mainU32(24 + 8 * n))
  }
  return {
    kind: 'relation-map',
    database: record.mainU32(0),
    tablespace: record.mainU32(4),
    files,
  }
}

/** Written with every checkpoint, and every 15 s of activity, at wal_level replica and above. */
export interface RunningTransactions {
  readonly kind: 'running-transactions'
  readonly nextXid: number
  /** No transaction below it runs. */
  readonly oldestRunningXid: number
  readonly latestCompletedXid: number
  /** Top-level ones; a subtransaction may be missing when `isOverflowed`. */
  readonly xids: readonly number[]
  readonly subxids: readonly number[]
  readonly isOverflowed: boolean
}

const STANDBY_RUNNING_XACTS = 0x10

/**
 * xl_running_xacts: xcnt 0, subxcnt 4, subxid_overflow 8, nextXid 12, oldestRunningXid 16,
 * latestCompletedXid 20, xids 24.
 */
export function parseRunningTransactions(record: RecordParts): RunningTransactions | undefined {
  const isIt =
    record.resourceManager === RM_STANDBY && recordOperation(record.info) === STANDBY_RUNNING_XACTS
  if (!isIt || record.mainLength < 24) return undefined
  const [count, subCount] = [record.mainU32(0), record.mainU32(4)]
  if (24 + 4 * (count + subCount) > record.mainLength) return undefined
  const xidAt = (n: number): number => record.mainU32(24 + 4 * n)
  return {
    kind: 'running-transactions',
    nextXid: record.mainU32(12),
    oldestRunningXid: record.mainU32(16),
    latestCompletedXid: record.mainU32(20),
    xids: Array.from({ length: count }, (_, n) => xidAt(n)),
    subxids: Array.from({ length: subCount }, (_, n) => xidAt(count + n)),
    isOverflowed: record.mainU8(8) !== 0,
  }
}

/** Every 64 subtransactions of a top-level one, unless their records name it. */
export interface Assignment {
  readonly kind: 'assignment'
  readonly topLevelXid: number
  readonly subxids: readonly number[]
}

const XACT_OPERATION_MASK = 0x70
const XACT_ASSIGNMENT = 0x50

/** xl_xact_assignment: xtop 0, nsubxacts 4, xsub 8. */
export function parseAssignment(record: RecordParts): Assignment | undefined {
  const isIt =
    record.resourceManager === RM_TRANSACTION &&
    (record.info & XACT_OPERATION_MASK) === XACT_ASSIGNMENT
  if (!isIt || record.mainLength < 8) return undefined
  const count = record.mainU32(4)
  if (8 + 4 * count > record.mainLength) return undefined
  return {
    kind: 'assignment',
    topLevelXid: record.mainU32(0),
    subxids: Array.from({ length: count }, (_, n) => record.mainU32(8 + 4 * n)),
  }
}
