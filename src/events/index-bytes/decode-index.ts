/**
 * From the bytes of an object to the index: the inverse of encode-index.ts.
 *
 * Invariant: what is handed out passed the hashes of header and section; TM1601 otherwise, also
 * when the content is not what the format says.
 */
import { zstdDecompressSync } from 'node:zlib'
import { damagedObject } from '../../repository/envelope.ts'
import {
  type ChangedFork,
  COUNT_KINDS,
  END_HAS_EXTRA,
  type EndColumns,
  type EndExtra,
  type IndexedRelation,
  type IndexHeader,
  NO_SHAPE,
  type OpenPart,
  type RecordHead,
  type RecordRest,
  type SegmentEvents,
} from '../segment-index.ts'
import { ColumnReader, splitColumns } from './column.ts'
import { COLUMN } from './column-numbers.ts'
import { type SectionPlace, type StoredHeader, sha256 } from './header.ts'
import { decodeOthers } from './others.ts'

const ALIGNMENT = 8
/** No section is larger; a damaged length must not allocate more. */
const MAX_RAW_BYTES = 2 * 1024 * 1024 * 1024

export function decodeEvents(key: string, stored: StoredHeader, section: Buffer): SegmentEvents {
  const raw = decompress(key, stored.events, section)
  return translated(key, () => readEvents(splitColumns(raw), stored.header))
}

export function decodePages(key: string, stored: StoredHeader, section: Buffer): ChangedFork[] {
  const raw = decompress(key, stored.pages, section)
  return translated(key, () => readPages(splitColumns(raw)))
}

function decompress(key: string, place: SectionPlace, section: Buffer): Buffer {
  if (section.length !== place.storedBytes || !sha256(section).equals(place.hash)) {
    throw damagedObject(key, 'the SHA-256 of a section is not the one that was written')
  }
  if (place.rawBytes > MAX_RAW_BYTES) throw damagedObject(key, 'its length is not plausible')
  const raw = translated(key, () =>
    zstdDecompressSync(section, { maxOutputLength: Math.max(place.rawBytes, 1) }),
  )
  if (raw.length === place.rawBytes) return raw
  throw damagedObject(key, 'its content is not as long as it says')
}

function translated<T>(key: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (cause instanceof Error) throw damagedObject(key, 'its columns do not add up', cause)
    throw cause
  }
}

function readEvents(columns: ReadonlyMap<number, Buffer>, header: IndexHeader): SegmentEvents {
  const column = (number: number): ColumnReader => new ColumnReader(columns.get(number) ?? NO_BYTES)
  const relations = readRelations(column(COLUMN.relations))
  const shapes = readShapes(column(COLUMN.shapes), relations.length)
  const ends = readEnds(columns, header, shapes.length, relations.length)
  const head = columns.get(COLUMN.head)
  return {
    relations,
    shapes,
    ends,
    open: readOpen(column(COLUMN.open), shapes.length),
    others: decodeOthers(columns.get(COLUMN.others) ?? NO_BYTES),
    head: head === undefined ? undefined : readHead(new ColumnReader(head)),
    rest: readRest(column(COLUMN.rest)),
  }
}

const NO_BYTES = Buffer.alloc(0)

function readRelations(column: ColumnReader): IndexedRelation[] {
  let [database, tablespace, number] = [0, 0, 0]
  return Array.from({ length: column.count() }, () => {
    database += column.s()
    tablespace += column.s()
    number += column.s()
    return { tablespace, database, number, isToast: (column.v() & 1) !== 0 }
  })
}

function readShapes(column: ColumnReader, relations: number): number[][] {
  return Array.from({ length: column.count() }, () => {
    const shape: number[] = []
    for (let left = column.count(); left > 0; left--) {
      shape.push(within(column.v(), relations))
      const mask = column.v()
      for (let kind = 0; kind < COUNT_KINDS; kind++) {
        shape.push((mask & (1 << kind)) === 0 ? 0 : column.v())
      }
    }
    return shape
  })
}

function within(number: number, count: number): number {
  if (number >= count) throw new RangeError('a number of a relation or a shape')
  return number
}

function readEnds(
  columns: ReadonlyMap<number, Buffer>,
  header: IndexHeader,
  shapeCount: number,
  relations: number,
): EndColumns {
  const kinds = Array.from(columns.get(COLUMN.kinds) ?? NO_BYTES)
  if (kinds.length !== header.endCount) throw new RangeError('number of ends')
  const column = (number: number): ColumnReader => new ColumnReader(columns.get(number) ?? NO_BYTES)
  const { length } = kinds
  const xids = readDeltas(column(COLUMN.xids), length, 0)
  const offsets = readPlaces(column(COLUMN.places), length)
  const lengths = column(COLUMN.lengths)
  const endOffsets = offsets.map((offset) => offset + lengths.v() * ALIGNMENT)
  const times = readDeltas(column(COLUMN.times), length, header.times?.earliest ?? 0)
  const shapeColumn = column(COLUMN.endShapes)
  const shapes = kinds.map(() => {
    const shape = shapeColumn.v()
    return shape === 0 ? NO_SHAPE : within(shape - 1, shapeCount)
  })
  const beginColumn = column(COLUMN.begins)
  const begins = offsets.map((offset, n) =>
    shapes[n] === NO_SHAPE ? offset : offset - beginColumn.v() * ALIGNMENT,
  )
  const extras = readExtras(column(COLUMN.extras), kinds, xids, relations)
  return { kinds, xids, offsets, endOffsets, times, shapes, begins, extras }
}

function readDeltas(column: ColumnReader, length: number, first: number): number[] {
  let value = first
  const values: number[] = []
  for (let n = 0; n < length; n++) {
    value += column.s()
    values.push(value)
  }
  return values
}

function readPlaces(column: ColumnReader, length: number): number[] {
  let offset = 0
  const offsets: number[] = []
  for (let n = 0; n < length; n++) {
    offset += column.v() * ALIGNMENT
    offsets.push(offset)
  }
  return offsets
}

function readExtras(
  column: ColumnReader,
  kinds: readonly number[],
  xids: readonly number[],
  relations: number,
): Map<number, EndExtra> {
  const extras = new Map<number, EndExtra>()
  for (const [n, kind] of kinds.entries()) {
    if ((kind & END_HAS_EXTRA) === 0) continue
    const database = column.v()
    const subxids = readDeltas(column, column.count(), xids[n] as number)
    const dropped = readDeltas(column, column.count(), 0).map((one) => within(one, relations))
    extras.set(n, { database, subxids, dropped })
  }
  return extras
}

function readOpen(column: ColumnReader, shapes: number): OpenPart[] {
  let xid = 0
  return Array.from({ length: column.count() }, () => {
    xid += column.s()
    const topXid = column.v()
    const shape = within(column.v(), shapes)
    const first = column.v() * ALIGNMENT
    return { xid, topXid, shape, first, last: first + column.v() * ALIGNMENT }
  })
}

function readHead(column: ColumnReader): RecordHead {
  const offset = column.v()
  return { offset, bytes: column.rest() }
}

function readRest(column: ColumnReader): RecordRest {
  const isOverwritten = column.u8() === 1
  const firstOffset = column.v()
  return { isOverwritten, firstOffset, bytes: column.rest() }
}

function readPages(columns: ReadonlyMap<number, Buffer>): ChangedFork[] {
  const relations = readRelations(new ColumnReader(columns.get(COLUMN.relations) ?? NO_BYTES))
  const column = new ColumnReader(columns.get(COLUMN.blocks) ?? NO_BYTES)
  return Array.from({ length: column.count() }, () => {
    const { tablespace, database, number } = relations[
      within(column.v(), relations.length)
    ] as IndexedRelation
    const fork = column.v()
    const blocks = new Uint32Array(column.count())
    let before = -1
    for (let n = 0; n < blocks.length; n++) {
      before += column.v() + 1
      blocks[n] = before
    }
    return { node: { tablespace, database, number }, fork, blocks }
  })
}
