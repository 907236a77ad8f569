import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { lsn } from '../postgres/lsn.ts'
import type { WalEvent } from '../postgres/wal-event.ts'
import { type RecordPlace, TargetSearch, type Verdict } from './judge-target.ts'
import type { Target } from './parse-target.ts'

/** A record of the model: an end of a transaction, a restore point, or anything else. */
interface ModelRecord {
  readonly kind: 'commit' | 'abort' | 'restore-point' | 'other'
  readonly xid: number
  readonly name: string
  readonly time: number
}

interface PlacedRecord extends ModelRecord, RecordPlace {}

const RECORD_BYTES = 40n

function place(records: readonly ModelRecord[]): PlacedRecord[] {
  return records.map((record, number) => {
    const start = 1000n + BigInt(number) * RECORD_BYTES
    return { ...record, lsn: lsn(start), endLsn: lsn(start + RECORD_BYTES) }
  })
}

function eventOf(record: PlacedRecord): WalEvent | undefined {
  const { lsn: start, endLsn, kind, xid, name } = record
  const at = { lsn: start, endLsn, timeline: 1, time: BigInt(record.time) }
  if (kind === 'other') return undefined
  if (kind === 'restore-point') return { ...at, kind, name }
  return { ...at, kind, xid, subxids: [], isPrepared: false, droppedRelations: [] }
}

function judge(records: readonly PlacedRecord[], target: Target, consistency: bigint): Verdict {
  const search = new TargetSearch(target, lsn(consistency))
  for (const record of records) if (search.visit(record, eventOf(record))) break
  return search.conclude({ kind: 'archive-end' }, () => false)
}

/**
 * PostgreSQL's replay loop (PerformWalRecovery with recoveryStopsBefore and
 * recoveryStopsAfter) for recovery_target_lsn: how many records are replayed, or undefined
 * where it fails for not reaching the target.
 */
function replayToLsn(
  records: readonly PlacedRecord[],
  target: bigint,
  inclusive: boolean,
): number | undefined {
  for (const [number, record] of records.entries()) {
    if (!inclusive && record.lsn >= target) return number
    if (inclusive && record.lsn >= target) return number + 1
  }
  return undefined
}

/** The same loop for the targets that we never hand over, as PostgreSQL defines them. */
function replayTo(records: readonly PlacedRecord[], target: Target): number | undefined {
  const isEnd = ({ kind }: ModelRecord): boolean => kind === 'commit' || kind === 'abort'
  const number = records.findIndex((record) => {
    if (target.kind === 'time') return isEnd(record) && BigInt(record.time) > target.time
    if (target.kind === 'xid') return record.kind === 'commit' && record.xid === target.xid
    return false
  })
  if (number < 0) return undefined
  return target.kind === 'xid' && target.inclusive ? number + 1 : number
}

const record: fc.Arbitrary<ModelRecord> = fc.record({
  kind: fc.constantFrom('commit', 'abort', 'restore-point', 'other'),
  xid: fc.integer({ min: 3, max: 12 }),
  name: fc.constantFrom('a', 'b'),
  time: fc.integer({ min: 0, max: 20 }),
})
const records = fc.array(record, { minLength: 1, maxLength: 30 }).map(place)

test('a time or xid, handed over as an LSN, stops where PostgreSQL would by itself', () => {
  const target: fc.Arbitrary<Target> = fc.oneof(
    fc.record({
      kind: fc.constant('time' as const),
      time: fc.integer({ min: 0, max: 20 }).map(BigInt),
    }),
    fc.record({
      kind: fc.constant('xid' as const),
      xid: fc.integer({ min: 3, max: 12 }),
      inclusive: fc.boolean(),
    }),
  )
  fc.assert(
    fc.property(records, target, (placed, wanted) => {
      const verdict = judge(placed, wanted, 0n)
      const expected = replayTo(placed, wanted)
      if (expected === undefined) {
        assert.ok(verdict.kind !== 'reached' || verdict.atArchiveEnd)
        return
      }
      assert.equal(verdict.kind, 'reached')
      if (verdict.kind !== 'reached' || verdict.stop.kind !== 'lsn') throw new Error('no LSN')
      const { lsn: stop, inclusive } = verdict.stop
      assert.equal(replayToLsn(placed, stop, inclusive), expected)
      const last = placed[expected - 1]
      assert.equal(verdict.replayEnd, last?.endLsn ?? placed[0]?.lsn)
    }),
  )
})

test('what is judged reached is always the start of a record, and PostgreSQL gets there', () => {
  const target: fc.Arbitrary<Target> = fc.oneof(
    fc.constant({ kind: 'latest' as const }),
    fc.record({ kind: fc.constant('name' as const), name: fc.constantFrom('a', 'b', 'c') }),
    fc.record({
      kind: fc.constant('lsn' as const),
      lsn: fc.bigInt({ min: 900n, max: 2500n }).map(lsn),
      inclusive: fc.boolean(),
    }),
  )
  fc.assert(
    fc.property(records, target, fc.bigInt({ min: 0n, max: 2300n }), (placed, wanted, minimum) => {
      const verdict = judge(placed, wanted, minimum)
      if (verdict.kind !== 'reached' || verdict.stop.kind !== 'lsn') return
      const { lsn: stop, inclusive } = verdict.stop
      assert.ok(placed.some((one) => one.lsn === stop))
      const replayed = replayToLsn(placed, stop, inclusive)
      assert.notEqual(replayed, undefined)
      const end = placed[(replayed as number) - 1]?.endLsn ?? placed[0]?.lsn
      assert.equal(verdict.replayEnd, end)
      assert.ok((end as bigint) >= minimum, 'replay stops before the backup is consistent')
    }),
  )
})

test('of two restore points of a name the newest is meant', () => {
  const points = place(
    ['a', 'b', 'a', 'b'].map((name) => ({ kind: 'restore-point', xid: 0, name, time: 0 })),
  )
  const verdict = judge(points, { kind: 'name', name: 'a' }, 0n)
  assert.ok(verdict.kind === 'reached' && verdict.stop.kind === 'lsn')
  assert.equal(verdict.stop.lsn, points[2]?.lsn)
})

test('facts end with the target', () => {
  const search = new TargetSearch({ kind: 'name', name: 'a' }, lsn(0n))
  const at = (start: bigint) => ({ lsn: lsn(start), endLsn: lsn(start + 40n), timeline: 1 })
  const show = (event: WalEvent): boolean => search.visit(event, event)
  show({ ...at(0n), kind: 'tablespace-create', oid: 1, path: '/one' })
  show({ ...at(40n), kind: 'prepare', xid: 7, database: 5, time: 1n })
  show({ ...at(80n), kind: 'restore-point', name: 'a', time: 2n })
  show({ ...at(120n), kind: 'tablespace-create', oid: 2, path: '/two' })
  const { tablespaces, inDoubt } = search.facts()
  assert.deepEqual(tablespaces, [{ oid: 1, path: '/one' }])
  assert.deepEqual(inDoubt, [{ xid: 7, database: 5 }])
})

test('an aborted transaction, and an LSN behind the last record', () => {
  const placed = place([
    { kind: 'abort', xid: 5, name: '', time: 1 },
    { kind: 'commit', xid: 6, name: '', time: 2 },
  ])
  assert.equal(judge(placed, { kind: 'xid', xid: 5, inclusive: true }, 0n).kind, 'aborted')
  const end = placed[1]?.endLsn ?? lsn(0n)
  const atEnd = judge(placed, { kind: 'lsn', lsn: end, inclusive: true }, 0n)
  assert.ok(atEnd.kind === 'reached' && atEnd.atArchiveEnd)
  const beyond = judge(placed, { kind: 'lsn', lsn: lsn(end + 1n), inclusive: true }, 0n)
  assert.equal(beyond.kind, 'short')
})
