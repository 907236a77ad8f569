import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MB, SWITCH, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { compareSegments, judgeContinuation } from './compare-segments.ts'

const record = (length: number, fill: number) => ({
  info: 0,
  resourceManager: 21,
  mainData: Buffer.alloc(length, fill),
})

/** Writes until the segment is left; what is written depends on `fill` only. */
function fillSegments(wal: SyntheticWal, count: number, fill = 1): SyntheticWal {
  const end = (wal.position / BigInt(MB) + BigInt(count)) * BigInt(MB)
  while (wal.position < end) wal.append(record(3000, fill))
  return wal
}

const segment = (wal: SyntheticWal, number: bigint): Buffer => wal.segments.get(number) as Buffer

function copyOf(bytes: Buffer, change: (copy: Buffer) => void = () => {}): Buffer {
  const copy = Buffer.from(bytes)
  change(copy)
  return copy
}

test('equal bytes are equal, and what follows the records does not count', () => {
  const wal = new SyntheticWal()
  wal.append(record(5000, 1))
  const short = copyOf(segment(wal, 1n))
  assert.deepEqual(compareSegments(short, Buffer.from(short)), { kind: 'equal' })
  const recycled = copyOf(short, (copy) => copy.fill(0x77, MB - 8192 * 3))
  const neither = { kind: 'same-records', longer: 'neither' }
  assert.deepEqual(compareSegments(short, recycled), neither)
  fillSegments(wal, 1)
  const whole = copyOf(segment(wal, 1n))
  assert.deepEqual(compareSegments(short, whole), { kind: 'same-records', longer: 'second' })
  assert.deepEqual(compareSegments(whole, recycled), { kind: 'same-records', longer: 'first' })
})

test('what lies behind a switch does not count', () => {
  const wal = new SyntheticWal()
  wal.append(record(5000, 1))
  const open = copyOf(segment(wal, 1n))
  wal.append(SWITCH)
  const padded = copyOf(segment(wal, 1n))
  const bare = copyOf(padded, (copy) => copy.fill(0, 16384))
  const neither = { kind: 'same-records', longer: 'neither' }
  assert.deepEqual(compareSegments(padded, bare), neither)
  assert.deepEqual(compareSegments(open, bare), { kind: 'same-records', longer: 'second' })
})

test('a difference within the records is one, wherever it is', () => {
  const wal = fillSegments(new SyntheticWal(), 1)
  const other = fillSegments(new SyntheticWal(), 1, 2)
  const whole = segment(wal, 1n)
  assert.deepEqual(compareSegments(whole, segment(other, 1n)), { kind: 'different' })
  const late = new SyntheticWal()
  while (late.position < BigInt(MB) * 2n - 20000n) late.append(record(3000, 1))
  late.append(record(3000, 2))
  assert.deepEqual(compareSegments(whole, segment(late, 1n)), { kind: 'different' })
})

test('a segment without records is never judged the same', () => {
  const empty = copyOf(segment(fillSegments(new SyntheticWal(), 1), 1n), (copy) => copy.fill(0, 40))
  const other = copyOf(empty, (copy) => copy.fill(9, MB - 1))
  assert.deepEqual(compareSegments(empty, other), { kind: 'different' })
})

test('a cut behind any record, also in what fills it up to 8 bytes', () => {
  const wal = new SyntheticWal()
  wal.append(record(5000, 1))
  wal.append(record(3001, 1))
  const end = Number(wal.position % BigInt(MB))
  const whole = segment(fillSegments(wal, 1), 1n)
  const first = { kind: 'same-records', longer: 'first' }
  for (let at = end - 8; at <= end + 8; at++) {
    const cut = copyOf(whole, (copy) => copy.fill(0x77, at))
    assert.deepEqual(compareSegments(whole, cut), first, `cut at ${at - end}`)
  }
})

test('property: any cut of a segment is the shorter one of the same records', () => {
  const whole = segment(fillSegments(new SyntheticWal(), 1), 1n)
  fc.assert(
    fc.property(fc.integer({ min: 8192, max: MB - 4000 }), fc.integer({ max: 255 }), (at, fill) => {
      // What the records themselves consist of would go on with them.
      fc.pre((fill & 0xff) !== 1)
      const cut = copyOf(whole, (copy) => copy.fill(fill, at))
      const result = compareSegments(whole, cut)
      const isEqual = Buffer.compare(whole, cut) === 0
      if (isEqual) assert.deepEqual(result, { kind: 'equal' })
      else assert.deepEqual(result, { kind: 'same-records', longer: 'first' })
    }),
    { numRuns: 40 },
  )
})

test('the next segment of one history fits, that of another contradicts', () => {
  const wal = fillSegments(new SyntheticWal(), 1)
  const branch = wal.fork(1)
  fillSegments(wal, 2)
  const other = new SyntheticWal()
  other.append(record(100, 7))
  fillSegments(other, 3)
  assert.equal(judgeContinuation(segment(wal, 1n), segment(wal, 2n)), 'fits')
  assert.equal(judgeContinuation(segment(wal, 2n), segment(wal, 3n)), 'fits')
  assert.equal(judgeContinuation(segment(wal, 1n), segment(other, 2n)), 'contradicts')
  assert.equal(judgeContinuation(segment(wal, 1n), segment(wal, 3n)), 'nothing')
  // A clone that was made within segment 2 and went its own way there fits behind segment 1.
  fillSegments(branch, 1, 5)
  assert.equal(judgeContinuation(segment(wal, 1n), segment(branch, 2n)), 'fits')
  assert.equal(judgeContinuation(segment(branch, 2n), segment(wal, 3n)), 'contradicts')
})

test('behind a switch the link to the record before decides', () => {
  const wal = new SyntheticWal()
  wal.append(record(5000, 1))
  wal.append(SWITCH)
  const other = new SyntheticWal()
  other.append(record(6000, 1))
  other.append(SWITCH)
  for (const one of [wal, other]) one.append(record(100, 3))
  assert.equal(judgeContinuation(segment(wal, 1n), segment(wal, 2n)), 'fits')
  assert.equal(judgeContinuation(segment(wal, 1n), segment(other, 2n)), 'contradicts')
})

test('a lost continuation fits, an end within the segment tells nothing', () => {
  const wal = new SyntheticWal()
  while (wal.position < 2n * BigInt(MB) - 5000n) wal.append(record(1000, 1))
  const before = wal.last
  const lost = wal.append(record(9000, 4))
  const whole = wal.fork(1)
  fillSegments(whole, 1)
  assert.equal(judgeContinuation(segment(whole, 1n), segment(whole, 2n)), 'fits')
  wal.cutAt(2n * BigInt(MB))
  wal.last = before
  wal.overwriteContinuation()
  const named = Buffer.alloc(16)
  named.writeBigUInt64LE(lost)
  wal.append({ info: 0xd0, resourceManager: 0, mainData: named })
  assert.equal(judgeContinuation(segment(wal, 1n), segment(wal, 2n)), 'fits')
  const torn = copyOf(segment(whole, 1n), (copy) => copy.fill(0, MB / 2))
  assert.equal(judgeContinuation(torn, segment(whole, 2n)), 'nothing')
})
