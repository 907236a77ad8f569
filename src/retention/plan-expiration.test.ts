import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  applyPlan,
  backupId,
  describeWorld,
  HOUR,
  isConsistent,
  isRecoverable,
  makeWorld,
  type World,
  type WorldStep,
} from '../../test/harness/timeline-world.ts'
import type { Hold } from '../repository/holds.ts'
import type { ExpirationFacts } from './facts.ts'
import { type ExpirationPlan, planExpiration } from './plan-expiration.ts'
import { PERIODS, periodOf, type RetentionPolicy } from './retention-policy.ts'

const NOTHING = { windowMs: 0, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }

const on = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat({ max: 3 }))
const step: fc.Arbitrary<WorldStep> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      on,
      segments: fc.nat({ max: 4 }),
      hours: fc.nat({ max: 60 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('back-up' as const),
      on,
      pin: fc.integer({ min: 0, max: 9 }).map((one) => one === 0),
      shared: fc.nat({ max: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fork' as const), on, back: fc.nat(12) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('upgrade' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose' as const), on, back: fc.nat(9) }) },
)
const world = fc
  .record({
    steps: fc.array(step, { minLength: 3, maxLength: 40 }),
    endsKnown: fc.array(
      fc.integer({ min: 0, max: 3 }).map((one) => one > 0),
      { minLength: 1, maxLength: 4 },
    ),
  })
  .map(({ steps, endsKnown }) => makeWorld(steps, endsKnown))
const policy: fc.Arbitrary<RetentionPolicy> = fc.record({
  windowMs: fc.nat({ max: 300 }).map((hours) => hours * HOUR),
  last: fc.nat({ max: 3 }),
  daily: fc.nat({ max: 4 }),
  weekly: fc.nat({ max: 3 }),
  monthly: fc.nat({ max: 2 }),
  yearly: fc.nat({ max: 1 }),
})

const planOf = (world: World, policy: RetentionPolicy, holds: readonly Hold[] = []) =>
  planExpiration(describeWorld(world, holds), { policy, nowMs: world.clockMs })

test('every moment of the window stays recoverable', () => {
  let expired = 0
  let moments = 0
  fc.assert(
    fc.property(world, policy, (world, policy) => {
      const plan = planOf(world, policy)
      const after = applyPlan(world, plan)
      expired += plan.expire.length
      for (const timeline of world.timelines) {
        for (const [segment, timeMs] of timeline.times) {
          if (timeMs < world.clockMs - policy.windowMs) continue
          if (!isRecoverable(world, timeline, segment)) continue
          moments++
          const where = `${timeline.system}/${timeline.timeline}/${segment}`
          assert.ok(isRecoverable(after, timeline, segment), where)
        }
      }
    }),
    { numRuns: 1500 },
  )
  assert.ok(expired > 200 && moments > 3000, `${expired} expired, ${moments} moments`)
})

test('every kept backup keeps its packs and the WAL that makes it consistent', () => {
  fc.assert(
    fc.property(world, policy, (world, policy) => {
      const after = applyPlan(world, planOf(world, policy))
      const stored = new Set([...after.packs.stored()].map(({ number }) => number))
      const before = [...world.packs.stored()].map(({ number }) => number)
      for (const backup of after.backups) {
        assert.equal(isConsistent(after, backup), isConsistent(world, backup), backup.id)
        for (const pack of before) assert.ok(!backup.packs.has(pack) || stored.has(pack))
      }
      const needed = before.filter((pack) => after.backups.some(({ packs }) => packs.has(pack)))
      assert.equal(stored.size, needed.length, 'packs that no backup needs')
    }),
    { numRuns: 300 },
  )
})

test('pins, counts and periods keep what they say, and the newest always stays', () => {
  fc.assert(
    fc.property(world, policy, (world, policy) => {
      const { keep } = planOf(world, policy)
      const kept = new Set(keep.map(({ backup }) => backup.id))
      const newestFirst = world.backups.toSorted((a, b) => b.stoppedAtMs - a.stoppedAtMs)
      const isKept = (id: string | undefined): boolean => id === undefined || kept.has(id)
      assert.ok(isKept(newestFirst[0]?.id))
      for (const { id } of newestFirst.slice(0, policy.last)) assert.ok(isKept(id))
      for (const { id, isPinned } of world.backups) assert.ok(!isPinned || isKept(id))
      for (const rule of PERIODS) {
        const all = [...new Set(newestFirst.map((one) => periodOf(rule, one.stoppedAtMs)))]
        for (const period of all.slice(0, policy[rule])) {
          for (const system of world.createdAtMs.keys()) {
            const newest = newestFirst.find(
              (one) =>
                one.systemIdentifier === system && periodOf(rule, one.stoppedAtMs) === period,
            )
            assert.ok(isKept(newest?.id), `${rule} ${period} of ${system}`)
          }
        }
      }
      for (const { backup, reasons } of keep) assert.ok(reasons.length > 0, backup.id)
    }),
    { numRuns: 300 },
  )
})

test('what is left has nothing more to remove', () => {
  fc.assert(
    fc.property(world, policy, (world, policy) => {
      const { expire, packs, wal } = planOf(applyPlan(world, planOf(world, policy)), policy)
      assert.deepEqual([expire, packs, wal], [[], [], []])
    }),
    { numRuns: 300 },
  )
})

test('what a hold needs is kept', () => {
  fc.assert(
    fc.property(world, policy, fc.nat(), fc.nat(), (world, policy, which, from) => {
      const backup = world.backups[which % Math.max(1, world.backups.length)]
      if (backup === undefined) return
      const number = (from % 20).toString(16).toUpperCase().padStart(8, '0')
      const first = `00000001${'0'.repeat(8)}${number}`
      const hold: Hold = {
        id: '20260101-000000-hold',
        purpose: 'restore',
        host: 'here',
        writer: 'me',
        startedAt: '',
        needs: [backup.id],
        wal: { systemIdentifier: backup.systemIdentifier, first },
      }
      const after = applyPlan(world, planOf(world, policy, [hold]))
      assert.ok(after.backups.includes(backup))
      for (const key of world.archived) {
        const [system, , segment] = key.split('/')
        const isHeld = system === backup.systemIdentifier && Number(segment) >= from % 20
        assert.ok(!isHeld || after.archived.has(key), key)
      }
    }),
    { numRuns: 200 },
  )
})

const DAYS: WorldStep[] = Array.from({ length: 20 }, () => [
  { do: 'back-up', on: 0, pin: false, shared: 1 } as const,
  { do: 'write', on: 0, segments: 3, hours: 23 } as const,
]).flat()

const ids = ({ keep }: ExpirationPlan): string[] => keep.map(({ backup }) => backup.id)

test('a window keeps its backups, the one before it, and their WAL', () => {
  const world = makeWorld(DAYS, [true])
  const plan = planOf(world, { ...NOTHING, windowMs: 72 * HOUR })
  const rules = plan.keep.map(({ reasons }) => reasons.map(({ rule }) => rule).join())
  assert.deepEqual(ids(plan), [16, 17, 18, 19].map(backupId))
  assert.deepEqual(rules, ['window-start', 'window', 'window', 'window,newest'])
  const base = world.backups[16]
  const [system] = plan.wal
  assert.equal(system?.timelines[0]?.segments.at(-1), (base?.firstSegment ?? 0) - 1)
})

test('without a policy only what no backup needs is removed', () => {
  const world = makeWorld(DAYS, [true])
  world.packs.addStored('f'.repeat(32), 7)
  const plan = planExpiration(describeWorld(world), { policy: undefined, nowMs: world.clockMs })
  assert.deepEqual(plan.expire, [])
  assert.deepEqual(plan.wal, [])
  assert.deepEqual(plan.packs, [{ id: 'f'.repeat(32), sizeBytes: 7 }])
})

test('nothing is removed while something cannot be judged', () => {
  const world = makeWorld(DAYS, [true])
  const facts = describeWorld(world)
  const hold: Hold = {
    id: '20260101-000000-hold',
    purpose: 'restore',
    host: 'far',
    writer: 'x',
    startedAt: '',
    needs: ['20250101-000000-gone'],
  }
  const cases: Partial<ExpirationFacts>[] = [
    { damagedRecords: ['x'] },
    { unreadableHolds: ['x'] },
    { holds: [hold] },
  ]
  for (const damage of cases) {
    const plan = planExpiration(
      { ...facts, ...damage },
      { policy: { ...NOTHING, last: 1 }, nowMs: world.clockMs },
    )
    assert.deepEqual([plan.expire, plan.packs, plan.wal, plan.marks], [[], [], [], []])
    assert.equal(plan.blocked.length, 1)
  }
})

test('a lineage that is not known keeps all of its system', () => {
  const world = makeWorld([...DAYS, { do: 'fork', on: 0, back: 2 }, ...DAYS], [true])
  const facts = describeWorld(world)
  for (const history of ['none', 'unreadable'] as const) {
    const systems = facts.systems.map((system) => ({
      ...system,
      timelines: system.timelines.map((one) => (one.timeline === 2 ? { ...one, history } : one)),
    }))
    const options = { policy: { ...NOTHING, last: 1 }, nowMs: world.clockMs }
    const plan = planExpiration({ ...facts, systems }, options)
    assert.deepEqual([plan.expire, plan.wal], [[], []])
    assert.deepEqual([...plan.unknownLineages], [['7000', [2]]])
  }
})

test('after an upgrade the old history thins out and ends; its WAL ends with it', () => {
  const world = makeWorld([...DAYS, { do: 'upgrade' }, ...DAYS.slice(0, 6)], [true])
  const daily = (days: number) => planOf(world, { ...NOTHING, daily: days })
  assert.deepEqual(ids(daily(5)), [18, 19, 20, 21, 22].map(backupId))
  const gone = daily(2)
  assert.deepEqual(ids(gone), [21, 22].map(backupId))
  const old = gone.wal.find(({ systemIdentifier }) => systemIdentifier === '7000')
  const all = world.timelines[0]?.times.size
  assert.equal(old?.timelines[0]?.segments.length, all)
})

test('a server that waits for its first backup keeps its WAL', () => {
  const steps = [...DAYS, { do: 'upgrade' }, { do: 'write', on: 0, segments: 5, hours: 2 }] as const
  const world = makeWorld(steps, [true])
  const { wal } = planOf(world, { ...NOTHING, last: 1 })
  assert.ok(!wal.some(({ systemIdentifier }) => systemIdentifier === '7001'))
})

test('a branch that the window does not reach is given up, the living one is not', () => {
  const forked = [...DAYS, { do: 'fork', on: 0, back: 3 }, ...DAYS] as const
  const world = makeWorld(forked, [true])
  const plan = planOf(world, { ...NOTHING, windowMs: 48 * HOUR })
  const dead = plan.wal[0]?.timelines.find(({ timeline }) => timeline === 1)
  assert.equal(dead?.segments.length, world.timelines[0]?.times.size)
  const early = planOf(world, { ...NOTHING, windowMs: 22 * 24 * HOUR })
  const after = applyPlan(world, early)
  assert.ok(after.archived.has(`7000/1/${(world.timelines[0]?.next ?? 0) - 1}`))
})

test('a clock that was set back makes no old backup the newest', () => {
  const back = { do: 'set-clock-back', hours: 300 } as const
  const world = makeWorld([...DAYS, back, { do: 'back-up', on: 0, pin: false, shared: 0 }], [true])
  const plan = planOf({ ...world, clockMs: world.clockMs + 301 * HOUR }, { ...NOTHING, last: 1 })
  assert.ok(ids(plan).includes(backupId(20)), ids(plan).join())
})

test('the end of what the server wrote is never given up, however long ago that was', () => {
  const steps: WorldStep[] = [
    ...DAYS,
    { do: 'fork', on: 0, back: 1 },
    { do: 'write', on: 0, segments: 5, hours: 1 },
    { do: 'write', on: 0, segments: 0, hours: 5000 },
  ]
  const world = makeWorld(steps, [true])
  const after = applyPlan(world, planOf(world, { ...NOTHING, windowMs: HOUR }))
  const [, promoted] = world.timelines
  assert.ok(promoted !== undefined && isRecoverable(after, promoted, promoted.next - 1))
})

test('writers stay, and a reserved number goes with the backup that was restored', () => {
  const world = makeWorld(
    [
      { do: 'back-up', on: 0, pin: false, shared: 0 },
      { do: 'write', on: 0, segments: 3, hours: 50 },
      { do: 'back-up', on: 0, pin: false, shared: 0 },
      { do: 'write', on: 0, segments: 3, hours: 50 },
      { do: 'back-up', on: 0, pin: false, shared: 0 },
    ],
    [true],
  )
  const named = backupId
  const other = (kind: 'writer' | 'reservation', key: string, backup?: number) => {
    const backupId = backup === undefined ? undefined : named(backup)
    return { kind, key, sizeBytes: 1, segment: undefined, backupId }
  }
  const others = [
    other('writer', 'writer'),
    other('reservation', 'of the first', 0),
    other('reservation', 'of the last', 2),
    other('reservation', 'unreadable'),
  ]
  const facts = describeWorld(world)
  const systems = facts.systems.map((system) => ({ ...system, others }))
  const options = { policy: { ...NOTHING, last: 1 }, nowMs: world.clockMs }
  const plan = planExpiration({ ...facts, systems }, options)
  assert.deepEqual(
    plan.wal.flatMap((wal) => wal.others.map(({ key }) => key)),
    ['of the first'],
  )
})

test('tails go with the WAL around them, and never the one at the end', () => {
  const steps: WorldStep[] = [
    { do: 'write', on: 0, segments: 4, hours: 1 },
    { do: 'back-up', on: 0, pin: false, shared: 0 },
    { do: 'write', on: 0, segments: 4, hours: 1 },
    { do: 'back-up', on: 0, pin: false, shared: 0 },
    { do: 'write', on: 0, segments: 4, hours: 1 },
  ]
  const facts = describeWorld(makeWorld(steps, [true]))
  const [system] = facts.systems
  assert.ok(system !== undefined)
  const newest = system.timelines.flatMap(({ segments }) => segments).at(-1) ?? 0
  const tails = Array.from({ length: newest + 2 }, (_, segment) => {
    return { key: `tails/${segment}`, sizeBytes: 1, kind: 'tail' as const, segment }
  })
  const systems = [{ ...system, others: tails }]
  const plan = planExpiration({ ...facts, systems }, { policy: NOTHING, nowMs: HOUR * 1e6 })
  const [wal] = plan.wal
  const gone = new Set(wal?.timelines.flatMap(({ segments }) => segments))
  const goneTails = wal?.others.flatMap(({ segment }) => segment ?? []) ?? []
  assert.ok(gone.size > 0 && goneTails.length > 0)
  for (const segment of goneTails) {
    assert.ok(segment < newest)
    assert.ok(gone.has(segment) || segment === 0, `WAL of ${segment} is kept`)
    assert.ok(gone.has(segment - 1) || segment <= 1, `WAL before ${segment} is kept`)
  }
})
