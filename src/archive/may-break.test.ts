import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildSegment } from '../../test/harness/wal-builder.ts'
import { BEGINNING_BYTES, mayBreak } from './may-break.ts'

const LONG_HEADER = 40

/** An ordinary record comes first. */
function beginning(): Buffer {
  const bytes = Buffer.from(buildSegment({ segment: 5n })).subarray(0, BEGINNING_BYTES)
  bytes.fill(0, LONG_HEADER)
  bytes.writeUInt32LE(30, LONG_HEADER)
  bytes.writeBigUInt64LE(1234n, LONG_HEADER + 8)
  return bytes
}

function withRecord(at: number, length: number, info: number, manager = 0): Buffer {
  const bytes = beginning()
  bytes.writeUInt32LE(length, at)
  bytes[at + 16] = info
  bytes[at + 17] = manager
  return bytes
}

test('a changed parameter and full_page_writes may break it, wherever a record may begin', () => {
  assert.equal(mayBreak(beginning()), false)
  assert.equal(mayBreak(withRecord(160, 54, 0x60)), true)
  assert.equal(mayBreak(withRecord(8192 + 24, 27, 0x80)), true)
  assert.equal(mayBreak(withRecord(160, 54, 0x60, 10)), false)
  assert.equal(mayBreak(withRecord(160, 54, 0x10)), false)
  assert.equal(mayBreak(withRecord(163, 54, 0x60)), false)
})

test('a header that goes on in the next page is no reason to say no', () => {
  assert.equal(mayBreak(withRecord(8192 - 16, 54, 0)), true)
})

test('a first record without one before it begins the WAL anew', () => {
  const bytes = beginning()
  bytes.writeBigUInt64LE(0n, LONG_HEADER + 8)
  assert.equal(mayBreak(bytes), true)
})
