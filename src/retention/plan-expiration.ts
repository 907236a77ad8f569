/**
 * Decides what expires. Reads nothing and removes nothing, so that `expire` without `--apply`
 * shows exactly what it would do (docs/design/retention.md).
 *
 * Invariant: nothing that a kept backup, the window or a hold needs is removed; what cannot be
 * judged is kept. Another expiry, backup or restore that runs meanwhile is no matter of this
 * plan: execute-removal.ts looks a second time.
 */
import { parseSegmentKey } from '../archive/list-segments.ts'
import { walPrefix } from '../archive/wal-file-name.ts'
import type { Timeline } from '../postgres/lsn.ts'
import type { Hold } from '../repository/holds.ts'
import { packKey, parseBackupKey } from '../repository/keys.ts'
import { type ChosenBackups, chooseKept, type KeepReason } from './choose-kept.ts'
import type { BackupFacts, ExpirationFacts, OtherWal, SystemFacts } from './facts.ts'
import { PackSet } from './pack-table.ts'
import type { RetentionPolicy } from './retention-policy.ts'
import { WalNeeds } from './wal-needs.ts'

export interface ExpirationPlan {
  readonly keep: readonly KeptBackup[]
  readonly expire: readonly BackupFacts[]
  readonly packs: readonly { readonly id: string; readonly sizeBytes: number }[]
  readonly wal: readonly ExpiredWal[]
  /** Pins and labels of backups that are gone or expire. */
  readonly marks: readonly string[]
  /** Why nothing may be removed at all. */
  readonly blocked: readonly Blocker[]
  /** Systems of which nothing is removed, and the timelines whose history is not known. */
  readonly unknownLineages: ReadonlyMap<string, readonly Timeline[]>
}

export interface KeptBackup {
  readonly backup: BackupFacts
  readonly reasons: readonly KeepReason[]
}

export interface ExpiredWal {
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  readonly timelines: readonly ExpiredSegments[]
  /** Partials, quarantine; histories and labels with the last backup of a system. */
  readonly others: readonly OtherWal[]
}

export interface ExpiredSegments {
  readonly timeline: Timeline
  /** Ascending. */
  readonly segments: readonly number[]
  readonly bytes: number
}

export type Blocker =
  | { readonly kind: 'record'; readonly backupId: string }
  | { readonly kind: 'hold'; readonly key: string }
  /** A backup without a record, whose packs are there. */
  | { readonly kind: 'lost'; readonly backupId: string }
  /** A hold that needs a backup whose record is gone: which packs that had, nobody knows. */
  | { readonly kind: 'need'; readonly hold: string; readonly backupId: string }

export interface PlanOptions {
  /** Undefined: no backup expires, and no WAL. */
  readonly policy: RetentionPolicy | undefined
  readonly nowMs: number
  /** Only these may expire, of those that would: no other was condemned. */
  readonly only?: ReadonlySet<string>
  /** Backups whose records could not be removed: all that they need stays. */
  readonly locked?: ReadonlySet<string>
}

export function planExpiration(facts: ExpirationFacts, options: PlanOptions): ExpirationPlan {
  const blocked = findBlockers(facts)
  const chosen = choose(facts, options)
  const reasons = addHeld(chosen.reasons, facts, options)
  if (blocked.length > 0) {
    for (const { id } of facts.backups) add(reasons, id, { rule: 'blocked' })
  }
  const keep = facts.backups
    .filter(({ id }) => reasons.has(id))
    .map((backup) => ({ backup, reasons: reasons.get(backup.id) ?? [] }))
  const expire = facts.backups.filter(({ id }) => !reasons.has(id))
  const { unknownLineages } = chosen
  if (blocked.length > 0) {
    return { keep, expire, packs: [], wal: [], marks: [], blocked, unknownLineages }
  }
  const kept = keep.map(({ backup }) => backup)
  const wal = options.policy === undefined ? [] : planWal(facts, kept, chosen)
  const marks = planMarks(facts, kept)
  return { keep, expire, packs: planPacks(facts, kept), wal, marks, blocked, unknownLineages }
}

function findBlockers(facts: ExpirationFacts): Blocker[] {
  const there = new Set(facts.backups.map(({ id }) => id))
  const gone = facts.holds.flatMap(({ id, needs }) =>
    needs
      .filter((backupId) => !there.has(backupId))
      .map((backupId) => ({ kind: 'need', hold: id, backupId }) as const),
  )
  return [
    ...gone,
    ...facts.lostRecords.map((backupId) => ({ kind: 'lost', backupId }) as const),
    ...facts.damagedRecords.map((backupId) => ({ kind: 'record', backupId }) as const),
    ...facts.unreadableHolds.map((key) => ({ kind: 'hold', key }) as const),
  ]
}

function choose(facts: ExpirationFacts, { policy, nowMs }: PlanOptions): ChosenBackups {
  if (policy !== undefined) return chooseKept(facts, policy, nowMs)
  const reasons = facts.backups.map(({ id }) => [id, [{ rule: 'no-retention' }]] as const)
  return { reasons: new Map(reasons), windowWal: new Map(), unknownLineages: new Map() }
}

type Reasons = Map<string, KeepReason[]>

function add(reasons: Reasons, id: string, reason: KeepReason): void {
  reasons.set(id, [...(reasons.get(id) ?? []), reason])
}

/** A hold that is there although its backup is published keeps that backup as well. */
function addHeld(
  chosen: ChosenBackups['reasons'],
  facts: ExpirationFacts,
  { locked = new Set(), only }: PlanOptions,
): Reasons {
  const reasons: Reasons = new Map([...chosen].map(([id, own]) => [id, [...own]]))
  const there = new Set(facts.backups.map(({ id }) => id))
  for (const hold of facts.holds) {
    // Who names a record by its key may be about to write it again.
    const named = (hold.keys ?? []).flatMap((key) => parseBackupKey(key) ?? [])
    for (const id of new Set([hold.id, ...hold.needs, ...named])) {
      if (there.has(id)) add(reasons, id, { rule: 'held', detail: describeHold(hold) })
    }
  }
  for (const { id } of facts.backups) {
    if (locked.has(id)) add(reasons, id, { rule: 'locked' })
    if (only?.has(id) === false && !reasons.has(id)) add(reasons, id, { rule: 'new' })
  }
  return reasons
}

function describeHold({ id, purpose, host }: Hold): string {
  return `${purpose} ${id} on ${host}`
}

function planPacks(facts: ExpirationFacts, kept: readonly BackupFacts[]) {
  const needed = new PackSet()
  for (const { packs } of kept) needed.addAll(packs)
  const attempts = new Set(facts.holds.map(({ attemptId }) => attemptId))
  const keys = new Set(facts.holds.flatMap((hold) => hold.keys ?? []))
  const removed: { id: string; sizeBytes: number }[] = []
  for (const { number, id, sizeBytes } of facts.packs.stored()) {
    if (needed.has(number) || attempts.has(id.slice(0, 24))) continue
    if (keys.has(packKey(facts.cluster, id))) continue
    removed.push({ id, sizeBytes })
  }
  return removed
}

function planMarks(facts: ExpirationFacts, kept: readonly BackupFacts[]): string[] {
  const alive = new Set(kept.map(({ id }) => id))
  const held = new Set(facts.holds.flatMap((hold) => [hold.id, ...(hold.keys ?? [])]))
  return facts.marks
    .filter(({ key, backupId }) => !alive.has(backupId) && !held.has(backupId) && !held.has(key))
    .map(({ key }) => key)
}

function planWal(
  facts: ExpirationFacts,
  kept: readonly BackupFacts[],
  chosen: ChosenBackups,
): ExpiredWal[] {
  // A backup that does not say from where on it needs WAL may need all of it.
  if (facts.holds.some(({ purpose, wal }) => purpose === 'backup' && wal === undefined)) return []
  const heldKeys = new Set(facts.holds.flatMap((hold) => hold.keys ?? []))
  const expired: ExpiredWal[] = []
  for (const system of facts.systems) {
    const id = system.systemIdentifier
    const own = kept.filter(({ systemIdentifier }) => systemIdentifier === id)
    const mayGo = own.length > 0 || isSuperseded(system, facts, kept)
    if (chosen.unknownLineages.has(id) || system.createdAtMs === undefined || !mayGo) continue
    const needs = chosen.windowWal.get(id) ?? new WalNeeds()
    for (const backup of own) needs.add(backup.timeline, backup.firstSegment, backup.lastSegment)
    addHeldWal(needs, facts, system)
    const backups = new Set(own.map((backup) => backup.id))
    expired.push(planSystem(system, needs, backups, heldKeys))
  }
  return expired.filter(({ timelines, others }) => timelines.length > 0 || others.length > 0)
}

/**
 * A system without backups has only WAL that nobody can use. It goes when another system has
 * been backed up since this one was introduced, and nobody holds any of it: a server that was
 * introduced just now waits for its first backup.
 */
function isSuperseded(
  system: SystemFacts,
  facts: ExpirationFacts,
  kept: readonly BackupFacts[],
): boolean {
  const { createdAtMs } = system
  if (createdAtMs === undefined) return false
  const isHeld = facts.holds.some(({ wal }) => wal?.systemIdentifier === system.systemIdentifier)
  return !isHeld && kept.some(({ stoppedAtMs }) => stoppedAtMs > createdAtMs)
}

function addHeldWal(needs: WalNeeds, facts: ExpirationFacts, system: SystemFacts): void {
  const { systemIdentifier, walSegmentSizeBytes: size } = system
  const prefix = walPrefix(facts.cluster, systemIdentifier)
  for (const { wal, keys = [] } of facts.holds) {
    if (wal?.systemIdentifier === systemIdentifier) {
      needs.addEverythingFrom(numberOfSegment(wal.first, size) ?? 0)
    }
    for (const key of keys) {
      const name = key.startsWith(prefix) ? parseSegmentKey(key) : undefined
      const segment = name === undefined ? undefined : numberOfSegment(name, size)
      if (name === undefined || segment === undefined) continue
      needs.add(Number.parseInt(name.slice(0, 8), 16), segment, segment)
    }
  }
}

/** Of a segment's name; undefined for another text. */
export function numberOfSegment(name: string, walSegmentSizeBytes: number): number | undefined {
  if (!/^[0-9A-F]{24}$/.test(name)) return undefined
  const perId = 0x100000000 / walSegmentSizeBytes
  return Number.parseInt(name.slice(8, 16), 16) * perId + Number.parseInt(name.slice(16), 16)
}

function planSystem(
  system: SystemFacts,
  needs: WalNeeds,
  backups: ReadonlySet<string>,
  heldKeys: ReadonlySet<string>,
): ExpiredWal {
  const { systemIdentifier, walSegmentSizeBytes } = system
  const timelines: ExpiredSegments[] = []
  for (const { timeline, segments, sizes } of system.timelines) {
    const gone: number[] = []
    let bytes = 0
    for (const [at, segment] of segments.entries()) {
      if (needs.has(timeline, segment)) continue
      gone.push(segment)
      bytes += sizes[at] ?? 0
    }
    if (gone.length > 0) timelines.push({ timeline, segments: gone, bytes })
  }
  const newest = Math.max(...system.timelines.map(({ segments }) => segments.at(-1) ?? -1), -1)
  const others = system.others.filter((other) => {
    return !heldKeys.has(other.key) && mayGo(other, needs, backups, newest)
  })
  return { systemIdentifier, walSegmentSizeBytes, timelines, others }
}

/** The age of what lies beside the WAL is its place in it: it goes with the WAL around it. */
function mayGo(
  other: OtherWal,
  needs: WalNeeds,
  backups: ReadonlySet<string>,
  newest: number,
): boolean {
  if (other.kind === 'stranger') return false
  if (backups.size === 0) return true
  if (['history', 'label', 'writer', 'gap'].includes(other.kind)) return false
  if (other.kind === 'reservation') {
    return other.backupId !== undefined && !backups.has(other.backupId)
  }
  const { segment } = other
  if (segment === undefined || segment >= newest || needs.hasAnywhere(segment)) return false
  // A tail goes on from the segment before it, whose timeline may end there.
  return other.kind !== 'tail' || !needs.hasAnywhere(segment - 1)
}
