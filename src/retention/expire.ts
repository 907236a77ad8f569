/**
 * Expiry: the story in order (docs/design/retention.md).
 *
 * Invariant: nothing is removed that was not condemned in writing before the second look, and
 * nothing that the second look has found somebody to need. Order between it and a writer is
 * that of their objects in the repository; no clock and no lock has a part in it.
 */
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { randomHex } from '../base/random.ts'
import { cleanUpDeadHolds } from '../repository/clean-up.ts'
import {
  type CondemnedSet,
  listCondemnedSets,
  removeCondemnedSet,
  writeCondemnedSet,
} from '../repository/condemned-sets.ts'
import { isDeadWriter, readHolder } from '../repository/holds.ts'
import { backupKey, parseBackupKey } from '../repository/keys.ts'
import { listBackups } from '../repository/read-backups.ts'
import type { Storage } from '../storage/storage.ts'
import {
  listWalKeys,
  type LockedObject,
  type RemovalScope,
  removeContents,
  removeRecords,
} from './execute-removal.ts'
import type { ExpirationFacts } from './facts.ts'
import { forgetVerified } from './forget-verified.ts'
import { findLostRecords } from './frames/survey-packs.ts'
import { intersectPlans, isEmptyPlan } from './intersect-plans.ts'
import {
  type Blocker,
  type ExpirationPlan,
  type PlanOptions,
  planExpiration,
} from './plan-expiration.ts'
import { PackSet } from './pack-table.ts'
import { readFacts } from './read-facts.ts'
import { addLastMoments } from './read-last-moments.ts'
import { type RepackingReport, repack } from './repack.ts'
import type { RetentionPolicy } from './retention-policy.ts'

export interface ExpireOptions {
  readonly storage: Storage
  readonly cluster: string
  readonly policy: RetentionPolicy | undefined
  /** False: the plan only. */
  readonly apply: boolean
  readonly progress: Progress
  readonly signal: AbortSignal
  /** The moment that the window ends at; now unless given. */
  readonly at?: Date
}

export interface ExpireResult {
  readonly plan: ExpirationPlan
  readonly facts: ExpirationFacts
  /** What was removed: less than the plan where somebody began to need it meanwhile. */
  readonly removed: ExpirationPlan | undefined
  readonly locked: readonly LockedObject[]
  /** Condemned sets of expiries of which it is not known whether they live. */
  readonly otherSets: readonly CondemnedSet[]
  readonly unreadableSets: readonly string[]
  /** What became of packs that have lost a part of their frames; undefined: nothing was done. */
  readonly repacking?: RepackingReport
  /** Sentences for the report. */
  readonly notes: readonly string[]
}

export async function expire(options: ExpireOptions): Promise<ExpireResult> {
  const { storage, cluster, apply, policy, progress, signal } = options
  const nowMs = (options.at ?? now()).getTime()
  const { notes, inherited } = apply ? await cleanUp(storage, cluster) : NOTHING_LEFT
  progress.phase('looking at backups and WAL')
  const facts = await look(options, nowMs)
  const plan = planExpiration(facts, { policy, nowMs })
  const { sets, unreadable: unreadableSets } = await listCondemnedSets(storage, cluster)
  const base = { plan, facts, otherSets: sets, unreadableSets, notes }
  if (!apply) return { ...base, removed: undefined, locked: [] }
  if (plan.blocked.length > 0) throw nothingExpires(plan)
  signal.throwIfAborted()
  if (!isEmptyPlan(plan)) {
    const done = await removeCondemned(options, plan, nowMs, inherited)
    return { ...base, ...done, notes: [...notes, ...done.notes] }
  }
  const empty = { ...base, removed: plan, locked: [] }
  if (inherited === undefined) return empty
  const repacking = await repackAfter(options, [], inherited.backups)
  await leaveUnfinished(options, inherited, repacking)
  return { ...empty, repacking }
}

async function look(options: ExpireOptions, nowMs: number, ownSet?: string) {
  const { storage, cluster, policy } = options
  const facts = await readFacts({ storage, cluster, ...(ownSet === undefined ? {} : { ownSet }) })
  return policy === undefined ? facts : await addLastMoments(storage, facts, policy, nowMs)
}

const NOTHING_LEFT = { notes: [], inherited: undefined }

/**
 * What processes left that are proved dead: holds with their attempts, and condemned sets.
 *
 * Backups whose records they have removed go into a set of this process before theirs go, for as
 * long as copies of these records may lie in packs: what no set names is called lost.
 */
async function cleanUp(storage: Storage, cluster: string) {
  const notes = await cleanUpDeadHolds(storage, cluster)
  const dead = (await listCondemnedSets(storage, cluster)).sets.filter(isDeadWriter)
  const gone = new Set<string>()
  for (const id of new Set(dead.flatMap(({ backups }) => backups))) {
    if ((await storage.size(backupKey(cluster, id))) === undefined) gone.add(id)
  }
  const inherited = gone.size === 0 ? undefined : makeSet([...gone], now().getTime())
  if (inherited !== undefined) await writeCondemnedSet(storage, cluster, inherited)
  for (const set of dead) {
    await removeCondemnedSet(storage, cluster, set.id)
    notes.push('an expiry was interrupted: this one goes on with what is left')
  }
  return { notes, inherited }
}

/** Packs whose backups have expired lose what nobody needs, and the copies of their records. */
async function repackAfter(
  { storage, cluster, progress, signal }: ExpireOptions,
  removed: readonly string[],
  inherited: readonly string[],
): Promise<RepackingReport> {
  const ids = removed.flatMap((key) => parseBackupKey(key) ?? [])
  const list = await listBackups(storage, cluster)
  const there = new Set(list.backups.map(({ id }) => id))
  const expired = new Set([...ids, ...inherited].filter((id) => !there.has(id)))
  const report = await repack({ storage, cluster, list, expired, progress, signal })
  const keys = report.repacked.map(({ key }) => key)
  if (keys.length > 0) await forgetVerified(storage, cluster, keys)
  return report
}

/** The set goes once nothing of what it names is left; else another one names just that. */
async function leaveUnfinished(
  { storage, cluster }: ExpireOptions,
  set: CondemnedSet,
  { unfinished }: RepackingReport,
): Promise<void> {
  if (unfinished.length > 0) {
    await writeCondemnedSet(storage, cluster, makeSet(unfinished, now().getTime()))
  }
  await removeCondemnedSet(storage, cluster, set.id)
}

function makeSet(backups: readonly string[], nowMs: number): CondemnedSet {
  const startedAt = new Date(nowMs).toISOString()
  return { id: randomHex(8), ...readHolder(), startedAt, backups, packs: [], keys: [] }
}

async function removeCondemned(
  options: ExpireOptions,
  plan: ExpirationPlan,
  nowMs: number,
  inherited: CondemnedSet | undefined,
): Promise<Pick<ExpireResult, 'removed' | 'locked' | 'notes'> & { repacking: RepackingReport }> {
  const { storage, cluster } = options
  const set = describeSet(cluster, plan, nowMs)
  await writeCondemnedSet(storage, cluster, set)
  const { progress, signal } = options
  const found = { locked: [], removed: [], inDoubt: false, notes: [] }
  const before = inherited?.backups ?? []
  const scope: Scope = { storage, cluster, progress, signal, ...found, expiredBefore: before }
  try {
    const removed = await removeAfterSecondLook(options, plan, nowMs, set, scope)
    const repacking = await repackAfter(options, scope.removed, before)
    await leaveUnfinished(options, set, repacking)
    if (inherited !== undefined) await removeCondemnedSet(storage, cluster, inherited.id)
    return { removed, locked: scope.locked, repacking, notes: scope.notes }
  } catch (error) {
    // A removal that failed may still take effect: its set stays until this process is dead. So
    // it does while copies of removed records may lie in packs.
    if (!scope.inDoubt && !scope.removed.some((key) => parseBackupKey(key) !== undefined)) {
      await removeCondemnedSet(storage, cluster, set.id).catch(() => undefined)
    }
    throw error
  }
}

interface Scope extends RemovalScope {
  /** Backups whose records an interrupted expiry has removed. */
  readonly expiredBefore: readonly string[]
  readonly notes: string[]
}

async function removeAfterSecondLook(
  options: ExpireOptions,
  plan: ExpirationPlan,
  nowMs: number,
  set: CondemnedSet,
  scope: Scope,
): Promise<ExpirationPlan> {
  const { storage, cluster, policy, progress } = options
  progress.phase('looking again')
  await requireListed(storage, cluster, set)
  const facts = await look(options, nowMs, set.id)
  // Packs that nobody named at the first look may be those of a backup that is there by now.
  const only = new Set(set.backups)
  const again = (more: Partial<PlanOptions> = {}): ExpirationPlan =>
    intersectPlans(plan, planExpiration(facts, { policy, nowMs, only, ...more }))
  const agreed = again()
  const locked = await removeRecords(scope, agreed)
  const unlocked = locked.size === 0 ? agreed : again({ locked })
  const removed = await spareLostRecords(facts, unlocked, scope)
  await removeContents(scope, removed)
  await forgetVerified(storage, cluster, scope.removed)
  return removed
}

/**
 * A copy of a record in a pack that nobody needs, of a backup that nobody has expired: its record
 * was lost. All that it names stays, and all WAL and pins, for verify to bring the backup back.
 */
async function spareLostRecords(
  facts: ExpirationFacts,
  plan: ExpirationPlan,
  { storage, cluster, signal, expiredBefore, notes }: Scope,
): Promise<ExpirationPlan> {
  const expired = new Set([...plan.expire.map(({ id }) => id), ...expiredBefore])
  for (const id of facts.condemnedElsewhere) expired.add(id)
  const known = new Set(facts.backups.map(({ id }) => id))
  const packs = findOrphans(facts, plan)
  const lost = await findLostRecords({ storage, cluster, packs, known, expired, signal })
  if (lost.size === 0) return plan
  const needed = new Set([...lost.values()].flat())
  for (const id of lost.keys()) {
    const how = `tidemark verify ${cluster} --rebuild-catalogue`
    notes.push(`the record of backup ${id} was lost, its packs and all WAL are kept: run ${how}`)
  }
  return { ...plan, wal: [], marks: [], packs: plan.packs.filter(({ id }) => !needed.has(id)) }
}

/** Packs of the plan that no record has named, not even one that expires now. */
function findOrphans({ backups, packs }: ExpirationFacts, plan: ExpirationPlan): string[] {
  const named = new PackSet()
  for (const backup of backups) named.addAll(backup.packs)
  return plan.packs.map(({ id }) => id).filter((id) => !named.has(packs.numberOf(id)))
}

/** The one thing that all rests on: what was written is in every listing that begins later. */
async function requireListed(storage: Storage, cluster: string, set: CondemnedSet): Promise<void> {
  const { sets } = await listCondemnedSets(storage, cluster)
  if (sets.some(({ id }) => id === set.id)) return
  throw new Failure('TM1905', {
    message: `${storage.url} does not list what was just written`,
    because: 'an expiry could not see what backups that run now need',
    fix: 'use the store without a cache between; nothing was removed',
  })
}

function describeSet(cluster: string, plan: ExpirationPlan, nowMs: number): CondemnedSet {
  const backups = plan.expire.map(({ id }) => id)
  return {
    ...makeSet(backups, nowMs),
    packs: plan.packs.map(({ id }) => id),
    keys: [...plan.marks, ...plan.wal.flatMap((system) => listWalKeys(cluster, system))],
  }
}

function nothingExpires({ blocked }: ExpirationPlan): Failure {
  const texts = blocked.map(describeBlocker)
  const more = texts.length > 3 ? `; and ${texts.length - 3} more` : ''
  return new Failure('TM1902', {
    message: `nothing expires: ${texts.slice(0, 3).join('; ')}${more}`,
    because: 'nobody knows which packs and which WAL that takes',
    fix:
      'rebuild records with tidemark verify --rebuild-catalogue; ' +
      'give up what is lost with tidemark expire --release ID',
    details: { blocked },
  })
}

export function describeBlocker(blocker: Blocker): string {
  switch (blocker.kind) {
    case 'record':
      return `the record of backup ${blocker.backupId} cannot be read`
    case 'hold':
      return `${blocker.key} cannot be read`
    case 'need':
      return `the hold ${blocker.hold} needs backup ${blocker.backupId}, which is gone`
  }
}
