/** The forms of real servers are compared with pg_waldump in wal-records.pg.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { buildRecord } from '../../test/harness/wal-builder.ts'
import { RecordParts } from './wal-blocks.ts'
import { parseHeapRecord } from './wal-heap.ts'
import {
  parseAssignment,
  parseRelationMapRecord,
  parseRunningTransactions,
  parseStorageRecord,
} from './wal-storage.ts'

const PARTS = new RecordParts()

/** A record of these bytes behind its header. */
function read(body: Uint8Array, major = 18): boolean {
  const record = buildRecord({ info: 0, resourceManager: 10, mainData: body, body }, 0n)
  return PARTS.readAt(record, 0, record.length, major)
}

interface Block {
  readonly id?: number
  readonly fork?: number
  readonly flags?: number
  readonly data?: number
  /** Length, offset of the hole, bimg_info, length of the hole where it is written. */
  readonly image?: readonly [number, number, number, number?]
  readonly isSameRelation?: boolean
  readonly block?: number
}

function header(block: Block): Buffer {
  const { id = 0, fork = 0, data = 0, image, isSameRelation = false } = block
  const bits = (image ? 0x10 : 0) | (data > 0 ? 0x20 : 0) | (isSameRelation ? 0x80 : 0)
  const start = [id, fork | bits | (block.flags ?? 0), data & 0xff, data >> 8]
  const [length, holeOffset, info, holeLength] = image ?? []
  const u16 = (value: number): number[] => [value & 0xff, value >> 8]
  const picture =
    image === undefined ? [] : [...u16(length ?? 0), ...u16(holeOffset ?? 0), info ?? 0]
  if (holeLength !== undefined) picture.push(...u16(holeLength))
  const relation = Buffer.alloc(isSameRelation ? 0 : 12)
  if (!isSameRelation)
    for (const [n, oid] of [1663, 5, 16384].entries()) relation.writeUInt32LE(oid, 4 * n)
  const number = Buffer.alloc(4)
  number.writeUInt32LE(block.block ?? 7)
  return Buffer.concat([Buffer.from([...start, ...picture]), relation, number])
}

const zeros = (length: number): Buffer => Buffer.alloc(length)

test('blocks of one relation, data, an image, origin, top-level xid and main data', () => {
  const body = Buffer.concat([
    header({ data: 3, flags: 0x40 }),
    header({ id: 2, fork: 2, image: [1000, 40, 0x03], data: 5, isSameRelation: true, block: 9 }),
    Buffer.from([253, 9, 0]),
    Buffer.from([252, 1, 2, 0, 0]),
    Buffer.from([255, 4]),
    Buffer.from('abc'),
    zeros(1000),
    Buffer.from('defgh'),
    Buffer.from('main'),
  ])
  assert.ok(read(body))
  assert.equal(PARTS.blocks, 2)
  assert.deepEqual([...PARTS.ids.subarray(0, 2)], [0, 2])
  assert.deepEqual([...PARTS.forks.subarray(0, 2)], [0, 2])
  assert.deepEqual([...PARTS.relations.subarray(0, 2)], [16384, 16384])
  assert.deepEqual([...PARTS.tablespaces.subarray(0, 2)], [1663, 1663])
  assert.deepEqual([...PARTS.blockNumbers.subarray(0, 2)], [7, 9])
  assert.deepEqual([PARTS.willInit(0), PARTS.willInit(1)], [true, false])
  assert.deepEqual([PARTS.isImageApplied(0), PARTS.isImageApplied(1)], [false, true])
  assert.deepEqual([PARTS.holeOffsets[1], PARTS.holeLengths[1]], [40, 7192])
  assert.deepEqual([PARTS.origin, PARTS.topLevelXid], [9, 513])
  const textAt = (at: number | undefined, length: number): string =>
    Buffer.from(PARTS.bytes).toString('latin1', at, (at ?? 0) + length)
  assert.equal(textAt(PARTS.dataOffsets[0], 3), 'abc')
  assert.equal(textAt(PARTS.dataOffsets[1], 5), 'defgh')
  assert.equal(textAt(PARTS.mainOffset, PARTS.mainLength), 'main')
  assert.deepEqual([PARTS.blockWithId(2), PARTS.blockWithId(1)], [1, -1])
})

test('a compressed image: bits of pglz, lz4 and zstd from 15 on, one bit before', () => {
  const body = (info: number, hole?: number): Buffer =>
    Buffer.concat([
      header({ image: hole === undefined ? [900, 0, info] : [900, 48, info, hole] }),
      zeros(900),
    ])
  for (const bit of [0x04, 0x08, 0x10]) {
    assert.ok(read(body(bit | 0x03, 500), 15))
    assert.deepEqual([PARTS.holeLengths[0], PARTS.isImageApplied(0)], [500, true])
    assert.ok(read(body(bit), 15))
    assert.deepEqual([PARTS.holeLengths[0], PARTS.isImageApplied(0)], [0, false])
  }
  assert.ok(read(body(0x07, 500), 13))
  assert.deepEqual([PARTS.holeLengths[0], PARTS.isImageApplied(0)], [500, true])
  assert.ok(read(body(0x02), 14))
  assert.ok(!read(body(0x08), 14), 'lz4 is not known, and a page without a hole is whole')
})

test('what does not add up is refused', () => {
  const main = Buffer.from([255, 1, 0])
  const refused: Record<string, Buffer> = {
    'ids that do not grow': Buffer.concat([header({ id: 1 }), header({ id: 1 }), main]),
    'a first block of the relation before': Buffer.concat([header({ isSameRelation: true }), main]),
    'a fork that is none': Buffer.concat([header({ fork: 4 }), main]),
    'data announced but not there': Buffer.concat([header({ flags: 0x20 }), main]),
    'data there but not announced': Buffer.from([0, 0, 1, 0, ...zeros(17)]),
    'a hole at the start of a page': Buffer.concat([header({ image: [900, 0, 1] }), zeros(900)]),
    'a whole page that is shorter': Buffer.concat([header({ image: [900, 0, 0] }), zeros(900)]),
    'main data longer than the record': Buffer.from([255, 2, 0]),
    'long main data longer than the record': Buffer.from([254, 255, 255, 255, 255, 0]),
    'main data shorter than the record': Buffer.from([255, 1, 0, 0]),
    'an id that is none': Buffer.from([251, 0, 0, 0, 0]),
  }
  for (const [what, body] of Object.entries(refused)) assert.ok(!read(body), what)
  assert.ok(read(Buffer.alloc(0)), 'XLOG_SWITCH has nothing')
  assert.ok(!read(Buffer.from([252, 1, 0, 0, 0, 255, 1, 9]), 13), '13 knows no top-level xid')
  assert.ok(read(Buffer.from([252, 1, 0, 0, 0, 255, 1, 9]), 14))
})

test('any bytes: nothing outside of the record is pointed to, and decoders never fail', () => {
  const form = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.tuple(fc.nat(60), fc.uint8Array({ maxLength: 60 })).map(([data, rest]) => {
      return Buffer.concat([header({ data }), Buffer.from([255, rest.length]), zeros(data), rest])
    }),
  )
  const heads = fc.record({
    info: fc.nat(255),
    resourceManager: fc.constantFrom(1, 2, 7, 8, 9, 10),
    major: fc.constantFrom(13, 14, 16, 17, 18),
  })
  fc.assert(
    fc.property(form, heads, (body, { info, resourceManager, major }) => {
      const record = buildRecord({ info, resourceManager, mainData: body, body }, 0n)
      if (!PARTS.readAt(record, 0, record.length, major)) return
      const ends = [PARTS.mainOffset + PARTS.mainLength]
      for (let n = 0; n < PARTS.blocks; n++) {
        ends.push((PARTS.dataOffsets[n] as number) + (PARTS.dataLengths[n] as number))
      }
      assert.equal(Math.max(...ends), record.length)
      parseHeapRecord(PARTS)
      parseStorageRecord(PARTS)
      parseRelationMapRecord(PARTS)
      parseRunningTransactions(PARTS)
      parseAssignment(PARTS)
    }),
    { numRuns: 3000 },
  )
})
