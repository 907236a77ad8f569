/**
 * Records as our reader and decoders see them, in the words of PostgreSQL's own tools: what must
 * be equal when both have read the same WAL.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatSegmentName } from '../../src/postgres/lsn.ts'
import { FORKS, RecordParts } from '../../src/postgres/wal-blocks.ts'
import {
  type HeapChange,
  insertedRows,
  type LoggedRow,
  parseHeapRecord,
} from '../../src/postgres/wal-heap.ts'
import { createWalReader, type WalRecord } from '../../src/postgres/wal-reader.ts'
import { RESOURCE_MANAGER_NAMES } from '../../src/postgres/wal-record.ts'
import {
  parseAssignment,
  parseRelationMapRecord,
  parseRunningTransactions,
  parseStorageRecord,
} from '../../src/postgres/wal-storage.ts'
import { type DumpedRecord, formatPadded, type WalDirectory } from './wal-dump.ts'

const PAGE_BYTES = 8192

/** A record, and what PostgreSQL's tools must say of it. */
export interface ReadRecord {
  readonly record: Omit<DumpedRecord, 'description'>
  /** What the record's description must be. */
  readonly description: RegExp
  readonly heap: HeapChange | undefined
  /** Of inserts: their rows, where the record has them. */
  readonly rows: readonly LoggedRow[] | undefined
}

/** The records of a directory of segments, one after the other. */
export function* readRecords(archive: WalDirectory, kernel: boolean): Generator<ReadRecord> {
  const { directory, sizeBytes, systemIdentifier, from } = archive
  const reader = createWalReader({
    walSegmentSizeBytes: sizeBytes,
    systemIdentifier,
    start: { from },
    kernel,
  })
  for (;;) {
    const result = reader.next()
    if (result.kind === 'record') yield read(result.record)
    else if (result.kind === 'invalid') throw new Error(`${result.reason} at ${result.lsn}`)
    else {
      const path = join(directory, formatSegmentName(1, result.segment, sizeBytes))
      const bytes = readIfThere(path)
      if (bytes === undefined) return
      reader.give(result.segment, bytes)
    }
  }
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch {
    return undefined
  }
}

const PARTS = new RecordParts()

function read(record: WalRecord): ReadRecord {
  assert.ok(PARTS.read(record), `${record.lsn} does not add up`)
  const blocks = Array.from({ length: PARTS.blocks }, (_, n) => describeBlock(PARTS, n))
  let imageBytes = 0
  for (let n = 0; n < PARTS.blocks; n++) imageBytes += PARTS.imageLengths[n] as number
  const { resourceManager, xid, totalLength } = record
  return {
    record: {
      resourceManager: RESOURCE_MANAGER_NAMES[resourceManager] ?? '',
      xid,
      lsn: formatPadded(record.lsn),
      previous: formatPadded(record.previousLsn),
      totalLength,
      imageBytes,
      blocks,
    },
    description: describe(PARTS),
    heap: parseHeapRecord(PARTS),
    rows: rowsOf(PARTS),
  }
}

/** A page image stands for rows unless wal_level is logical; without one they are there. */
function rowsOf(parts: RecordParts): LoggedRow[] | undefined {
  const change = parseHeapRecord(parts)
  if (change?.kind !== 'insert' && change?.kind !== 'multi-insert') return undefined
  const rows = insertedRows(parts, change)
  assert.ok(rows !== undefined || parts.hasImage(0))
  const expected = change.kind === 'insert' ? 1 : change.rows
  assert.ok(rows === undefined || rows.length === expected)
  return rows?.map((row) => ({ ...row, body: Buffer.from(row.body) }))
}

/** As XLogRecGetBlockRefInfo writes it. */
function describeBlock(parts: RecordParts, n: number): string {
  const relation = `${parts.tablespaces[n]}/${parts.databases[n]}/${parts.relations[n]}`
  const fork = FORKS[parts.forks[n] as number]
  const place = `blkref #${parts.ids[n]}: rel ${relation} fork ${fork} blk ${parts.blockNumbers[n]}`
  if (!parts.hasImage(n)) return place
  const purpose = parts.isImageApplied(n) ? '' : ' for WAL verification'
  const [offset, length] = [parts.holeOffsets[n] as number, parts.holeLengths[n] as number]
  const stored = parts.imageLengths[n] as number
  const saved = PAGE_BYTES - length - stored
  const method = COMPRESSION[((parts.imageFlags[n] as number) >> 2) & 7]
  const compression = method === undefined ? '' : `, compression saved: ${saved}, method: ${method}`
  return `${place} (FPW${purpose}); hole: offset: ${offset}, length: ${length}${compression}`
}

const COMPRESSION: Readonly<Record<number, string>> = { 1: 'pglz', 2: 'lz4', 4: 'zstd' }

function describe(parts: RecordParts): RegExp {
  const heap = parseHeapRecord(parts)
  if (heap !== undefined) return describeHeap(heap)
  const storage = parseStorageRecord(parts)
  if (storage?.kind === 'storage-create') {
    return new RegExp(`^CREATE \\S+/${storage.relation}(_fsm|_vm|_init)?$`)
  }
  if (storage !== undefined) {
    const { cutsMain, cutsVisibilityMap, cutsFreeSpaceMap } = storage
    const flags = (cutsMain ? 1 : 0) | (cutsVisibilityMap ? 2 : 0) | (cutsFreeSpaceMap ? 4 : 0)
    return new RegExp(
      `^TRUNCATE \\S+/${storage.relation} to ${storage.blocks} blocks flags ${flags}$`,
    )
  }
  const map = parseRelationMapRecord(parts)
  if (map !== undefined) {
    assert.ok(map.files.size > 5)
    return new RegExp(`^UPDATE database ${map.database} tablespace ${map.tablespace} size`)
  }
  const running = parseRunningTransactions(parts)
  if (running !== undefined) {
    const { nextXid, latestCompletedXid, oldestRunningXid, xids, subxids } = running
    const oldest = `oldestRunningXid ${oldestRunningXid}`
    const ends = `nextXid ${nextXid} latestCompletedXid ${latestCompletedXid} ${oldest}`
    const all = xids.length === 0 ? '' : `; ${xids.length} xacts: ${xids.join(' ')}`
    const subs = subxids.length === 0 ? '' : `; ${subxids.length} subxacts: ${subxids.join(' ')}`
    return new RegExp(`^RUNNING_XACTS ${ends}${all}${subs}$`)
  }
  const assignment = parseAssignment(parts)
  if (assignment !== undefined) {
    const { topLevelXid, subxids } = assignment
    return new RegExp(`^ASSIGNMENT xtop ${topLevelXid}: subxacts: ${subxids.join(' ')}$`)
  }
  return DECODED.has(parts.resourceManager) ? OTHER : ANY
}

const ANY = /^/
/** Records of the resource managers that are decoded, of kinds that are not. */
const OTHER = /^(LOCK|INVALIDATIONS?|COMMIT|ABORT|PREPARE)/
const DECODED = new Set([1, 2, 7, 8, 9, 10])

/** 16 writes `off: 1, flags: 0x00`, versions before `off 1 flags 0x00`. */
function describeHeap(change: HeapChange): RegExp {
  switch (change.kind) {
    case 'insert':
      return new RegExp(`^INSERT${init(change)} off:? ${change.offset},? flags`)
    case 'multi-insert': {
      const { rows } = change
      return new RegExp(`^MULTI_INSERT${init(change)} (${rows} tuples|ntuples: ${rows},) `)
    }
    case 'delete': {
      const flags = `0x.${change.isSuper ? '[89A-F]' : '[0-7]'}`
      const moved = change.isPartitionMove ? flags.replace('.', '1') : flags.replace('.', '0')
      return new RegExp(`^DELETE (xmax: \\d+, )?off:? ${change.offset},?.* flags:? ${moved}`)
    }
    case 'update': {
      const word = `${change.isHot ? 'HOT_' : ''}UPDATE${init(change)}`
      const { oldOffset, oldXmax } = change
      const named = `old_xmax: ${oldXmax}, old_off: ${oldOffset}`
      const before = `(${named}|off ${oldOffset} xmax ${oldXmax})`
      return new RegExp(`^${word} ${before}.* (new_off:|new off) ${change.newOffset}\\b`)
    }
    case 'confirm':
      return new RegExp(`^(HEAP_)?CONFIRM off:? ${change.offset}`)
    case 'truncate':
      return new RegExp(`^TRUNCATE .*nrelids:? ${change.relations.length}`)
    case 'prune':
      return /^(PRUNE|VACUUM|PRUNE_ON_ACCESS|PRUNE_VACUUM_SCAN|PRUNE_VACUUM_CLEANUP) /
    case 'freeze':
      return /^FREEZE_PAGE /
    default:
      return new RegExp(`^${change.kind.toUpperCase().replaceAll('-', '_')} `)
  }
}

function init({ initsPage }: { readonly initsPage: boolean }): string {
  return initsPage ? '\\+INIT' : ''
}

/** Throws where they differ; gives what the description differs in, which has its own words. */
export function compareRecord(
  { record, description }: ReadRecord,
  dumped: DumpedRecord | undefined,
): string | undefined {
  const { description: said, ...expected } = dumped ?? ({ description: '' } as DumpedRecord)
  assert.deepEqual(record, expected, said)
  return description.test(said) ? undefined : `${record.lsn} ${said} is not ${description}`
}
