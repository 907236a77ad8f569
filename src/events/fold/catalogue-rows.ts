/**
 * New rows of pg_class and pg_namespace, where the WAL has the whole row: names of relations and
 * schemas from the moment on that they exist. An update that only logs what differs from the row
 * before, a compressed page image, and a pg_class that VACUUM FULL has moved to another file are
 * passed over: names are then known from the next snapshot.
 *
 * PostgreSQL: catalog/pg_class.h, catalog/pg_namespace.h, heap_update's prefix and suffix.
 */
import type { RecordParts } from '../../postgres/wal-blocks.ts'
import { type HeapChange, insertedRows, type LoggedRow } from '../../postgres/wal-heap.ts'
import type { OtherContent } from '../folded-event.ts'

const PG_CLASS = 1259
const PG_NAMESPACE = 2615
const TUPLE_HEADER_BYTES = 23
const NAME_BYTES = 64

/** The first columns of both catalogues are of fixed length and never null. */
const CLASS = { oid: 0, name: 4, schema: 68, node: 88, tablespace: 92 }
const CLASS_KIND_BEFORE_18 = 115
const CLASS_KIND = 119
const NAMESPACE = { oid: 0, name: 4 }
const NAMESPACE_BYTES = 68

export function isNamingCatalogue(relation: number): boolean {
  return relation === PG_CLASS || relation === PG_NAMESPACE
}

/** What the new rows of this record say; the record's first block is of the catalogue. */
export function namesInRecord(record: RecordParts, change: HeapChange): OtherContent[] {
  const relation = record.relations[0] as number
  const database = record.databases[0] as number
  const home = record.tablespaces[0] as number
  const decode = relation === PG_CLASS ? decodeClass : decodeNamespace
  return newRows(record, change).flatMap((values) => {
    const content = decode(values, { major: record.major, database, home })
    return content === undefined ? [] : [content]
  })
}

interface CataloguePlace {
  readonly major: number
  readonly database: number
  /** The tablespace of the database. */
  readonly home: number
}

/** The values of new rows, from behind their headers. */
function newRows(record: RecordParts, change: HeapChange): Buffer[] {
  if (change.kind === 'update') return optional(updatedRow(record, change.newOffset))
  if (change.kind !== 'insert' && change.kind !== 'multi-insert') return []
  const logged = insertedRows(record, change)
  if (logged !== undefined) return logged.map(valuesOf)
  if (change.kind === 'insert') return optional(rowInImage(record, change.offset))
  const offsets = Array.from({ length: change.rows }, (_, n) =>
    change.initsPage ? n + 1 : record.mainU16(4 + 2 * n),
  )
  return offsets.flatMap((offset) => optional(rowInImage(record, offset)))
}

function optional(row: Buffer | undefined): Buffer[] {
  return row === undefined ? [] : [row]
}

function valuesOf({ body, headerBytes }: LoggedRow): Buffer {
  const from = Math.max(headerBytes - TUPLE_HEADER_BYTES, 0)
  return Buffer.from(body.buffer, body.byteOffset, body.length).subarray(from)
}

const UPDATE_FLAGS_AT = 7
const PREFIX_OR_SUFFIX_FROM_OLD = 0x60
const ROW_HEADER_BYTES = 5

function updatedRow(record: RecordParts, offset: number): Buffer | undefined {
  const from = record.dataOffsets[0] as number
  const length = record.dataLengths[0] as number
  if (length === 0) return rowInImage(record, offset)
  if ((record.mainU8(UPDATE_FLAGS_AT) & PREFIX_OR_SUFFIX_FROM_OLD) !== 0) return undefined
  if (length < ROW_HEADER_BYTES) return undefined
  const data = bufferOf(record, from, from + length)
  const headerBytes = data.readUInt8(4)
  return data.subarray(ROW_HEADER_BYTES + Math.max(headerBytes - TUPLE_HEADER_BYTES, 0))
}

function bufferOf(record: RecordParts, from: number, to: number): Buffer {
  const { buffer, byteOffset } = record.bytes
  return Buffer.from(buffer, byteOffset + from, to - from)
}

const PAGE_BYTES = 8192
const PAGE_HEADER_BYTES = 24

/** Line pointers: 15 bits of offset, 2 of flags, 15 of length. */
function rowInImage(record: RecordParts, lineNumber: number): Buffer | undefined {
  const page = imageOf(record)
  if (page === undefined || lineNumber === 0) return undefined
  const at = PAGE_HEADER_BYTES + 4 * (lineNumber - 1)
  if (at + 4 > PAGE_BYTES) return undefined
  const pointer = page.readUInt32LE(at)
  const [offset, length] = [pointer & 0x7fff, pointer >>> 17]
  if (length < TUPLE_HEADER_BYTES || offset + length > PAGE_BYTES) return undefined
  return page.subarray(offset + page.readUInt8(offset + 22), offset + length)
}

/** The page of the first block; undefined when it is not there or is compressed. */
function imageOf(record: RecordParts): Buffer | undefined {
  if (!record.hasImage(0)) return undefined
  const length = record.imageLengths[0] as number
  const hole = record.holeLengths[0] as number
  if (length + hole !== PAGE_BYTES) return undefined
  const from = record.imageOffsets[0] as number
  const image = bufferOf(record, from, from + length)
  if (hole === 0) return image
  const page = Buffer.alloc(PAGE_BYTES)
  const holeAt = record.holeOffsets[0] as number
  image.copy(page, 0, 0, holeAt)
  image.copy(page, holeAt + hole, holeAt)
  return page
}

function decodeClass(values: Buffer, place: CataloguePlace): OtherContent | undefined {
  const kindAt = place.major >= 18 ? CLASS_KIND : CLASS_KIND_BEFORE_18
  if (values.length <= kindAt) return undefined
  const number = values.readUInt32LE(CLASS.node)
  // Mapped relations and those without a file have none; shared ones are mapped.
  if (number === 0) return undefined
  const tablespace = values.readUInt32LE(CLASS.tablespace) || place.home
  return {
    kind: 'relation-named',
    node: { tablespace, database: place.database, number },
    oid: values.readUInt32LE(CLASS.oid),
    schemaOid: values.readUInt32LE(CLASS.schema),
    name: textAt(values, CLASS.name),
    relationKind: values.toString('latin1', kindAt, kindAt + 1),
  }
}

function decodeNamespace(values: Buffer, place: CataloguePlace): OtherContent | undefined {
  if (values.length < NAMESPACE_BYTES) return undefined
  const { database } = place
  const oid = values.readUInt32LE(NAMESPACE.oid)
  return { kind: 'schema-named', database, oid, name: textAt(values, NAMESPACE.name) }
}

function textAt(values: Buffer, at: number): string {
  const end = values.indexOf(0, at)
  const limit = at + NAME_BYTES
  return values.toString('utf8', at, end < 0 || end > limit ? limit : end)
}
