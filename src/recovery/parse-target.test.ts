import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../base/failure.ts'
import { lsn } from '../postgres/lsn.ts'
import { formatTarget, formatTime, parseTarget, parseTime, type Target } from './parse-target.ts'

const refused = (text: string, because: RegExp, fix = /./) => {
  assert.throws(
    () => parseTarget(text),
    (error) => {
      assert.ok(isFailure(error, 'TM1201'), String(error))
      assert.match(error.because ?? '', because)
      assert.match(error.fix, fix)
      return true
    },
  )
}

test('every word of the manual is understood', () => {
  assert.deepEqual(parseTarget('latest'), { kind: 'latest' })
  assert.deepEqual(parseTarget('immediate'), { kind: 'immediate' })
  assert.deepEqual(parseTarget('end-of:gap'), { kind: 'end-of-gap' })
  assert.deepEqual(parseTarget('backup:20261120-140000-ab1c'), {
    kind: 'backup',
    backup: '20261120-140000-ab1c',
  })
  assert.deepEqual(parseTarget('lsn:0/3000060'), {
    kind: 'lsn',
    lsn: lsn(0x3000060n),
    inclusive: true,
  })
  assert.deepEqual(parseTarget('before:lsn:16/B374D848'), {
    kind: 'lsn',
    lsn: lsn(0x16b374d848n),
    inclusive: false,
  })
  assert.deepEqual(parseTarget('xid:48211'), { kind: 'xid', xid: 48211, inclusive: true })
  assert.deepEqual(parseTarget('before:xid:48211'), { kind: 'xid', xid: 48211, inclusive: false })
  assert.deepEqual(parseTarget('name:before: migration'), {
    kind: 'name',
    name: 'before: migration',
  })
})

test('a time is the same moment in every notation', () => {
  const moment = 1795183500_000_000n
  for (const text of [
    '2026-11-20T14:05:00Z',
    '2026-11-20 14:05:00+00',
    '2026-11-20T14:05:00.000000Z',
    '2026-11-20T14:05Z',
    '2026-11-20 15:05:00+01:00',
    '2026-11-20T09:05:00-0500',
    '2026-11-20 14:05:00 UTC',
  ]) {
    assert.equal(parseTime(text), moment, text)
  }
  assert.equal(parseTime('2026-11-20T14:05:00.123456Z'), moment + 123456n)
  assert.equal(parseTime('2026-11-20T14:05:00.1Z'), moment + 100000n)
})

test('a time without a zone is refused with both ways to write it', () => {
  refused('2026-11-20T14:05:00', /no zone/, /2026-11-20T14:05:00Z for UTC.*\+01:00/)
  refused('2026-11-20 14:05:00 CET', /'CET' is not a zone/)
  refused('2026-11-20', /date alone/)
})

test('what is no target is refused with the reason', () => {
  refused('yesterday', /neither a known word nor a time/, /latest, immediate/)
  refused('2026-02-30T00:00:00Z', /no such day/)
  refused('lsn:123', /'123' is not an LSN/)
  refused('xid:0', /not the id of a transaction/)
  refused('xid:abc', /decimal digits/)
  refused('before:name:x', /before: goes with/)
  refused('before:latest', /before: goes with/)
  refused('name:', /1 to 63 bytes/)
  refused(`name:${'x'.repeat(64)}`, /1 to 63 bytes/)
  refused('tag:x', /'tag:' begins no target/)
})

test('a 64-bit transaction id as pg_current_xact_id() shows it is cut to what WAL holds', () => {
  assert.deepEqual(parseTarget(`xid:${(5n << 32n) + 777n}`), {
    kind: 'xid',
    xid: 777,
    inclusive: true,
  })
})

test('what is formatted is read back as the same target', () => {
  const anyLsn = fc.bigInt({ min: 1n, max: (1n << 64n) - 1n }).map(lsn)
  const target: fc.Arbitrary<Target> = fc.oneof(
    fc.record({ kind: fc.constant('lsn' as const), lsn: anyLsn, inclusive: fc.boolean() }),
    fc.record({
      kind: fc.constant('xid' as const),
      xid: fc.integer({ min: 3, max: 0xffffffff }),
      inclusive: fc.boolean(),
    }),
    fc.record({
      kind: fc.constant('time' as const),
      time: fc.bigInt({ min: 0n, max: 4_000_000_000_000_000n }),
    }),
  )
  fc.assert(
    fc.property(target, (value) => {
      assert.deepEqual(parseTarget(formatTarget(value)), { ...value })
    }),
  )
  assert.equal(formatTime(-1n), '1969-12-31T23:59:59.999999Z')
})
