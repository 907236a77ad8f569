/**
 * Decides which dumps expire, and which packs and marks go with them. Reads nothing and removes
 * nothing (docs/design/dumps.md, section 4).
 *
 * Invariant: nothing that a kept dump or a hold needs is removed; what cannot be judged stops all
 * removal. It never goes by the order of names, and it looks at nothing of backups.
 */
import type { Hold } from '../repository/holds.ts'
import { attemptOfPack } from '../repository/keys.ts'

export interface DumpPolicy {
  /** So many of the newest of each kind; 0: the rule keeps none. */
  readonly keepLast: number
  /** All of so many days; 0: the rule keeps none. */
  readonly keepDays: number
}

/** The dumps of a cluster in a repository at one moment, as values. */
export interface DumpFacts {
  readonly dumps: readonly ListedDump[]
  /** Keys of records that cannot be read. */
  readonly unreadableRecords: readonly string[]
  readonly holds: readonly Hold[]
  /** Keys. */
  readonly unreadableHolds: readonly string[]
  /** Keys that other expiries may be removing: such dumps count for nothing and are not touched. */
  readonly condemnedElsewhere: ReadonlySet<string>
  /** Ids of condemned sets of expiries of dumps whose writers are dead. */
  readonly takenOver: readonly string[]
  readonly packs: readonly StoredDumpPack[]
  /** Pins and labels of dumps. */
  readonly marks: readonly { readonly key: string; readonly dumpId: string }[]
}

export interface ListedDump {
  readonly id: string
  /** Of its record. */
  readonly key: string
  /** Dumps of one kind take each other's place: the same databases, the same selection. */
  readonly kind: string
  readonly databases: readonly string[]
  /** The latest moment that it shows, by the server's clock. */
  readonly atMs: number
  /** When it began, by the clock of the process that wrote it. */
  readonly startedMs: number
  readonly systemIdentifier: string
  /** The latest that it shows; undefined of globals alone. */
  readonly lsn: bigint | undefined
  readonly isPinned: boolean
  /** A pack of it is not there, or not whole: it takes no other's place. */
  readonly isIncomplete: boolean
  /** Ids. */
  readonly packs: readonly string[]
}

export interface StoredDumpPack {
  readonly id: string
  readonly key: string
  readonly sizeBytes: number
}

export interface DumpExpirationPlan {
  readonly keep: readonly KeptDump[]
  readonly expire: readonly ListedDump[]
  readonly packs: readonly StoredDumpPack[]
  /** Keys of pins and labels of dumps that are gone or expire. */
  readonly marks: readonly string[]
  /** Why nothing may be removed at all. */
  readonly blocked: readonly DumpBlocker[]
}

export interface KeptDump {
  readonly dump: ListedDump
  readonly reasons: readonly DumpKeepReason[]
}

export interface DumpKeepReason {
  readonly rule:
    | 'newest'
    | 'last'
    | 'days'
    | 'pinned'
    | 'held'
    | 'condemned-elsewhere'
    | 'locked'
    | 'new'
    | 'no-retention'
    | 'blocked'
  /** Who holds it. */
  readonly detail?: string
}

export interface DumpBlocker {
  readonly kind: 'record' | 'hold'
  readonly key: string
}

export interface DumpPlanOptions {
  /** Undefined: no dump expires. */
  readonly policy: DumpPolicy | undefined
  readonly nowMs: number
  /** Ids: only these may expire, of those that would: no other was condemned. */
  readonly only?: ReadonlySet<string>
  /** Ids of dumps whose records could not be removed: all that they need stays. */
  readonly locked?: ReadonlySet<string>
}

export function planDumpExpiration(facts: DumpFacts, options: DumpPlanOptions): DumpExpirationPlan {
  const blocked = findBlockers(facts)
  const reasons = chooseKept(facts, options)
  addHeld(reasons, facts, options)
  if (blocked.length > 0) for (const { id } of facts.dumps) note(reasons, id, { rule: 'blocked' })
  const keep = facts.dumps.flatMap((dump) => {
    const own = reasons.get(dump.id)
    return own === undefined ? [] : [{ dump, reasons: own }]
  })
  const expire = facts.dumps.filter(({ id }) => !reasons.has(id))
  if (blocked.length > 0) return { keep, expire, packs: [], marks: [], blocked }
  const kept = keep.map(({ dump }) => dump)
  return { keep, expire, packs: planPacks(facts, kept), marks: planMarks(facts, kept), blocked }
}

function findBlockers({ unreadableRecords, unreadableHolds }: DumpFacts): DumpBlocker[] {
  return [
    ...unreadableRecords.map((key) => ({ kind: 'record', key }) as const),
    ...unreadableHolds.map((key) => ({ kind: 'hold', key }) as const),
  ]
}

type Reasons = Map<string, DumpKeepReason[]>

function note(reasons: Reasons, id: string, reason: DumpKeepReason): void {
  const known = reasons.get(id)
  if (known === undefined) reasons.set(id, [reason])
  else if (!known.some(({ rule }) => rule === reason.rule)) known.push(reason)
}

function chooseKept({ dumps, condemnedElsewhere }: DumpFacts, options: DumpPlanOptions): Reasons {
  const { policy, nowMs } = options
  const reasons: Reasons = new Map()
  for (const dump of dumps) {
    if (policy === undefined) note(reasons, dump.id, { rule: 'no-retention' })
    if (dump.isPinned) note(reasons, dump.id, { rule: 'pinned' })
    if (condemnedElsewhere.has(dump.key)) note(reasons, dump.id, { rule: 'condemned-elsewhere' })
  }
  if (policy === undefined) return reasons
  const all = dumps.filter(({ key }) => !condemnedElsewhere.has(key))
  for (const { id, atMs } of all) {
    if (policy.keepDays <= 0 || atMs < nowMs - policy.keepDays * DAY_MS) continue
    note(reasons, id, { rule: 'days' })
  }
  // What is kept must hold by itself: once without those that nobody can load, once with them.
  for (const some of [all.filter(({ isIncomplete }) => !isIncomplete), all]) {
    for (const newestFirst of orderNewestFirst(some)) keepNewest(reasons, newestFirst, policy)
  }
  return reasons
}

const DAY_MS = 24 * 3600 * 1000

/**
 * By the clock of the writer; and by LSN, the dumps of each system by themselves. A clock that was
 * ahead once makes old dumps look new for long: the WAL has no clock. A recovery to an earlier
 * moment sets the WAL back: there the clock tells. What one of the orders keeps stays.
 */
function orderNewestFirst(dumps: readonly ListedDump[]): ListedDump[][] {
  const byClock = dumps.toSorted(laterStart)
  const systems = Map.groupBy(byClock, ({ systemIdentifier }) => systemIdentifier)
  const byLsn = [...systems.values()].map((some) => {
    return some.filter(({ lsn }) => lsn !== undefined).sort(higherLsn)
  })
  return [byClock, ...byLsn]
}

function laterStart(one: ListedDump, other: ListedDump): number {
  return other.startedMs - one.startedMs || (one.id < other.id ? 1 : -1)
}

function higherLsn({ lsn: one = 0n }: ListedDump, { lsn: other = 0n }: ListedDump): number {
  return one === other ? 0 : one < other ? 1 : -1
}

function keepNewest(
  reasons: Reasons,
  newestFirst: readonly ListedDump[],
  { keepLast }: DumpPolicy,
): void {
  const counted = new Map<string, number>()
  for (const { id, kind } of newestFirst) {
    const before = counted.get(kind) ?? 0
    // Of each kind: one table that was dumped lately does not stand in for the whole.
    if (before === 0) note(reasons, id, { rule: 'newest' })
    counted.set(kind, before + 1)
    if (before < keepLast) note(reasons, id, { rule: 'last' })
  }
}

/** A hold that is there although its dump is published keeps that dump as well. */
function addHeld(reasons: Reasons, facts: DumpFacts, { locked, only }: DumpPlanOptions): void {
  const holders = new Map<string, Hold>()
  for (const hold of facts.holds) {
    holders.set(hold.id, hold)
    // Who names a record by its key reads it, refers to its packs, or may write it again.
    for (const key of hold.keys ?? []) holders.set(key, hold)
  }
  for (const { id, key } of facts.dumps) {
    const hold = holders.get(id) ?? holders.get(key)
    if (hold !== undefined) note(reasons, id, { rule: 'held', detail: describeHold(hold) })
    if (locked?.has(id) === true) note(reasons, id, { rule: 'locked' })
    if (only?.has(id) === false && !reasons.has(id)) note(reasons, id, { rule: 'new' })
  }
}

function describeHold({ id, purpose, host }: Hold): string {
  return `${purpose} ${id} on ${host}`
}

function planPacks({ packs, holds }: DumpFacts, kept: readonly ListedDump[]): StoredDumpPack[] {
  const needed = new Set(kept.flatMap((dump) => dump.packs))
  const attempts = new Set(holds.map(({ attemptId }) => attemptId))
  const keys = new Set(holds.flatMap((hold) => hold.keys ?? []))
  return packs.filter(({ id, key }) => {
    return !needed.has(id) && !attempts.has(attemptOfPack(id)) && !keys.has(key)
  })
}

function planMarks({ marks, holds }: DumpFacts, kept: readonly ListedDump[]): string[] {
  const alive = new Set(kept.map(({ id }) => id))
  const held = new Set(holds.flatMap((hold) => [hold.id, ...(hold.keys ?? [])]))
  return marks
    .filter(({ key, dumpId }) => !alive.has(dumpId) && !held.has(dumpId) && !held.has(key))
    .map(({ key }) => key)
}

/** What two plans agree to remove; the reasons are those of the second. Pure. */
export function intersectDumpPlans(
  first: DumpExpirationPlan,
  second: DumpExpirationPlan,
): DumpExpirationPlan {
  const expire = new Set(first.expire.map(({ id }) => id))
  const packs = new Set(first.packs.map(({ id }) => id))
  const marks = new Set(first.marks)
  return {
    ...second,
    expire: second.expire.filter(({ id }) => expire.has(id)),
    packs: second.packs.filter(({ id }) => packs.has(id)),
    marks: second.marks.filter((key) => marks.has(key)),
  }
}

export function isEmptyDumpPlan({ expire, packs, marks }: DumpExpirationPlan): boolean {
  return expire.length + packs.length + marks.length === 0
}
