import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MB, PAGE, SWITCH, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { type Lsn, lsn } from './lsn.ts'
import { createWalReader, type WalReaderOptions, type WalReadResult } from './wal-reader.ts'

const message = (length: number, fill = 1) => ({
  xid: 7,
  info: 0,
  resourceManager: 21,
  mainData: Buffer.alloc(length, fill),
})

/** Reads to the end; `start` is the first byte of the first segment unless given. */
function readAll(wal: SyntheticWal, options: Partial<WalReaderOptions> = {}) {
  const first = [...wal.segments.keys()][0] ?? 0n
  const reader = createWalReader({
    walSegmentSizeBytes: wal.sizeBytes,
    systemIdentifier: SYSTEM,
    start: { at: lsn(first * BigInt(wal.sizeBytes)) },
    ...options,
  })
  const starts: bigint[] = []
  const bytes: Buffer[] = []
  let end: WalReadResult | undefined
  while (end === undefined) {
    const result = reader.next()
    if (result.kind === 'record') {
      starts.push(result.record.lsn)
      bytes.push(Buffer.from(result.record.bytes))
    } else if (result.kind === 'invalid') {
      end = result
    } else {
      const segment = wal.segments.get(result.segment)
      if (segment === undefined) end = result
      else reader.give(result.segment, segment)
    }
  }
  return { starts, bytes, end, position: reader.position(), last: reader.lastLsn() }
}

function invalid(end: WalReadResult) {
  assert.ok(end.kind === 'invalid', end.kind)
  return end
}

test('records across pages and segments come back byte for byte', () => {
  const lengths = fc.array(
    fc.oneof(
      fc.integer({ min: 0, max: 300 }),
      fc.integer({ min: 8100, max: 8250 }),
      fc.integer({ min: 0, max: 200_000 }),
    ),
    { minLength: 1, maxLength: 40 },
  )
  fc.assert(
    fc.property(lengths, (all) => {
      const wal = new SyntheticWal()
      const starts = all.map((length, index) => wal.append(message(length, index)))
      const read = readAll(wal)
      assert.deepEqual(read.starts, starts)
      assert.deepEqual(
        read.bytes.map((bytes) => bytes.at(-1)),
        all.map((length, index) => (length === 0 ? read.bytes[index]?.at(-1) : index)),
      )
      assert.equal(read.last, starts.at(-1))
    }),
    { numRuns: 40 },
  )
})

test('a record larger than a segment is put together over three of them', () => {
  const wal = new SyntheticWal()
  wal.append(message(10))
  wal.append(message(2 * MB + 5000, 9))
  const after = wal.append(message(3))
  const read = readAll(wal)
  assert.equal(read.starts.at(-1), after)
  assert.equal(read.bytes[1]?.length, 24 + 5 + 2 * MB + 5000)
})

test('a record header may be split at any multiple of 8', () => {
  for (const left of [8, 16, 24, 32]) {
    const wal = new SyntheticWal()
    wal.fillPage(left)
    const split = wal.append(message(100, 5))
    wal.append(message(1))
    assert.equal(split % BigInt(PAGE), BigInt(PAGE - left))
    assert.deepEqual(readAll(wal).starts.length, 3)
  }
})

test('the end of WAL: zeros, on the page and at its end', () => {
  const wal = new SyntheticWal()
  wal.append(message(10))
  const read = readAll(wal)
  const end = invalid(read.end)
  assert.deepEqual([end.reason, end.isFollowedByWal], ['no-record', false])
  assert.equal(read.position, wal.position)
  wal.fillPage(0)
  const full = invalid(readAll(wal).end)
  assert.deepEqual([full.reason, full.isFollowedByWal], ['bad-page', false])
  assert.equal(full.lsn, wal.position)
})

test('a record that goes on in a segment that is not there ends before itself', () => {
  const wal = new SyntheticWal()
  const first = wal.append(message(100))
  const long = wal.append(message(2 * MB))
  wal.cutAt(2n * BigInt(MB))
  const read = readAll(wal)
  assert.deepEqual(read.starts, [first])
  assert.deepEqual(read.end, { kind: 'segment-needed', segment: 2n })
  assert.equal(read.position, long)
})

test('after a switch nothing of the segment is read', () => {
  const wal = new SyntheticWal()
  wal.append(message(10))
  wal.append(SWITCH)
  const next = wal.append(message(10))
  assert.equal(next, BigInt(2 * MB + 40))
  assert.deepEqual(readAll(wal).starts.length, 3)
})

test('every flipped bit of a record or page header is seen', () => {
  const wal = new SyntheticWal()
  for (let n = 0; n < 60; n++) wal.append(message(n * 11, n))
  const sound = readAll(wal)
  const bytes = wal.segments.get(1n) as Buffer
  const written = Number(wal.position % BigInt(MB))
  const padding = paddingOf(sound)
  let seen = 0
  for (let offset = 0; offset < written; offset += 1) {
    if (padding(offset)) continue
    bytes[offset] = (bytes[offset] as number) ^ (1 << (offset % 8))
    const read = readAll(wal)
    assert.ok(read.starts.length < 60, `a flip at ${offset} was not seen`)
    assert.deepEqual(read.starts, sound.starts.slice(0, read.starts.length))
    bytes[offset] = (bytes[offset] as number) ^ (1 << (offset % 8))
    seen += 1
  }
  assert.ok(seen > 20_000)
})

/**
 * Bytes that nothing protects: gaps between records and in page headers, the two padding
 * bytes of a record header (covered by the CRC), and bits of the header that have no meaning
 * for reading (xlp_rem_len where nothing continues, XLP_BKP_REMOVABLE).
 */
function paddingOf(sound: { starts: bigint[]; bytes: Buffer[] }) {
  const covered = new Set<number>()
  for (const [index, start] of sound.starts.entries()) {
    let at = Number(start % BigInt(MB))
    for (let n = 0; n < (sound.bytes[index] as Buffer).length; n++, at++) {
      if (at % PAGE === 0) at += 24
      covered.add(at)
    }
  }
  return (offset: number): boolean => {
    const inPage = offset % PAGE
    if (inPage < 2 || (inPage >= 8 && inPage < 16)) return false
    return !covered.has(offset)
  }
}

test('a record of the past that looks sound is refused by its link', () => {
  const wal = new SyntheticWal()
  const first = wal.append(message(100))
  wal.append(message(100))
  wal.last = first
  wal.append(message(100))
  const end = invalid(readAll(wal).end)
  assert.equal(end.reason, 'bad-previous')
})

test('damage in the middle is followed by WAL, an end is not', () => {
  const wal = new SyntheticWal()
  for (let n = 0; n < 50; n++) wal.append(message(1000))
  const bytes = wal.segments.get(1n) as Buffer
  bytes.fill(0, PAGE + 1000, PAGE + 3000)
  const end = invalid(readAll(wal).end)
  assert.equal(end.isFollowedByWal, true)
})

test('without checksums content is not judged, links and lengths are', () => {
  const wal = new SyntheticWal()
  wal.append(message(100))
  wal.append(message(100))
  const bytes = wal.segments.get(1n) as Buffer
  bytes[100] = 99
  assert.equal(invalid(readAll(wal).end).reason, 'bad-checksum')
  assert.equal(readAll(wal, { checksums: false }).starts.length, 2)
})

test('a continuation that is not as long as the record says is refused at once', () => {
  const wal = new SyntheticWal()
  wal.append(message(10_000))
  const bytes = wal.segments.get(1n) as Buffer
  bytes.writeUInt32LE(bytes.readUInt32LE(PAGE + 16) + 8, PAGE + 16)
  assert.equal(invalid(readAll(wal, { checksums: false }).end).reason, 'bad-continuation')
})

test('from anywhere: the first record that starts there or later', () => {
  const wal = new SyntheticWal()
  const starts = [100, 20_000, 50, 9000, 1_100_000, 10, 10].map((size) => wal.append(message(size)))
  for (const [index, start] of starts.entries()) {
    for (const from of [start, start - 1n, start - 100n]) {
      if (from < BigInt(MB)) continue
      const expected = starts.slice(index)
      const previous = starts[index - 1]
      if (previous !== undefined && from <= previous) expected.unshift(previous)
      const read = readAll(wal, { start: { from: lsn(from) } })
      assert.deepEqual(read.starts, expected, `from ${from}`)
    }
  }
})

test('a start within a record or a header is refused', () => {
  const wal = new SyntheticWal()
  wal.append(message(20_000))
  wal.append(message(10))
  for (const at of [MB + 8, MB + 48, MB + PAGE, MB + PAGE + 24]) {
    const read = readAll(wal, { start: { at: BigInt(at) as Lsn } })
    assert.equal(read.end.kind, 'invalid', String(at))
    assert.deepEqual(read.starts, [])
  }
})

test('a lost continuation that the server overwrote', () => {
  const build = (named: (lost: bigint) => bigint) => {
    const wal = new SyntheticWal()
    const first = wal.append(message(100))
    const lost = wal.append(message(30_000))
    wal.cutAt(BigInt(MB + 2 * PAGE))
    wal.last = first
    wal.overwriteContinuation()
    const mainData = Buffer.alloc(16)
    mainData.writeBigUInt64LE(named(lost))
    const overwrite = wal.append({ info: 0xd0, resourceManager: 0, mainData })
    const after = wal.append(message(5))
    return { wal, expected: [first, overwrite, after] }
  }
  const sound = build((lost) => lost)
  assert.deepEqual(readAll(sound.wal).starts, sound.expected)
  const wrong = build((lost) => lost + 8n)
  assert.equal(invalid(readAll(wrong.wal).end).reason, 'bad-overwrite')
})

test('timelines: only those of the path, and never back', () => {
  const wal = new SyntheticWal()
  wal.append(message(100))
  wal.timeline = 2
  for (let n = 0; n < 20; n++) wal.append(message(1000))
  assert.equal(readAll(wal).starts.length, 21)
  const one = readAll(wal, { isOnPath: (timeline) => timeline === 1 })
  assert.equal(invalid(one.end).reason, 'bad-page')
  wal.timeline = 1
  for (let n = 0; n < 20; n++) wal.append(message(1000))
  assert.equal(invalid(readAll(wal).end).reason, 'bad-page')
})

test('a segment of another server or size is refused', () => {
  const wal = new SyntheticWal()
  wal.append(message(100))
  const other = readAll(wal, { systemIdentifier: SYSTEM + 1n })
  assert.equal(invalid(other.end).reason, 'bad-page')
})
