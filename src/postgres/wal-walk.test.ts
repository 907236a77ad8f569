/** The record kernel against the reader without it, which is the reference. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MB, PAGE, SWITCH, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { lsn } from './lsn.ts'
import { RecordParts } from './wal-blocks.ts'
import { createWalReader, type WalReaderOptions, type WalRecord } from './wal-reader.ts'
import { segmentBuffers } from './wal-walk.ts'

type Segments = ReadonlyMap<bigint, Buffer>

interface Reading {
  /** What the reader said of each record, and how it ended. */
  readonly lines: string[]
  /** How many of them came in batches. */
  readonly walked: number
}

/** Everything that a reader says, read one by one or in batches. */
function readAll(
  segments: Segments,
  way: 'reference' | 'one by one' | 'batches',
  options: Partial<WalReaderOptions> = {},
): Reading {
  const [first = 0n] = segments.keys()
  const reader = createWalReader({
    walSegmentSizeBytes: MB,
    systemIdentifier: SYSTEM,
    start: { at: lsn(first * BigInt(MB)) },
    kernel: way !== 'reference',
    ...options,
  })
  const lines: string[] = []
  let walked = 0
  for (;;) {
    const result = way === 'batches' ? reader.nextBatch() : reader.next()
    if (result.kind === 'batch') {
      walked += result.batch.count
      for (let n = 0; n < result.batch.count; n++) lines.push(describe(result.batch.record(n)))
    } else if (result.kind === 'record') {
      lines.push(describe(result.record))
    } else if (result.kind === 'invalid') {
      const { reason, lsn: start, faultLsn, isFollowedByWal } = result
      lines.push(`${reason} ${start} ${faultLsn} ${isFollowedByWal} ${reader.lastLsn()}`)
      return { lines, walked }
    } else {
      const bytes = segments.get(result.segment)
      if (bytes === undefined) {
        lines.push(`end ${result.segment} ${reader.position()} ${reader.lastLsn()}`)
        return { lines, walked }
      }
      reader.give(result.segment, bytes)
    }
  }
}

function describe(record: WalRecord): string {
  const { totalLength, xid, info, resourceManager, timeline, major } = record
  const places = `${record.lsn} ${record.endLsn} ${record.previousLsn}`
  const bytes = record.bytes.toString('latin1')
  return `${places} ${totalLength} ${xid} ${info} ${resourceManager} ${timeline} ${major} ${bytes}`
}

function assertSame(segments: Segments, options: Partial<WalReaderOptions> = {}): Reading {
  const reference = readAll(segments, 'reference', options)
  assert.deepEqual(readAll(segments, 'one by one', options).lines, reference.lines)
  const inBatches = readAll(segments, 'batches', options)
  assert.deepEqual(inBatches.lines, reference.lines)
  return inBatches
}

const LENGTHS = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: 0, max: 700 }) },
  { weight: 4, arbitrary: fc.integer({ min: 7000, max: 9000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 400_000 }) },
)

const RECORDS = fc.array(
  fc.record({
    length: LENGTHS,
    resourceManager: fc.constantFrom(10, 21, 1, 128, 255),
    kind: fc.constantFrom('plain', 'plain', 'plain', 'plain', 'plain', 'switch', 'full', 'fork'),
    left: fc.integer({ min: 8, max: 64 }),
  }),
  { minLength: 1, maxLength: 120 },
)

/** Records that a server could have written, some of them where page and segment end. */
function build(records: typeof RECORDS extends fc.Arbitrary<infer T> ? T : never): SyntheticWal {
  const wal = new SyntheticWal()
  for (const [n, { length, resourceManager, kind, left }] of records.entries()) {
    const mainData = Buffer.from(Array.from({ length: 97 }, (_, at) => (n * 31 + at * 7) & 0xff))
    if (kind === 'switch' && n % 5 === 0) wal.append(SWITCH)
    if (kind === 'full') {
      const room = PAGE - Number(wal.position % BigInt(PAGE))
      if (room > left * 8 + 600) wal.fillPage(left * 8)
    }
    if (kind === 'fork') wal.timeline++
    const data = Buffer.alloc(length, mainData)
    wal.append({ xid: n, info: n % 3 === 0 ? 0x10 : 0, resourceManager, mainData: data })
  }
  return wal
}

test('every record of regular WAL, as the reference has it', () => {
  let [all, walked] = [0, 0]
  fc.assert(
    fc.property(RECORDS, (records) => {
      const read = assertSame(build(records).segments)
      all += read.lines.length
      walked += read.walked
    }),
    { numRuns: 60 },
  )
  // Much is done by the reader itself here: timelines change, segments are switched.
  assert.ok(walked > all / 3, `${walked} of ${all}`)
})

test('records of every length are walked over, but those where a segment begins', () => {
  const wal = new SyntheticWal()
  const content = Buffer.from(Array.from({ length: 70_001 }, (_, at) => (at * at + 3 * at) & 0xff))
  const lengths = [...Array.from({ length: 3000 }, (_, n) => n), 8191, 8192, 20_000, 70_000]
  for (const length of lengths) {
    wal.append({ info: 0, resourceManager: 21, mainData: content.subarray(0, length) })
  }
  const { lines, walked } = assertSame(wal.segments)
  assert.equal(lines.length, lengths.length + 1)
  const left = lengths.length - walked
  assert.ok(left <= 1 + 2 * wal.segments.size, `${left} of them are not`)
})

test('a flipped bit anywhere in a long record is seen', () => {
  const wal = new SyntheticWal()
  const message = { info: 0, resourceManager: 21 }
  for (const length of [100, 6000, 5000, 7000, 100]) {
    wal.append({ ...message, mainData: Buffer.alloc(length, length) })
  }
  const bytes = wal.segments.get(1n) as Buffer
  const passed: number[] = []
  for (let at = 200; at < 18_000; at += 11) {
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << (at & 7)), at)
    if (assertSame(wal.segments).lines.length > 5) passed.push(at)
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << (at & 7)), at)
  }
  // Up to 7 bytes between two records say nothing.
  assert.ok(passed.length <= 2, passed.join())
})

test('damage at any place is seen as the reference sees it', () => {
  const DAMAGE = fc.record({
    records: RECORDS,
    places: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
    bit: fc.nat({ max: 7 }),
    where: fc.constantFrom('anywhere', 'page header', 'record header'),
    checksums: fc.boolean(),
  })
  fc.assert(
    fc.property(DAMAGE, ({ records, places, bit, where, checksums }) => {
      const wal = build(records)
      const all = [...wal.segments.values()]
      const written = Number(wal.position % BigInt(MB)) || MB
      for (const place of places) {
        const bytes = all[place % all.length] as Buffer
        const end = bytes === all.at(-1) ? written : MB
        let at = (place >> 3) % end
        if (where === 'page header') at = Math.min(at - (at % PAGE) + (place % 40), end - 1)
        if (where === 'record header') at = recordHeaderAt(bytes, at, place)
        bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at)
      }
      assertSame(wal.segments, { checksums })
    }),
    { numRuns: 150 },
  )
})

test('every bit of a page header, where a record goes on and where none does', () => {
  const wal = new SyntheticWal()
  const message = { info: 0, resourceManager: 21, mainData: Buffer.alloc(900, 3) }
  for (let n = 0; n < 20; n++) wal.append(message)
  wal.fillPage(0)
  const fresh = Number(wal.position % BigInt(MB))
  for (let n = 0; n < 12; n++) wal.append(message)
  const bytes = wal.segments.get(1n) as Buffer
  assert.deepEqual([bytes.readUInt8(PAGE + 2) & 1, bytes.readUInt8(fresh + 2) & 1], [1, 0])
  for (const page of [PAGE, fresh]) {
    for (let at = page; at < page + 24; at++) {
      for (let bit = 0; bit < 8; bit++) {
        bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at)
        assertSame(wal.segments)
        bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at)
      }
    }
  }
})

/** A byte of the record that begins at or after `at`'s page header, as a rule. */
function recordHeaderAt(bytes: Buffer, at: number, place: number): number {
  const page = at - (at % PAGE)
  let record = page + (page === 0 ? 40 : 24)
  const rest = bytes.readUInt32LE(page + 16)
  record = Math.min(record + Math.ceil(rest / 8) * 8, page + PAGE - 24)
  return record + (place % 24)
}

test('blocks: what the kernel says of them is what RecordParts says', () => {
  const wal = new SyntheticWal()
  const bodies = [blockBody(0, 0), blockBody(8192, 0), blockBody(500, 100), blockBody(0, 77)]
  for (let n = 0; n < 200; n++) {
    const body = bodies[n % bodies.length] as Buffer
    wal.append({ info: 0, resourceManager: 10, mainData: new Uint8Array(0), body })
  }
  const reader = createWalReader({
    walSegmentSizeBytes: MB,
    systemIdentifier: SYSTEM,
    start: { at: lsn(BigInt(MB)) },
  })
  const parts = new RecordParts()
  let seen = 0
  for (;;) {
    const result = reader.nextBatch()
    if (result.kind === 'segment-needed') {
      const bytes = wal.segments.get(result.segment)
      if (bytes === undefined) break
      reader.give(result.segment, bytes)
    }
    if (result.kind === 'invalid') break
    if (result.kind !== 'batch') continue
    const { batch } = result
    for (let n = 0; n < batch.count; n++, seen++) {
      assert.ok(parts.readAt(batch.bytes, batch.at(n), batch.totalLength(n), batch.major))
      assert.equal(batch.blocks(n), parts.blocks)
      assert.equal(batch.imageBytes(n), parts.imageLengths[0])
      assert.equal(batch.mainDataAt(n), parts.mainOffset)
    }
  }
  assert.ok(seen > 190, String(seen))
})

/** One block reference with an image and data of these lengths, and main data of three bytes. */
function blockBody(image: number, data: number): Buffer {
  const header = Buffer.alloc(4 + (image === 0 ? 0 : 5) + 16)
  header.writeUInt8((image === 0 ? 0 : 0x10) | (data === 0 ? 0 : 0x20), 1)
  header.writeUInt16LE(data, 2)
  if (image > 0) {
    header.writeUInt16LE(image, 4)
    const hasHole = image < 8192
    header.writeUInt16LE(hasHole ? 40 : 0, 6)
    header.writeUInt8((hasHole ? 1 : 0) | 2, 8)
  }
  header.writeUInt32LE(1663, header.length - 16)
  header.writeUInt32LE(5, header.length - 12)
  header.writeUInt32LE(16384, header.length - 8)
  header.writeUInt32LE(3, header.length - 4)
  return Buffer.concat([
    header,
    Buffer.from([255, 3]),
    Buffer.alloc(image + data, 9),
    Buffer.alloc(3),
  ])
}

test('a segment that was read into the memory of the kernel is walked over in place', () => {
  const wal = new SyntheticWal()
  for (let n = 0; n < 900; n++) {
    const mainData = Buffer.alloc((n * 37) % 5000, n)
    wal.append({ xid: n, info: 0, resourceManager: 21, mainData })
  }
  const reference = readAll(wal.segments, 'reference').lines
  const buffers = segmentBuffers(MB)
  const start = { at: lsn(BigInt(MB)) }
  const reader = createWalReader({ walSegmentSizeBytes: MB, systemIdentifier: SYSTEM, start })
  const lines: string[] = []
  for (;;) {
    const result = reader.next()
    if (result.kind === 'record') lines.push(describe(result.record))
    else if (result.kind === 'invalid') break
    else {
      const bytes = wal.segments.get(result.segment)
      if (bytes === undefined) break
      const buffer = buffers[Number(result.segment % 2n)] as Buffer
      buffer.set(bytes)
      // Another reader's segment lies elsewhere.
      if (result.segment === 2n) readAll(wal.segments, 'batches')
      reader.give(result.segment, buffer)
    }
  }
  assert.equal(lines.length, 900)
  assert.deepEqual(lines, reference.slice(0, 900))
})

test('two readers in turn: each goes on where it was', () => {
  const one = new SyntheticWal()
  const other = new SyntheticWal({ firstSegment: 7n })
  for (let n = 0; n < 500; n++) {
    one.append({ xid: n, info: 0, resourceManager: 21, mainData: Buffer.alloc(n, 1) })
    other.append({ xid: 1000 + n, info: 0, resourceManager: 21, mainData: Buffer.alloc(n * 3, 2) })
  }
  const readers = [one, other].map((wal) => {
    const [first = 0n] = wal.segments.keys()
    const start = { at: lsn(first * BigInt(MB)) }
    const reader = createWalReader({ walSegmentSizeBytes: MB, systemIdentifier: SYSTEM, start })
    return { wal, reader, xids: [] as number[] }
  })
  for (let step = 0; step < 1000; step++) {
    const { wal, reader, xids } = readers[((step * step) % 7) % 2] as (typeof readers)[number]
    let result = reader.next()
    while (result.kind === 'segment-needed') {
      const bytes = wal.segments.get(result.segment)
      if (bytes === undefined) break
      reader.give(result.segment, bytes)
      result = reader.next()
    }
    if (result.kind === 'record') xids.push(result.record.xid)
  }
  for (const [n, { xids }] of readers.entries()) {
    assert.ok(xids.length > 100, String(xids.length))
    assert.deepEqual(
      xids,
      Array.from({ length: xids.length }, (_, at) => n * 1000 + at),
    )
  }
})
