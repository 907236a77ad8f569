/**
 * Expiry of dumps: the story in order (docs/design/dumps.md, section 4; the protocol and why it
 * holds: docs/design/retention.md).
 *
 * Invariant: nothing is removed that was not condemned in writing before the second look, and
 * nothing that the second look has found somebody to need. Records go before packs, so that every
 * dump that is listed has all of its packs.
 */
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { randomHex } from '../base/random.ts'
import { cleanUpDeadHolds } from '../repository/clean-up.ts'
import {
  type CondemnedSet,
  removeCondemnedSet,
  writeCondemnedSet,
} from '../repository/condemned-sets.ts'
import { readHolder } from '../repository/holds.ts'
import {
  type LockedObject,
  type RemovalScope,
  removeAll,
  requireListed,
} from '../retention/execute-removal.ts'
import { forgetVerified } from '../retention/forget-verified.ts'
import type { Storage } from '../storage/storage.ts'
import {
  type DumpBlocker,
  type DumpExpirationPlan,
  type DumpPlanOptions,
  type DumpPolicy,
  intersectDumpPlans,
  isEmptyDumpPlan,
  planDumpExpiration,
} from './plan-dump-expiration.ts'
import { readDumpFacts } from './read-dump-facts.ts'

export interface ExpireDumpsOptions {
  readonly storage: Storage
  readonly cluster: string
  readonly policy: DumpPolicy | undefined
  /** False: the plan only. */
  readonly apply: boolean
  readonly progress: Progress
  readonly signal: AbortSignal
  /** The moment from which days are counted back; now unless given. */
  readonly at?: Date
}

export interface ExpireDumpsResult {
  readonly plan: DumpExpirationPlan
  /** What was removed: less than the plan where somebody began to need it meanwhile. */
  readonly removed: DumpExpirationPlan | undefined
  readonly locked: readonly LockedObject[]
  /** Sentences for the report. */
  readonly notes: readonly string[]
}

/** TM2060 where something stands in the way of every removal. */
export async function expireDumps(options: ExpireDumpsOptions): Promise<ExpireDumpsResult> {
  const { storage, cluster, apply, policy, progress, signal } = options
  const nowMs = (options.at ?? now()).getTime()
  const notes = apply ? await cleanUpDeadHolds(storage, cluster) : []
  progress.phase('looking at dumps')
  const facts = await readDumpFacts({ storage, cluster })
  const plan = planDumpExpiration(facts, { policy, nowMs })
  notes.push(...describeIncomplete(plan))
  if (!apply) return { plan, removed: undefined, locked: [], notes }
  if (plan.blocked.length > 0) throw noDumpExpires(cluster, plan.blocked)
  signal.throwIfAborted()
  if (isEmptyDumpPlan(plan)) {
    await removeSets(options, facts.takenOver)
    return { plan, removed: plan, locked: [], notes }
  }
  const done = await removeCondemned(options, plan, nowMs, facts.takenOver)
  return { plan, notes, ...done }
}

function describeIncomplete({ keep, expire }: DumpExpirationPlan): string[] {
  const all = [...keep.map(({ dump }) => dump), ...expire]
  const ids = all.filter(({ isIncomplete }) => isIncomplete).map(({ id }) => id)
  if (ids.length === 0) return []
  const more = ids.length > 3 ? ` and ${ids.length - 3} more` : ''
  const what = 'packs are missing, so they take the place of no others (tidemark verify)'
  return [`dumps ${ids.slice(-3).join(', ')}${more}: ${what}`]
}

async function removeSets(
  { storage, cluster }: ExpireDumpsOptions,
  ids: readonly string[],
): Promise<void> {
  for (const id of ids) await removeCondemnedSet(storage, cluster, id)
}

async function removeCondemned(
  options: ExpireDumpsOptions,
  plan: DumpExpirationPlan,
  nowMs: number,
  takenOver: readonly string[],
): Promise<Pick<ExpireDumpsResult, 'removed' | 'locked'>> {
  const { storage, cluster, progress, signal } = options
  const set = describeSet(plan, nowMs)
  await writeCondemnedSet(storage, cluster, set)
  const given = { storage, cluster, setId: set.id, progress, signal }
  const scope: RemovalScope = { ...given, locked: [], removed: [], inDoubt: false }
  try {
    await removeSets(options, takenOver)
    const removed = await removeAfterSecondLook(options, plan, nowMs, scope)
    await removeCondemnedSet(storage, cluster, set.id)
    return { removed, locked: scope.locked }
  } catch (error) {
    // A removal that failed may still take effect: its set stays until this process is dead.
    if (!scope.inDoubt) await removeCondemnedSet(storage, cluster, set.id).catch(() => undefined)
    throw error
  }
}

async function removeAfterSecondLook(
  { storage, cluster, policy, progress }: ExpireDumpsOptions,
  plan: DumpExpirationPlan,
  nowMs: number,
  scope: RemovalScope,
): Promise<DumpExpirationPlan> {
  progress.phase('looking again')
  await requireListed(scope)
  const facts = await readDumpFacts({ storage, cluster, ownSet: scope.setId })
  // Packs that nobody named at the first look may be those of a dump that is there by now.
  const only = new Set(plan.expire.map(({ id }) => id))
  const again = (more: Partial<DumpPlanOptions> = {}): DumpExpirationPlan =>
    intersectDumpPlans(plan, planDumpExpiration(facts, { policy, nowMs, only, ...more }))
  const agreed = again()
  const locked = await removeRecords(scope, agreed)
  const removed = locked.size === 0 ? agreed : again({ locked })
  progress.phase('removing packs of dumps', removed.packs.length, 'files')
  await removeAll(scope, removed.marks)
  await removeAll(
    scope,
    removed.packs.map(({ key }) => key),
  )
  await forgetVerified(storage, cluster, scope.removed)
  return removed
}

/** Returns the dumps whose records could not be removed: all that they need must stay. */
async function removeRecords(
  scope: RemovalScope,
  { expire }: DumpExpirationPlan,
): Promise<ReadonlySet<string>> {
  const ids = new Map(expire.map(({ key, id }) => [key, id]))
  scope.progress.phase('removing records of dumps', ids.size, 'files')
  const before = scope.locked.length
  await removeAll(scope, [...ids.keys()])
  const locked = scope.locked.slice(before).map(({ key }) => ids.get(key))
  return new Set(locked.filter((id) => id !== undefined))
}

/** All by keys: those who look at sets for packs of backups find none of dumps. */
function describeSet({ expire, packs, marks }: DumpExpirationPlan, nowMs: number): CondemnedSet {
  return {
    id: randomHex(8),
    ...readHolder(),
    startedAt: new Date(nowMs).toISOString(),
    backups: [],
    packs: [],
    keys: [...expire.map(({ key }) => key), ...packs.map(({ key }) => key), ...marks],
  }
}

function noDumpExpires(cluster: string, blocked: readonly DumpBlocker[]): Failure {
  const texts = blocked.map(describeDumpBlocker)
  const more = texts.length > 3 ? `; and ${texts.length - 3} more` : ''
  return new Failure('TM2060', {
    message: `no dump of ${cluster} expires: ${texts.slice(0, 3).join('; ')}${more}`,
    because: 'nobody knows which packs that needs',
    fix:
      'bring a whole copy from another repository: tidemark sync; or give up what is lost: ' +
      'tidemark expire --release ID',
    details: { blocked },
  })
}

export function describeDumpBlocker({ kind, key }: DumpBlocker): string {
  return `${kind === 'record' ? 'the record' : 'the hold'} ${key} cannot be read`
}
