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
import { readHolder } from '../repository/holds.ts'
import { listBackups } from '../repository/read-backups.ts'
import type { Storage } from '../storage/storage.ts'
import {
  listWalKeys,
  type LockedObject,
  type RemovalScope,
  removeContents,
  removeRecords,
  requireListed,
} from './execute-removal.ts'
import type { BackupFacts, ExpirationFacts } from './facts.ts'
import { addLostRecords } from './find-lost-records.ts'
import { forgetVerified } from './forget-verified.ts'
import { intersectPlans, isEmptyPlan } from './intersect-plans.ts'
import {
  type Blocker,
  type ExpirationPlan,
  type PlanOptions,
  planExpiration,
} from './plan-expiration.ts'
import { readFacts } from './read-facts.ts'
import { addLastMoments } from './read-last-moments.ts'
import { repack, type RepackingReport } from './repack.ts'
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
  /** What was done with packs of which only a part is needed; undefined: there was no reason. */
  readonly repacking: RepackingReport | undefined
  /** Condemned sets of expiries of which it is not known whether they live. */
  readonly otherSets: readonly CondemnedSet[]
  readonly unreadableSets: readonly string[]
  /** Sentences for the report. */
  readonly notes: readonly string[]
}

export async function expire(options: ExpireOptions): Promise<ExpireResult> {
  const { storage, cluster, apply, policy, progress, signal } = options
  const nowMs = (options.at ?? now()).getTime()
  const notes = apply ? await cleanUpDeadHolds(storage, cluster) : []
  progress.phase('looking at backups and WAL')
  const facts = await look(options, nowMs)
  const plan = planExpiration(facts, { policy, nowMs })
  notes.push(...describeIncomplete(facts.backups.filter((one) => one.isIncomplete === true)))
  const { sets, unreadable: unreadableSets } = await listCondemnedSets(storage, cluster)
  const otherSets = sets.filter(({ id }) => !facts.takenOver.includes(id))
  const base = { plan, facts, otherSets, unreadableSets, notes, repacking: undefined }
  if (!apply) return { ...base, removed: undefined, locked: [] }
  if (plan.blocked.length > 0) throw nothingExpires(plan)
  signal.throwIfAborted()
  if (isEmptyPlan(plan) && facts.expiredBefore.size === 0) {
    await removeSets(storage, cluster, facts.takenOver)
    return { ...base, removed: plan, locked: [] }
  }
  if (facts.takenOver.length > 0) {
    notes.push('an expiry did not come to its end: this one goes on with what is left')
  }
  const done = await removeCondemned(options, plan, facts, nowMs)
  return { ...base, ...done }
}

function describeIncomplete(backups: readonly BackupFacts[]): string[] {
  if (backups.length === 0) return []
  const some = backups.slice(-3).map(({ id }) => id)
  const more = backups.length > some.length ? ` and ${backups.length - some.length} more` : ''
  const what = 'packs or WAL are missing, so they take the place of no others (tidemark verify)'
  return [`backups ${some.join(', ')}${more}: ${what}`]
}

async function look(options: ExpireOptions, nowMs: number, ownSet?: string) {
  const { storage, cluster, policy } = options
  const read = await readFacts({ storage, cluster, ...(ownSet === undefined ? {} : { ownSet }) })
  const facts = await addLostRecords(storage, read)
  return policy === undefined ? facts : await addLastMoments(storage, facts, policy, nowMs)
}

async function removeSets(storage: Storage, cluster: string, ids: readonly string[]) {
  for (const id of ids) await removeCondemnedSet(storage, cluster, id)
}

type Done = Pick<ExpireResult, 'removed' | 'locked' | 'repacking'>

async function removeCondemned(
  options: ExpireOptions,
  plan: ExpirationPlan,
  facts: ExpirationFacts,
  nowMs: number,
): Promise<Done> {
  const { storage, cluster } = options
  const set = describeSet(plan, facts, nowMs)
  await writeCondemnedSet(storage, cluster, set)
  const { progress, signal } = options
  const given = { storage, cluster, setId: set.id, progress, signal }
  const scope = { ...given, locked: [], removed: [], inDoubt: false }
  try {
    await removeSets(storage, cluster, facts.takenOver)
    const removed = await removeAfterSecondLook(options, plan, nowMs, set, scope)
    const repacking = await repackAfter(options, set)
    await leaveTheRest(options, set, repacking?.unfinished ?? [])
    return { removed, locked: scope.locked, repacking }
  } catch (error) {
    // A removal that failed may still take effect: its set stays until this process is dead. So
    // does one that tells which backups have expired: the copies of their records are still there.
    if (!scope.inDoubt && set.backups.length === 0) {
      await removeCondemnedSet(storage, cluster, set.id).catch(() => undefined)
    }
    throw error
  }
}

/** What is still shared with the packs of those that expired loses its dead frames. */
async function repackAfter(
  { storage, cluster, progress, signal }: ExpireOptions,
  { backups }: CondemnedSet,
): Promise<RepackingReport | undefined> {
  if (backups.length === 0) return undefined
  const list = await listBackups(storage, cluster)
  const there = new Set(list.backups.map(({ id }) => id))
  const expired = new Set(backups.filter((id) => !there.has(id)))
  if (expired.size === 0) return undefined
  const report = await repack({ storage, cluster, list, expired, progress, signal })
  const keys = report.repacked.map(({ key }) => key)
  if (keys.length > 0) await forgetVerified(storage, cluster, keys)
  return report
}

/** The copy of a record that could not be dropped yet must not look like that of a lost one. */
async function leaveTheRest(
  { storage, cluster }: ExpireOptions,
  set: CondemnedSet,
  unfinished: readonly string[],
): Promise<void> {
  if (unfinished.length > 0) {
    const rest = { ...set, id: randomHex(8), isLeft: true, backups: unfinished }
    await writeCondemnedSet(storage, cluster, { ...rest, packs: [], keys: [] })
  }
  await removeCondemnedSet(storage, cluster, set.id)
}

async function removeAfterSecondLook(
  options: ExpireOptions,
  plan: ExpirationPlan,
  nowMs: number,
  set: CondemnedSet,
  scope: RemovalScope,
): Promise<ExpirationPlan> {
  const { storage, cluster, policy, progress } = options
  progress.phase('looking again')
  await requireListed(scope)
  const facts = await look(options, nowMs, set.id)
  // Packs that nobody named at the first look may be those of a backup that is there by now.
  const only = new Set(set.backups)
  const again = (more: Partial<PlanOptions> = {}): ExpirationPlan =>
    intersectPlans(plan, planExpiration(facts, { policy, nowMs, only, ...more }))
  const agreed = again()
  const locked = await removeRecords(scope, agreed)
  const removed = locked.size === 0 ? agreed : again({ locked })
  await removeContents(scope, removed)
  await forgetVerified(storage, cluster, scope.removed)
  return removed
}

function describeSet(plan: ExpirationPlan, facts: ExpirationFacts, nowMs: number): CondemnedSet {
  const { cluster, expiredBefore } = facts
  return {
    id: randomHex(8),
    ...readHolder(),
    startedAt: new Date(nowMs).toISOString(),
    backups: [...new Set([...plan.expire.map(({ id }) => id), ...expiredBefore])],
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
    case 'lost':
      return `the record of backup ${blocker.backupId} is gone, and nobody has expired it`
    case 'hold':
      return `${blocker.key} cannot be read`
    case 'need':
      return `the hold ${blocker.hold} needs backup ${blocker.backupId}, which is gone`
  }
}
