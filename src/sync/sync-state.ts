/** What the phases of a sync share, and what a run reports. */
import { Failure } from '../base/failure.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import type { Progress } from '../base/progress.ts'
import type { Condemned } from '../repository/condemned-sets.ts'
import type { Storage } from '../storage/storage.ts'

export interface SyncProblem {
  readonly code: FailureCode
  /** Name of the repository whose object it is. */
  readonly repository: string
  readonly key: string
  readonly message: string
  readonly because: string | undefined
  readonly fix: string
}

export interface HealedObject {
  readonly key: string
  /** Frames that were brought, of a pack that is there; undefined: the whole object. */
  readonly frames: number | undefined
  readonly was: 'missing' | 'damaged'
}

export interface KeptBack {
  readonly backupId: string
  readonly because: string
}

/** What was done; of a dry run what would be. */
export interface SyncCounts {
  /** Ids, in their order. */
  readonly backups: string[]
  packs: number
  segments: number
  /** Histories, labels, partials, quarantine, identities, pins. */
  others: number
  bytes: number
}

/** How the two repositories are named to people. */
export interface SyncNames {
  readonly source: string
  readonly target: string
}

export interface SyncState {
  readonly source: Storage
  readonly target: Storage
  readonly names: SyncNames
  readonly cluster: string
  readonly progress: Progress
  readonly signal: AbortSignal
  /** Of our hold in the target. */
  readonly holdId: string
  /** In the target, seen after our hold was there. */
  readonly condemned: Condemned
  /** Keys that another hold in the target names. */
  readonly heldByOthers: ReadonlySet<string> | 'unknown'
  /** Keys of segments and histories that the target has: seen or written in this run. */
  readonly present: Set<string>
  /** Ids of packs in the target whose locks were looked after in this run. */
  readonly lockedPacks: Set<string>
  readonly counts: SyncCounts
  readonly healed: HealedObject[]
  readonly problems: SyncProblem[]
  readonly keptBack: KeptBack[]
  readonly notes: string[]
}

type SyncRun = Pick<SyncState, 'source' | 'target' | 'names' | 'cluster' | 'progress' | 'signal'>
type SyncHolds = Pick<SyncState, 'holdId' | 'condemned' | 'heldByOthers'>

/** At the beginning: nothing is done yet. */
export function openSyncState(
  { source, target, names, cluster, progress, signal }: SyncRun,
  { holdId, condemned, heldByOthers, notes }: SyncHolds & { readonly notes: readonly string[] },
  problems: SyncProblem[],
): SyncState {
  return {
    source,
    target,
    names,
    cluster,
    progress,
    signal,
    holdId,
    condemned,
    heldByOthers,
    present: new Set(),
    lockedPacks: new Set(),
    counts: { backups: [], packs: 0, segments: 0, others: 0, bytes: 0 },
    healed: [],
    problems,
    keptBack: [],
    notes: [...notes],
  }
}

/** True where an object that is there may be replaced: nobody else may be doing so. */
export function mayReplace({ condemned, heldByOthers }: SyncState, key: string): boolean {
  return heldByOthers !== 'unknown' && !heldByOthers.has(key) && !condemned.hasKey(key)
}

export function addProblem(
  { problems, names }: Pick<SyncState, 'problems' | 'names'>,
  side: keyof SyncNames,
  key: string,
  failure: Failure,
): void {
  if (problems.some((one) => one.key === key && one.code === failure.code)) return
  const { code, message, because, fix } = failure
  problems.push({ code, repository: names[side], key, message, because, fix })
}

/** TM1934: what is in the way is not ours to judge. */
export function leaveForNextTime(state: SyncState, key: string): Failure {
  const isCondemned = state.condemned.hasKey(key)
  const failure = new Failure('TM1934', {
    message: `the object ${key} of ${state.names.target} is left for the next sync`,
    because: isCondemned
      ? 'an expiry of that repository has condemned it, or a condemned set cannot be read'
      : 'another run holds it there in order to replace it, or a hold cannot be read',
    fix:
      'when the other run has ended, run sync again; what an expiry has left that was cut off ' +
      `goes with: tidemark expire ${state.cluster} --apply --repository ${state.names.target}`,
    details: { key },
  })
  addProblem(state, 'target', key, failure)
  return failure
}
