/**
 * A small world of servers that write WAL, are backed up, fail over and are upgraded, with the
 * time of everything known: what a decision about expiry is checked against. And a slow judge
 * of what can be recovered, which shares no code with the decision.
 */
import type { Hold } from '../../src/repository/holds.ts'
import type { BackupFacts, ExpirationFacts } from '../../src/retention/facts.ts'
import { PackSet, PackTable } from '../../src/retention/pack-table.ts'
import type { ExpirationPlan } from '../../src/retention/plan-expiration.ts'
import type { Lsn } from '../../src/postgres/lsn.ts'

export const SEGMENT = 1024 * 1024
export const HOUR = 3600 * 1000

export interface WorldTimeline {
  readonly system: string
  readonly timeline: number
  /** Oldest first; the segment in which each was left. */
  readonly ancestors: readonly { readonly timeline: number; readonly fork: number }[]
  readonly first: number
  /** Segments that it has finished, with the time of their last byte. */
  readonly times: Map<number, number>
  next: number
  readonly endKnown: boolean
}

export interface World {
  clockMs: number
  readonly timelines: WorldTimeline[]
  readonly backups: BackupFacts[]
  readonly packs: PackTable
  /** `system/timeline/segment` */
  readonly archived: Set<string>
  readonly createdAtMs: Map<string, number>
}

export type WorldStep =
  | { readonly do: 'write'; readonly on: number; readonly segments: number; readonly hours: number }
  | { readonly do: 'back-up'; readonly on: number; readonly pin: boolean; readonly shared: number }
  | { readonly do: 'fork'; readonly on: number; readonly back: number }
  | { readonly do: 'upgrade' }
  | { readonly do: 'lose'; readonly on: number; readonly back: number }
  | { readonly do: 'set-clock-back'; readonly hours: number }

export function makeWorld(steps: readonly WorldStep[], endsKnown: readonly boolean[]): World {
  const world: World = {
    clockMs: Date.UTC(2026, 0, 1),
    timelines: [],
    backups: [],
    packs: new PackTable(),
    archived: new Set(),
    createdAtMs: new Map(),
  }
  let ends = 0
  const endKnown = (): boolean => endsKnown[ends++ % endsKnown.length] ?? true
  addSystem(world, endKnown())
  for (const step of steps) take(world, step, endKnown)
  return world
}

function addSystem(world: World, endKnown: boolean): void {
  const system = String(7000 + world.createdAtMs.size)
  world.createdAtMs.set(system, world.clockMs)
  const fresh = {
    system,
    timeline: 1,
    ancestors: [],
    first: 1,
    next: 1,
    times: new Map(),
    endKnown,
  }
  world.timelines.push(fresh)
}

function take(world: World, step: WorldStep, endKnown: () => boolean): void {
  const { length } = world.timelines
  const chosen = 'on' in step ? world.timelines[length - 1 - (step.on % length)] : undefined
  const timeline = chosen ?? (world.timelines[0] as WorldTimeline)
  switch (step.do) {
    case 'upgrade':
      addSystem(world, endKnown())
      break
    case 'set-clock-back':
      world.clockMs -= step.hours * HOUR
      break
    case 'write':
      write(world, timeline, step.segments, step.hours)
      break
    case 'back-up':
      backUp(world, timeline, step)
      break
    case 'lose':
      world.archived.delete(keyOf(timeline, Math.max(timeline.first, timeline.next - step.back)))
      break
    case 'fork':
      fork(world, timeline, Math.max(timeline.first, timeline.next - step.back), endKnown())
      break
  }
}

export function keyOf({ system, timeline }: WorldTimeline, segment: number): string {
  return `${system}/${timeline}/${segment}`
}

function write(world: World, timeline: WorldTimeline, segments: number, hours: number): void {
  world.clockMs += hours * HOUR
  for (let count = 0; count < segments; count++) {
    timeline.times.set(timeline.next, world.clockMs)
    world.archived.add(keyOf(timeline, timeline.next))
    timeline.next++
  }
}

function backUp(
  world: World,
  timeline: WorldTimeline,
  { pin, shared }: { readonly pin: boolean; readonly shared: number },
): void {
  const firstSegment = timeline.next
  write(world, timeline, 1 + (shared % 2), 1)
  const packs = new PackSet()
  const number = world.backups.length
  const own = packId(number)
  packs.add(world.packs.numberOf(own))
  world.packs.addStored(own, 1000)
  for (let back = 1; back <= shared; back++) {
    if (number - back >= 0) packs.add(world.packs.numberOf(packId(number - back)))
  }
  world.backups.push({
    id: backupId(number),
    systemIdentifier: timeline.system,
    timeline: timeline.timeline,
    stoppedAtMs: world.clockMs,
    firstSegment,
    lastSegment: timeline.next - 1,
    consistentAt: BigInt(timeline.next) * BigInt(SEGMENT),
    isPinned: pin,
    packs,
  })
}

export function backupId(number: number): string {
  return `20260101-000000-${String(number).padStart(4, '0')}`
}

function packId(number: number): string {
  return `${number.toString(16).padStart(24, '0')}00000000`
}

/** The new timeline begins in the middle of segment `at`, which it writes again. */
function fork(world: World, parent: WorldTimeline, at: number, endKnown: boolean): void {
  const { system } = parent
  const own = world.timelines.filter((one) => one.system === system)
  const kept = parent.ancestors.filter((ancestor) => ancestor.fork <= at)
  world.timelines.push({
    system,
    timeline: Math.max(...own.map((one) => one.timeline)) + 1,
    ancestors: [...kept, { timeline: parent.timeline, fork: at }],
    first: at,
    next: at,
    times: new Map(),
    endKnown,
  })
}

export function describeWorld(world: World, holds: readonly Hold[] = []): ExpirationFacts {
  const systems = [...world.createdAtMs].map(([systemIdentifier, createdAtMs]) => ({
    systemIdentifier,
    createdAtMs,
    walSegmentSizeBytes: SEGMENT,
    timelines: world.timelines
      .filter(({ system }) => system === systemIdentifier)
      .map((one) => describeTimeline(world, one)),
    others: [],
  }))
  return {
    cluster: 'main',
    backups: world.backups,
    damagedRecords: [],
    holds,
    unreadableHolds: [],
    condemnedElsewhere: new Set(),
    expiredBefore: new Set(),
    takenOver: [],
    lostRecords: [],
    systems,
    packs: world.packs,
    marks: [],
  }
}

function describeTimeline(world: World, one: WorldTimeline) {
  const segments = [...one.times.keys()].filter((each) => world.archived.has(keyOf(one, each)))
  const last = segments.at(-1)
  const ancestors = one.ancestors.map(({ timeline, fork: at }) => {
    return { timeline, endLsn: forkLsn(at) as Lsn, reason: '' }
  })
  return {
    timeline: one.timeline,
    history: ancestors.length === 0 ? ('none' as const) : { timeline: one.timeline, ancestors },
    segments,
    sizes: segments.map(() => 100),
    lastMomentMs: one.endKnown && last !== undefined ? one.times.get(last) : undefined,
  }
}

function forkLsn(segment: number): bigint {
  return BigInt(segment) * BigInt(SEGMENT) + 1000n
}

/** What is left when the plan has been carried out. */
export function applyPlan(world: World, plan: ExpirationPlan): World {
  const archived = new Set(world.archived)
  for (const { systemIdentifier, timelines } of plan.wal) {
    for (const { timeline, segments } of timelines) {
      for (const segment of segments) archived.delete(`${systemIdentifier}/${timeline}/${segment}`)
    }
  }
  const gone = new Set(plan.packs.map(({ id }) => id))
  const packs = new PackTable()
  for (let number = 0; number < 1000; number++) packs.numberOf(packId(number))
  for (const { id, sizeBytes } of world.packs.stored()) {
    packs.numberOf(id)
    if (!gone.has(id)) packs.addStored(id, sizeBytes)
  }
  const expired = new Set(plan.expire.map(({ id }) => id))
  const backups = world.backups.filter(({ id }) => !expired.has(id))
  return { ...world, archived, packs, backups }
}

/** The backup's own WAL is there: it becomes consistent. */
export function isConsistent(world: World, backup: BackupFacts): boolean {
  const { systemIdentifier, timeline, firstSegment, lastSegment } = backup
  for (let segment = firstSegment; segment <= lastSegment; segment++) {
    if (!world.archived.has(`${systemIdentifier}/${timeline}/${segment}`)) return false
  }
  return true
}

/** Can the end of `segment` be reached, which `timeline` wrote itself? */
export function isRecoverable(world: World, timeline: WorldTimeline, segment: number): boolean {
  return world.backups.some((backup) => {
    if (backup.systemIdentifier !== timeline.system) return false
    if (!isOnPath(timeline, backup, segment)) return false
    for (let each = backup.firstSegment; each <= segment; each++) {
      if (!isReadable(world, timeline, each)) return false
    }
    return true
  })
}

function isOnPath(leaf: WorldTimeline, backup: BackupFacts, segment: number): boolean {
  const end = backup.consistentAt
  if (end > BigInt(segment + 1) * BigInt(SEGMENT)) return false
  if (backup.timeline === leaf.timeline) return true
  const left = leaf.ancestors.find(({ timeline }) => timeline === backup.timeline)
  return left !== undefined && end <= forkLsn(left.fork)
}

/** PostgreSQL takes the file of the newest timeline of the path that has begun by then. */
function isReadable(world: World, leaf: WorldTimeline, segment: number): boolean {
  const begun = leaf.ancestors.map(({ timeline }, at) => {
    return { timeline, from: at === 0 ? 0 : (leaf.ancestors[at - 1]?.fork ?? 0) }
  })
  const own = { timeline: leaf.timeline, from: leaf.ancestors.at(-1)?.fork ?? 0 }
  const newest = [...begun, own].findLast(({ from }) => from <= segment)
  return world.archived.has(`${leaf.system}/${newest?.timeline}/${segment}`)
}
