import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Hold } from '../repository/holds.ts'
import {
  type DumpFacts,
  intersectDumpPlans,
  isEmptyDumpPlan,
  type ListedDump,
  planDumpExpiration,
} from './plan-dump-expiration.ts'

const DAY = 24 * 3600 * 1000
const NOW = 100 * DAY
const ATTEMPTS = ['a', 'b', 'c', 'd', 'e', 'f', '0', '1']

const packOf = (attempt: number): string => (ATTEMPTS[attempt] ?? '').repeat(24).padEnd(32, '0')
const keyOf = (pack: string): string => `clusters/main/dump-packs/${pack}`

function dump(number: number, more: Partial<ListedDump> = {}): ListedDump {
  return {
    id: `20260101-00000${number}-aaaa`,
    key: `clusters/main/dumps/${number}.dump`,
    kind: 'app',
    databases: ['app'],
    atMs: NOW - (10 - number) * DAY,
    startedMs: NOW - (10 - number) * DAY,
    systemIdentifier: '7000000000000000001',
    lsn: BigInt(number),
    isPinned: false,
    isIncomplete: false,
    packs: [packOf(number)],
    ...more,
  }
}

function factsOf(dumps: readonly ListedDump[], more: Partial<DumpFacts> = {}): DumpFacts {
  const packs = ATTEMPTS.map((_, number) => packOf(number))
  return {
    dumps,
    unreadableRecords: [],
    holds: [],
    unreadableHolds: [],
    condemnedElsewhere: new Set(),
    takenOver: [],
    packs: packs.map((id) => ({ id, key: keyOf(id), sizeBytes: 1 })),
    marks: [],
    ...more,
  }
}

function hold(more: Partial<Hold>): Hold {
  const id = '20260101-000000-hold'
  return { id, purpose: 'restore', host: 'h', writer: 'w', startedAt: '', needs: [], ...more }
}

const LAST_2 = { policy: { keepLast: 2, keepDays: 0 }, nowMs: NOW }
const numbersOf = (dumps: readonly ListedDump[]): string => dumps.map(({ id }) => id[14]).join('')

test('the last of each kind stay, whatever else was dumped meanwhile', () => {
  const table = { kind: 'app --table t' }
  const some = [dump(0), dump(1), dump(2), dump(3, table), dump(4, table), dump(5, table)]
  const plan = planDumpExpiration(factsOf(some), LAST_2)
  assert.equal(numbersOf(plan.expire), '03')
  assert.deepEqual(
    plan.packs.map(({ id }) => id),
    [0, 3, 6, 7].map(packOf),
  )
})

test('days keep by the time of the server; the newest stays however old it is', () => {
  const policy = { keepLast: 0, keepDays: 3 }
  const some = [dump(6), dump(7), dump(8)]
  const plan = (nowMs: number) => planDumpExpiration(factsOf(some), { policy, nowMs })
  assert.equal(numbersOf(plan(NOW).expire), '6')
  assert.equal(numbersOf(plan(NOW + 90 * DAY).expire), '67')
})

test('the newest of each kind stays, whatever else was dumped since', () => {
  const policy = { keepLast: 0, keepDays: 3 }
  const table = { kind: 'app --table t' }
  const some = [dump(0), dump(1), dump(2, table), dump(3, table)]
  const plan = planDumpExpiration(factsOf(some), { policy, nowMs: NOW + 90 * DAY })
  assert.equal(numbersOf(plan.expire), '02')
})

test('without a word of retention only what nobody needs goes', () => {
  const plan = planDumpExpiration(factsOf([dump(0), dump(1)]), { policy: undefined, nowMs: NOW })
  assert.deepEqual(plan.expire, [])
  assert.equal(plan.packs.length, 6)
})

test('pins, holds of readers and writers, and attempts under way keep', () => {
  const some = [dump(0, { isPinned: true }), dump(1), dump(2), dump(3), dump(4)]
  const holds = [
    hold({ keys: [some[1]?.key ?? ''] }),
    hold({ purpose: 'backup', attemptId: 'f'.repeat(24) }),
    hold({ keys: [keyOf(packOf(6))] }),
  ]
  const plan = planDumpExpiration(factsOf(some, { holds }), LAST_2)
  assert.equal(numbersOf(plan.expire), '2')
  assert.deepEqual(
    plan.packs.map(({ id }) => id),
    [2, 7].map(packOf),
  )
  const published = planDumpExpiration(
    factsOf(some, { holds: [hold({ id: some[1]?.id ?? '' })] }),
    LAST_2,
  )
  assert.equal(numbersOf(published.expire), '2')
})

test('a dump that lacks a pack takes the place of no whole one', () => {
  const some = [dump(0), dump(1), dump(2), dump(3, { isIncomplete: true })]
  const plan = planDumpExpiration(factsOf(some), LAST_2)
  assert.equal(numbersOf(plan.expire), '0')
})

test('what another expiry removes counts for no rule, and is not touched', () => {
  const some = [dump(0), dump(1), dump(2)]
  const condemnedElsewhere = new Set([some[2]?.key ?? ''])
  assert.equal(
    numbersOf(planDumpExpiration(factsOf(some, { condemnedElsewhere }), LAST_2).expire),
    '',
  )
})

test('a record or a hold that cannot be read stops all removal', () => {
  for (const more of [{ unreadableRecords: ['k'] }, { unreadableHolds: ['k'] }]) {
    const marks = [{ key: 'm', dumpId: 'gone' }]
    const plan = planDumpExpiration(
      factsOf([dump(0), dump(1), dump(2)], { ...more, marks }),
      LAST_2,
    )
    assert.equal(plan.blocked.length, 1)
    assert.ok(isEmptyDumpPlan(plan))
  }
})

test('marks go with their dump, and stay with what is held', () => {
  const some = [dump(0), dump(1), dump(2)]
  const marks = some.map(({ id }) => ({ key: `m${id[14]}`, dumpId: id }))
  assert.deepEqual(planDumpExpiration(factsOf(some, { marks }), LAST_2).marks, ['m0'])
  const holds = [hold({ keys: ['m0'] })]
  assert.deepEqual(planDumpExpiration(factsOf(some, { marks, holds }), LAST_2).marks, [])
})

test('the second decision keeps what the first did not condemn, with its packs', () => {
  const first = planDumpExpiration(factsOf([dump(0), dump(1), dump(2)]), LAST_2)
  const came = [dump(0), dump(1), dump(2), dump(3, { packs: [packOf(0), packOf(3)] }), dump(4)]
  const only = new Set(first.expire.map(({ id }) => id))
  const second = planDumpExpiration(factsOf(came), { ...LAST_2, only })
  const agreed = intersectDumpPlans(first, second)
  assert.equal(numbersOf(agreed.expire), '0')
  assert.deepEqual(
    agreed.packs.map(({ id }) => id),
    [5, 6, 7].map(packOf),
  )
})

test('no pack goes that a dump names which stays, whatever the facts are', () => {
  const arbitrary = fc.array(
    fc.record({
      kind: fc.constantFrom('a', 'b'),
      atMs: fc.integer({ min: 0, max: NOW }),
      startedMs: fc.integer({ min: 0, max: NOW }),
      systemIdentifier: fc.constantFrom('1', '2'),
      lsn: fc.option(fc.bigInt({ min: 0n, max: 9n }), { nil: undefined }),
      isPinned: fc.boolean(),
      isIncomplete: fc.boolean(),
      packs: fc.subarray(ATTEMPTS.map((_, number) => packOf(number))),
    }),
    { maxLength: 6 },
  )
  const policies = fc.record({ keepLast: fc.nat({ max: 3 }), keepDays: fc.nat({ max: 120 }) })
  fc.assert(
    fc.property(arbitrary, policies, (some, policy) => {
      const dumps = some.map((more, number) => dump(number, more))
      const plan = planDumpExpiration(factsOf(dumps), { policy, nowMs: NOW })
      const expired = new Set(plan.expire.map(({ id }) => id))
      const needed = new Set(dumps.flatMap(({ id, packs }) => (expired.has(id) ? [] : packs)))
      assert.ok(plan.packs.every(({ id }) => !needed.has(id)))
      assert.equal(plan.packs.length + needed.size, ATTEMPTS.length)
      assert.ok(dumps.length === 0 || expired.size < dumps.length)
      assert.ok(plan.expire.every(({ isPinned }) => !isPinned))
    }),
  )
})
