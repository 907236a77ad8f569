/**
 * Where DROP DATABASE begins. Before it removes anything, the server marks the database as
 * invalid, in place and outside of any transaction, so that nobody connects to what is left of it
 * (dropdb(), since 13.12, 14.9, 15.4 and 16): recovery to just before the transaction would bring
 * back a database that refuses connections. The mark is a few records before the
 * transaction's first one, so it is looked for in the WAL itself.
 */
import { findPathSegment, type WalPath } from '../archive/load-segment.ts'
import { type Lsn, segmentNumber, segmentStart } from '../postgres/lsn.ts'
import { pathOf } from '../postgres/history-file.ts'
import { RecordParts } from '../postgres/wal-blocks.ts'
import { createWalReader, type WalRecord } from '../postgres/wal-reader.ts'
import { RM_HEAP } from '../postgres/wal-record.ts'

export interface DroppedDatabase {
  readonly xid: number
  /** Of the first record of the transaction that was seen. */
  readonly firstLsn: Lsn
  /** Of the record that removed the files. */
  readonly lsn: Lsn
}

/** The mark's LSN; undefined where there is none before the transaction's first record. */
export async function findDatabaseMark(
  path: WalPath,
  dropped: DroppedDatabase,
): Promise<Lsn | undefined> {
  const { walSegmentSizeBytes } = path
  const first = segmentNumber(dropped.firstLsn, walSegmentSizeBytes)
  const before = first === 0n ? undefined : await findPathSegment(path, first - 1n)
  const begin = before === undefined ? first : first - 1n
  const timelines = new Set(pathOf(path.path))
  const reader = createWalReader({
    walSegmentSizeBytes,
    systemIdentifier: BigInt(path.systemIdentifier),
    start: { from: segmentStart(begin, walSegmentSizeBytes) },
    isOnPath: (timeline) => timelines.has(timeline),
  })
  const search = new MarkSearch(dropped)
  for (;;) {
    const result = reader.next()
    if (result.kind === 'invalid') return undefined
    if (result.kind === 'record') {
      if (search.take(result.record)) return search.mark
      continue
    }
    const isKept = before !== undefined && result.segment === begin
    const loaded = isKept ? before : await findPathSegment(path, result.segment)
    if (loaded === undefined) return undefined
    reader.give(result.segment, loaded.bytes)
  }
}

const PG_DATABASE = 1262
const HEAP_OPERATION_MASK = 0x70
const HEAP_DELETE = 0x10
const HEAP_INPLACE = 0x70
const DELETE_OFFSET_AT = 4
const INPLACE_OFFSET_AT = 0

class MarkSearch {
  readonly #dropped: DroppedDatabase
  readonly #parts = new RecordParts()
  /** By block and line pointer: the last mark of a row. */
  readonly #marks = new Map<string, Lsn>()
  mark: Lsn | undefined

  constructor(dropped: DroppedDatabase) {
    this.#dropped = dropped
  }

  /** True: nothing behind it matters. */
  take(record: WalRecord): boolean {
    if (record.lsn >= this.#dropped.lsn) return true
    if (record.resourceManager !== RM_HEAP) return false
    const operation = record.info & HEAP_OPERATION_MASK
    if (operation !== HEAP_INPLACE && operation !== HEAP_DELETE) return false
    const parts = this.#parts
    if (!parts.read(record) || parts.blocks === 0) return false
    if (parts.relations[0] !== PG_DATABASE || parts.databases[0] !== 0) return false
    const block = parts.blockNumbers[0] as number
    if (operation === HEAP_INPLACE) {
      if (isMark(parts)) this.#marks.set(`${block}/${parts.mainU16(INPLACE_OFFSET_AT)}`, record.lsn)
      return false
    }
    if (record.xid !== this.#dropped.xid) return false
    const mark = this.#marks.get(`${block}/${parts.mainU16(DELETE_OFFSET_AT)}`)
    if (mark !== undefined && mark < this.#dropped.firstLsn) this.mark = mark
    return true
  }
}

/** DATCONNLIMIT_INVALID_DB. VACUUM changes rows of pg_database in place, too. */
const INVALID_DATABASE = -2
/** pg_database.datconnlimit: behind datcollate and datctype up to 14. */
const CONNECTION_LIMIT_AT_14 = 208
const CONNECTION_LIMIT_AT = 80

/** Where the row is only in the image of its page, it is taken for one: too early loses nothing. */
function isMark(parts: RecordParts): boolean {
  const at = parts.major <= 14 ? CONNECTION_LIMIT_AT_14 : CONNECTION_LIMIT_AT
  const length = parts.dataLengths[0] as number
  if (length === 0) return true
  if (length < at + 4) return false
  const { buffer, byteOffset } = parts.bytes
  const row = Buffer.from(buffer, byteOffset + (parts.dataOffsets[0] as number), length)
  return row.readInt32LE(at) === INVALID_DATABASE
}
