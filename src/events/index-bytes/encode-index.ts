/**
 * From an index in memory to the bytes of its object (docs/design/event-index.md, section 3).
 */
import { constants, zstdCompressSync } from 'node:zlib'
import {
  type ChangedFork,
  COUNT_KINDS,
  END_HAS_EXTRA,
  type EndExtra,
  type IndexedRelation,
  NO_SHAPE,
  type OpenPart,
  SHAPE_STRIDE,
  type SegmentEvents,
  type SegmentIndex,
  type Shape,
} from '../segment-index.ts'
import { ColumnWriter, joinColumns } from './column.ts'
import { COLUMN } from './column-numbers.ts'
import { encodeHeader, type SectionPlace, sha256 } from './header.ts'
import { encodeOthers } from './others.ts'

const LEVEL = 5
/** Places and lengths of records are multiples of this. */
const ALIGNMENT = 8

export function encodeIndex({ header, events, pages }: SegmentIndex): Buffer {
  const rawEvents = encodeEvents(events, header.times?.earliest ?? 0)
  const rawPages = encodePages(pages)
  const [storedEvents, storedPages] = [compress(rawEvents), compress(rawPages)]
  const stored = encodeHeader({
    header,
    events: placeOf(rawEvents, storedEvents),
    pages: placeOf(rawPages, storedPages),
  })
  return Buffer.concat([stored, storedEvents, storedPages])
}

function compress(raw: Buffer): Buffer {
  return zstdCompressSync(raw, { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } })
}

function placeOf(raw: Buffer, stored: Buffer): SectionPlace {
  return { storedBytes: stored.length, rawBytes: raw.length, hash: sha256(stored) }
}

function column(write: (column: ColumnWriter) => void): Buffer {
  const writer = new ColumnWriter()
  write(writer)
  return writer.bytes()
}

function encodeEvents(events: SegmentEvents, earliest: number): Buffer {
  const { relations, shapes, ends, open, others, head, rest } = events
  const columns = new Map<number, Uint8Array>([
    [COLUMN.relations, encodeRelations(relations)],
    [COLUMN.shapes, column((into) => writeShapes(into, shapes))],
    [COLUMN.kinds, Buffer.from(ends.kinds)],
    [COLUMN.xids, column((into) => writeDeltas(into, ends.xids, 0))],
    [COLUMN.places, column((into) => writePlaces(into, ends.offsets))],
    [COLUMN.lengths, column((into) => writeLengths(into, ends))],
    [COLUMN.times, column((into) => writeDeltas(into, ends.times, earliest))],
    [COLUMN.endShapes, column((into) => writeEndShapes(into, ends.shapes))],
    [COLUMN.begins, column((into) => writeBegins(into, ends))],
    [COLUMN.extras, column((into) => writeExtras(into, ends))],
    [COLUMN.open, column((into) => writeOpen(into, open))],
    [COLUMN.others, encodeOthers(others)],
    [COLUMN.rest, column((into) => writeRest(into, rest))],
  ])
  if (head !== undefined) {
    columns.set(
      COLUMN.head,
      column((into) => {
        into.v(head.offset)
        into.append(head.bytes)
      }),
    )
  }
  return joinColumns(columns)
}

function encodeRelations(relations: readonly IndexedRelation[]): Buffer {
  return column((into) => {
    into.v(relations.length)
    let [database, tablespace, number] = [0, 0, 0]
    for (const one of relations) {
      into.s(one.database - database)
      into.s(one.tablespace - tablespace)
      into.s(one.number - number)
      into.v(one.isToast ? 1 : 0)
      ;({ database, tablespace, number } = one)
    }
  })
}

function writeShapes(into: ColumnWriter, shapes: readonly Shape[]): void {
  into.v(shapes.length)
  for (const shape of shapes) {
    into.v(shape.length / SHAPE_STRIDE)
    for (let at = 0; at < shape.length; at += SHAPE_STRIDE) writeEntry(into, shape, at)
  }
}

function writeEntry(into: ColumnWriter, shape: Shape, at: number): void {
  into.v(shape[at] as number)
  let mask = 0
  for (let kind = 0; kind < COUNT_KINDS; kind++) {
    if (shape[at + 1 + kind] !== 0) mask |= 1 << kind
  }
  into.v(mask)
  for (let kind = 0; kind < COUNT_KINDS; kind++) {
    const count = shape[at + 1 + kind] as number
    if (count !== 0) into.v(count)
  }
}

function writeDeltas(into: ColumnWriter, values: readonly number[], first: number): void {
  let before = first
  for (const value of values) {
    into.s(value - before)
    before = value
  }
}

function writePlaces(into: ColumnWriter, offsets: readonly number[]): void {
  let before = 0
  for (const offset of offsets) {
    into.v((offset - before) / ALIGNMENT)
    before = offset
  }
}

function writeLengths(into: ColumnWriter, { offsets, endOffsets }: SegmentEvents['ends']): void {
  for (const [n, offset] of offsets.entries()) {
    into.v(((endOffsets[n] as number) - offset) / ALIGNMENT)
  }
}

function writeEndShapes(into: ColumnWriter, shapes: readonly number[]): void {
  for (const shape of shapes) into.v(shape === NO_SHAPE ? 0 : shape + 1)
}

function writeBegins(into: ColumnWriter, { offsets, shapes, begins }: SegmentEvents['ends']): void {
  for (const [n, offset] of offsets.entries()) {
    if (shapes[n] !== NO_SHAPE) into.v((offset - (begins[n] as number)) / ALIGNMENT)
  }
}

function writeExtras(into: ColumnWriter, { kinds, xids, extras }: SegmentEvents['ends']): void {
  for (const [n, kind] of kinds.entries()) {
    if ((kind & END_HAS_EXTRA) === 0) continue
    const { database, subxids, dropped } = extras.get(n) as EndExtra
    into.v(database)
    into.v(subxids.length)
    writeDeltas(into, subxids, xids[n] as number)
    into.v(dropped.length)
    writeDeltas(into, dropped, 0)
  }
}

function writeOpen(into: ColumnWriter, open: readonly OpenPart[]): void {
  into.v(open.length)
  let before = 0
  for (const { xid, topXid, shape, first, last } of open) {
    into.s(xid - before)
    into.v(topXid)
    into.v(shape)
    into.v(first / ALIGNMENT)
    into.v((last - first) / ALIGNMENT)
    before = xid
  }
}

function writeRest(into: ColumnWriter, rest: SegmentEvents['rest']): void {
  into.u8(rest.isOverwritten ? 1 : 0)
  into.v(rest.firstOffset)
  into.append(rest.bytes)
}

function encodePages(pages: readonly ChangedFork[]): Buffer {
  const numbers = new Map<ChangedFork['node'], number>()
  for (const { node } of pages) if (!numbers.has(node)) numbers.set(node, numbers.size)
  const relations = [...numbers.keys()].map((node) => ({ ...node, isToast: false }))
  const forks = column((into) => {
    into.v(pages.length)
    for (const { node, fork, blocks } of pages) {
      into.v(numbers.get(node) as number)
      into.v(fork)
      into.v(blocks.length)
      writeBlocks(into, blocks)
    }
  })
  return joinColumns(
    new Map([
      [COLUMN.relations, encodeRelations(relations)],
      [COLUMN.blocks, forks],
    ]),
  )
}

function writeBlocks(into: ColumnWriter, blocks: Uint32Array): void {
  let before = -1
  for (const block of blocks) {
    into.v(block - before - 1)
    before = block
  }
}
