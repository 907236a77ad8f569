/** The kinds of records are compared with pg_waldump in wal-reader.pg.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { buildRecord } from '../../test/harness/wal-builder.ts'
import { lsn } from './lsn.ts'
import { formatMicroseconds, parseWalEvent } from './wal-event.ts'

const MAJORS = [13, 14, 15, 16, 17, 18]

function parse(resourceManager: number, info: number, mainData: Uint8Array, major = 15) {
  const bytes = buildRecord({ xid: 9, info, resourceManager, mainData }, 0n)
  return parseWalEvent({
    lsn: lsn(100n),
    endLsn: lsn(200n),
    previousLsn: lsn(0n),
    totalLength: bytes.length,
    xid: 9,
    info,
    resourceManager,
    timeline: 1,
    major,
    bytes,
  })
}

test('no content of a record with a sound checksum makes the parser throw', () => {
  const majors = fc.constantFrom(...MAJORS)
  const managers = fc.constantFrom(0, 1, 4, 5, 10)
  const infos = fc.nat(255)
  fc.assert(
    fc.property(
      managers,
      infos,
      fc.uint8Array({ maxLength: 400 }),
      majors,
      (rm, info, data, major) => {
        assert.ok(['event', 'other', 'damaged'].includes(parse(rm, info, data, major).kind))
      },
    ),
    { numRuns: 3000 },
  )
})

test('a record that is cut short is damaged, and never another event', () => {
  const commit = Buffer.alloc(8 + 4 + 4 + 8)
  commit.writeUInt32LE(2, 8)
  commit.writeUInt32LE(2, 12)
  commit.writeUInt32LE(11, 16)
  commit.writeUInt32LE(12, 20)
  const whole = parse(1, 0x80, commit)
  assert.ok(whole.kind === 'event' && whole.event.kind === 'commit')
  assert.deepEqual(whole.event.subxids, [11, 12])
  for (let length = 0; length < commit.length; length++) {
    assert.equal(parse(1, 0x80, commit.subarray(0, length)).kind, 'damaged', String(length))
  }
})

test('a count that exceeds the record allocates nothing', () => {
  const commit = Buffer.alloc(16)
  commit.writeUInt32LE(2, 8)
  commit.writeUInt32LE(0xffffffff, 12)
  assert.equal(parse(1, 0x80, commit).kind, 'damaged')
})

test('times are printed with their microseconds, also before 1970', () => {
  assert.equal(formatMicroseconds(946_684_800_000_001n), '2000-01-01T00:00:00.000001Z')
  assert.equal(formatMicroseconds(-1n), '1969-12-31T23:59:59.999999Z')
})
