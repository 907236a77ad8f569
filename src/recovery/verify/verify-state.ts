/** What the phases of verify share: what is looked at, what was proved, what was found. */
import type { Failure } from '../../base/failure.ts'
import { toFailureMessage } from '../../base/failure.ts'
import type { Progress } from '../../base/progress.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import type { Condemned } from '../../repository/condemned-sets.ts'
import { packKey } from '../../repository/keys.ts'
import type { VerifiedMemory } from '../../repository/verified-memory.ts'
import type { Storage } from '../../storage/storage.ts'
import type { Budget } from './budget.ts'
import { costsFile, type FindingBook, type OpenFinding } from './findings.ts'
import type { Inventory } from './inventory.ts'
import type { Fault } from './messages.ts'
import type { VerifyPool } from './verify-pool.ts'

export interface Proved {
  objects: number
  bytes: number
  packs: number
  frames: number
  /** Pages whose bytes were proved in the packs. */
  pages: number
  /** Backups all of whose maps were walked to the end. */
  backups: number
  files: number
  /** Pages whose fingerprint was compared with a map. */
  pagesCompared: number
  segments: number
  /** Segments whose records were read. */
  segmentsScanned: number
  /** Pages with a wrong checksum that the backup recorded as damage of the cluster. */
  knownDamage: number
}

/** What the budget left for another run. */
export interface Left {
  packs: number
  segments: number
  /** Backups whose maps were not, or not all, walked. */
  backups: number
}

export interface VerifyState {
  readonly storage: Storage
  readonly cluster: string
  readonly pool: VerifyPool
  readonly progress: Progress
  readonly signal: AbortSignal
  readonly budget: Budget
  readonly memory: VerifiedMemory
  /** Seconds since 1970: when this run began. */
  readonly startedAt: number
  /** Proved at or after this needs no proof now; Infinity: everything does. */
  readonly provedSince: number
  /** All that can be read, and those that this run is about. */
  readonly backups: readonly BackupRecord[]
  readonly chosen: readonly BackupRecord[]
  /** --backup: only what it needs. */
  readonly isOneBackup: boolean
  readonly wantedBackup: string | undefined
  readonly inventory: Inventory
  /** What an expiry under way removes, or one that was interrupted: seen after the records. */
  readonly condemned: Condemned
  readonly book: FindingBook
  readonly proved: Proved
  readonly left: Left
  readonly notes: string[]
}

export function nothingProved(): Proved {
  return {
    objects: 0,
    bytes: 0,
    packs: 0,
    frames: 0,
    pages: 0,
    backups: 0,
    files: 0,
    pagesCompared: 0,
    segments: 0,
    segmentsScanned: 0,
    knownDamage: 0,
  }
}

export function isDue({ memory, provedSince }: VerifyState, key: string): boolean {
  const at = memory.objects.get(key)
  return at === undefined || at < provedSince
}

/** An object that holds. */
export function countObject(state: VerifyState, key: string, bytes: number): void {
  state.proved.objects++
  state.proved.bytes += bytes
  state.memory.objects.set(key, state.startedAt)
}

/** Of what may be gone or longer by the next run. */
export function countUnremembered(state: VerifyState, bytes: number): void {
  state.proved.objects++
  state.proved.bytes += bytes
}

/** A finding of an object of which nothing else is known. */
export function addFailure(state: VerifyState, key: string, failure: Failure): OpenFinding {
  state.memory.objects.delete(key)
  return state.book.add(key, toFailureMessage(failure))
}

/** A finding of a pack or of one of its frames. */
export function addFault(state: VerifyState, { pack, frame, failure }: Fault): OpenFinding {
  const key = packKey(state.cluster, pack)
  state.memory.objects.delete(key)
  const whole = state.book.find(key)
  if (whole !== undefined) return whole
  const known = state.book.find(key, frame)
  if (known !== undefined) return known
  return state.book.add(key, failure, { frame, fix: mendPack(state.cluster, key) })
}

export function mendPack(cluster: string, key: string): string {
  return (
    `move ${key} out of the repository (keep it), then run: tidemark backup ${cluster}; ` +
    'the new backup stores anew what lay in it; those named here stay incomplete until the ' +
    'object is brought back'
  )
}

/** The file at `path` is lost, in part or whole, to these backups. */
export function losesFile(
  state: VerifyState,
  fault: Fault,
  path: string,
  owners: Iterable<BackupRecord>,
): void {
  costsFile(
    addFault(state, fault),
    path,
    [...owners].map(({ id }) => id),
  )
}
