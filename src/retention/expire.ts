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
import { intersectPlans, isEmptyPlan } from './intersect-plans.ts'
import {
  type Blocker,
  type ExpirationPlan,
  type PlanOptions,
  planExpiration,
} from './plan-expiration.ts'
import { readFacts } from './read-facts.ts'
import { addLastMoments } from './read-last-moments.ts'
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
  /** Sentences for the report. */
  readonly notes: readonly string[]
}

export async function expire(options: ExpireOptions): Promise<ExpireResult> {
  const { storage, cluster, apply, policy, progress, signal } = options
  const nowMs = (options.at ?? now()).getTime()
  const notes = apply ? await cleanUp(storage, cluster) : []
  progress.phase('looking at backups and WAL')
  const facts = await look(options, nowMs)
  const plan = planExpiration(facts, { policy, nowMs })
  const { sets, unreadable: unreadableSets } = await listCondemnedSets(storage, cluster)
  const base = { plan, facts, otherSets: sets, unreadableSets, notes }
  if (!apply) return { ...base, removed: undefined, locked: [] }
  if (plan.blocked.length > 0) throw nothingExpires(plan)
  signal.throwIfAborted()
  if (isEmptyPlan(plan)) return { ...base, removed: plan, locked: [] }
  const done = await removeCondemned(options, plan, nowMs)
  return { ...base, ...done }
}

async function look(options: ExpireOptions, nowMs: number, ownSet?: string) {
  const { storage, cluster, policy } = options
  const facts = await readFacts({ storage, cluster, ...(ownSet === undefined ? {} : { ownSet }) })
  return policy === undefined ? facts : await addLastMoments(storage, facts, policy, nowMs)
}

/** What processes left that are proved dead: holds with their attempts, and condemned sets. */
async function cleanUp(storage: Storage, cluster: string): Promise<string[]> {
  const notes = await cleanUpDeadHolds(storage, cluster)
  for (const set of (await listCondemnedSets(storage, cluster)).sets) {
    if (!isDeadWriter(set)) continue
    await removeCondemnedSet(storage, cluster, set.id)
    notes.push('an expiry was interrupted: this one goes on with what is left')
  }
  return notes
}

async function removeCondemned(
  options: ExpireOptions,
  plan: ExpirationPlan,
  nowMs: number,
): Promise<Pick<ExpireResult, 'removed' | 'locked'>> {
  const { storage, cluster } = options
  const set = describeSet(cluster, plan, nowMs)
  await writeCondemnedSet(storage, cluster, set)
  const { progress, signal } = options
  const scope = { storage, cluster, progress, signal, locked: [], removed: [], inDoubt: false }
  try {
    const removed = await removeAfterSecondLook(options, plan, nowMs, set, scope)
    await removeCondemnedSet(storage, cluster, set.id)
    return { removed, locked: scope.locked }
  } catch (error) {
    // A removal that failed may still take effect: its set stays until this process is dead.
    if (!scope.inDoubt) {
      await removeCondemnedSet(storage, cluster, set.id).catch(() => undefined)
    }
    throw error
  }
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
  await requireListed(storage, cluster, set)
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
  return {
    id: randomHex(8),
    ...readHolder(),
    startedAt: new Date(nowMs).toISOString(),
    backups: plan.expire.map(({ id }) => id),
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
