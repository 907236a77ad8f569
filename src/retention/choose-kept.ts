/**
 * Which backups are kept, and why; and the WAL that the window needs. Pure.
 *
 * Invariant: every moment of the window that can be recovered now can be recovered from what
 * is kept. Order on a timeline is that of LSNs; times are the server's own.
 */
import { pathOf, type TimelineHistory } from '../postgres/history-file.ts'
import type { Timeline } from '../postgres/lsn.ts'
import type { BackupFacts, ExpirationFacts, SystemFacts } from './facts.ts'
import {
  backupsAlong,
  compareAlong,
  findWindowBase,
  type Lineage,
  traceLineage,
} from './lineage.ts'
import { PERIODS, periodOf, type RetentionPolicy } from './retention-policy.ts'
import { WalNeeds } from './wal-needs.ts'

export type KeepRule =
  | 'newest'
  | 'last'
  | 'window'
  | 'window-start'
  | 'daily'
  | 'weekly'
  | 'monthly'
  | 'yearly'
  | 'pinned'
  | 'held'
  | 'condemned-elsewhere'
  | 'lineage-unknown'
  | 'locked'
  | 'new'
  | 'no-retention'
  | 'blocked'

export interface KeepReason {
  readonly rule: KeepRule
  /** The period, the timeline, who holds it. */
  readonly detail?: string
}

export interface ChosenBackups {
  /** By id; what is not in it expires. */
  readonly reasons: ReadonlyMap<string, readonly KeepReason[]>
  /** What the window needs, by system identifier. */
  readonly windowWal: ReadonlyMap<string, WalNeeds>
  /** Systems whose lineage is unknown: nothing of them is removed. */
  readonly unknownLineages: ReadonlyMap<string, readonly Timeline[]>
}

type Reasons = Map<string, KeepReason[]>

export function chooseKept(
  facts: ExpirationFacts,
  policy: RetentionPolicy,
  nowMs: number,
): ChosenBackups {
  const reasons: Reasons = new Map()
  for (const backup of facts.backups) {
    if (backup.isPinned) note(reasons, backup, { rule: 'pinned' })
    if (facts.condemnedElsewhere.has(backup.id)) {
      note(reasons, backup, { rule: 'condemned-elsewhere' })
    }
  }
  const counted = facts.backups
    .filter(({ id }) => !facts.condemnedElsewhere.has(id))
    .sort(byStop)
    .reverse()
  const chosen = { reasons, windowWal: new Map(), unknownLineages: new Map() }
  // What is kept must hold by itself: once without those that nobody can restore, once with them.
  const whole = counted.filter(({ isIncomplete }) => isIncomplete !== true)
  if (whole.length < counted.length) keepAmong(chosen, facts, whole, policy, nowMs)
  keepAmong(chosen, facts, counted, policy, nowMs)
  return chosen
}

interface Choice {
  readonly reasons: Reasons
  readonly windowWal: Map<string, WalNeeds>
  readonly unknownLineages: Map<string, readonly Timeline[]>
}

function keepAmong(
  choice: Choice,
  facts: ExpirationFacts,
  newestFirst: readonly BackupFacts[],
  policy: RetentionPolicy,
  nowMs: number,
): void {
  keepByCalendar(choice.reasons, newestFirst, policy)
  const windowStartMs = nowMs - policy.windowMs
  for (const backup of newestFirst) {
    if (backup.stoppedAtMs >= windowStartMs) note(choice.reasons, backup, { rule: 'window' })
  }
  keepForWindow(choice, facts, newestFirst, windowStartMs)
}

function byStop(a: BackupFacts, b: BackupFacts): number {
  if (a.stoppedAtMs !== b.stoppedAtMs) return a.stoppedAtMs - b.stoppedAtMs
  return compareAlong(a, b)
}

function note(reasons: Reasons, { id }: BackupFacts, reason: KeepReason): void {
  const known = reasons.get(id)
  const isSame = ({ rule, detail }: KeepReason): boolean =>
    rule === reason.rule && detail === reason.detail
  if (known === undefined) reasons.set(id, [reason])
  else if (!known.some(isSame)) known.push(reason)
}

/**
 * Periods are those of all systems together, and each system has its newest backup of a period
 * kept: after pg_upgrade both histories thin out, and the old one ends some day.
 */
function keepByCalendar(
  reasons: Reasons,
  newestFirst: readonly BackupFacts[],
  policy: RetentionPolicy,
): void {
  for (const backup of newestFirst.slice(0, policy.last)) note(reasons, backup, { rule: 'last' })
  for (const rule of PERIODS) {
    const periods = new Set<string>()
    const seen = new Set<string>()
    for (const backup of newestFirst) {
      const period = periodOf(rule, backup.stoppedAtMs)
      if (!periods.has(period) && periods.size === policy[rule]) break
      periods.add(period)
      const key = `${period} ${backup.systemIdentifier}`
      if (!seen.has(key)) note(reasons, backup, { rule, detail: period })
      seen.add(key)
    }
  }
}

function keepForWindow(
  { reasons, windowWal, unknownLineages }: Choice,
  facts: ExpirationFacts,
  newestFirst: readonly BackupFacts[],
  windowStartMs: number,
): void {
  const known = new Map(facts.systems.map((one) => [one.systemIdentifier, one]))
  for (const id of new Set([...known.keys(), ...newestFirst.map((one) => one.systemIdentifier)])) {
    const own = newestFirst.filter(({ systemIdentifier }) => systemIdentifier === id)
    const system = known.get(id)
    const lineage = traceLineage(system, own)
    if (lineage.unknown.length > 0 || (own.length > 0 && system?.createdAtMs === undefined)) {
      unknownLineages.set(id, lineage.unknown)
      for (const backup of own) note(reasons, backup, { rule: 'lineage-unknown' })
    }
    const isCurrent = id === newestFirst[0]?.systemIdentifier
    const scope = { system, own, lineage, isCurrent, windowStartMs }
    const needs = windowWal.get(id) ?? new WalNeeds()
    windowWal.set(id, needs)
    keepWindowOf(reasons, needs, scope)
  }
}

interface SystemScope {
  readonly system: SystemFacts | undefined
  /** Newest first, by time. */
  readonly own: readonly BackupFacts[]
  readonly lineage: Lineage
  /** Is it the system of the newest backup? */
  readonly isCurrent: boolean
  readonly windowStartMs: number
}

function keepWindowOf(reasons: Reasons, needs: WalNeeds, scope: SystemScope): void {
  const { system, own, lineage, isCurrent, windowStartMs } = scope
  if (isCurrent) keepNewest(reasons, own)
  for (const path of lineage.paths) {
    const along = backupsAlong(path, own)
    const base = findWindowBase(along, windowStartMs)
    const first = base ?? along[0]
    if (first === undefined || !isTouched(path.timeline, scope)) continue
    if (base !== undefined) {
      note(reasons, base, { rule: 'window-start', detail: String(path.timeline) })
    }
    if (system === undefined) continue
    needs.addPath(path, first.firstSegment, system.walSegmentSizeBytes)
  }
}

/** By time, and by lineage: a clock that was set back must not make an old one the newest. */
function keepNewest(reasons: Reasons, newestFirst: readonly BackupFacts[]): void {
  const [newest] = newestFirst
  if (newest === undefined) return
  note(reasons, newest, { rule: 'newest' })
  const sameTimeline = newestFirst.filter(({ timeline }) => timeline === newest.timeline)
  const furthest = sameTimeline.reduce((a, b) => (a.consistentAt > b.consistentAt ? a : b))
  if (furthest.consistentAt <= newest.consistentAt) return
  note(reasons, furthest, { rule: 'newest', detail: 'by LSN' })
}

/**
 * Does the window reach into the timeline, or may it? Always into that of the newest backup and
 * into the newest of all, so that the end of what the server wrote is never given up.
 */
function isTouched(timeline: Timeline, scope: SystemScope): boolean {
  const { system, own, isCurrent, windowStartMs, lineage } = scope
  if (isCurrent && (own[0]?.timeline === timeline || lineage.paths.at(-1)?.timeline === timeline)) {
    return true
  }
  const ofIt = own.filter((backup) => backup.timeline === timeline)
  if (ofIt.some(({ stoppedAtMs }) => stoppedAtMs >= windowStartMs)) return true
  const listed = system?.timelines.find((one) => one.timeline === timeline)
  if (listed === undefined || listed.segments.length === 0) return false
  return listed.lastMomentMs === undefined || listed.lastMomentMs >= windowStartMs
}

/** Timelines of which the decision asks when they ended, so that only those are read. */
export function listTimelinesInQuestion(
  facts: ExpirationFacts,
  system: SystemFacts,
  policy: RetentionPolicy,
  nowMs: number,
): TimelineHistory[] {
  const own = facts.backups.filter((one) => one.systemIdentifier === system.systemIdentifier)
  const newest = facts.backups.toSorted(byStop).at(-1)
  const lineage = traceLineage(system, own)
  const timelines = system.timelines.map((one) => ({ ...one, lastMomentMs: 0 }))
  const scope = {
    system: { ...system, timelines },
    own: own.toSorted(byStop).reverse(),
    lineage,
    isCurrent: newest?.systemIdentifier === system.systemIdentifier,
    windowStartMs: nowMs - policy.windowMs,
  }
  return lineage.paths.filter((path) => {
    const hasBackups = backupsAlong(path, own).length > 0
    return hasBackups && !isTouched(path.timeline, scope) && hasWal(system, path)
  })
}

function hasWal(system: SystemFacts, path: TimelineHistory): boolean {
  const last = pathOf(path).at(-1)
  return system.timelines.some(({ timeline, segments }) => timeline === last && segments.length > 0)
}
