/**
 * Verifies a repository: every object's bytes, every page map against its pages, and the WAL
 * from each backup to the end of its promise (docs/design/verify.md).
 *
 * Invariant: nothing is changed but the memory of what was proved, and, when asked for,
 * records that are rebuilt. What a finding costs is told for all backups that can be read.
 */
import { now, monotonicMs } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { readCondemned } from '../repository/condemned-sets.ts'
import { packKey } from '../repository/keys.ts'
import { type BackupList, listBackups } from '../repository/read-backups.ts'
import { verifyDerived } from './verify/verify-derived.ts'
import { verifyKeys } from './verify/verify-keys.ts'
import {
  readVerifiedMemory,
  type VerifiedMemory,
  verifiedKey,
  writeVerifiedMemory,
} from '../repository/verified-memory.ts'
import { openRepository } from '../repository/repository.ts'
import type { StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { type Healer, HealerSearch } from '../sync/find-healers.ts'
import { Budget, type BudgetLimits } from './verify/budget.ts'
import { type Finding, FindingBook } from './verify/findings.ts'
import { takeInventory } from './verify/inventory.ts'
import { type RebuiltRecord, rebuildCatalogue } from './verify/rebuild-catalogue.ts'
import { tellCosts } from './verify/tell-costs.ts'
import { verifyMaps } from './verify/verify-maps.ts'
import { judgeNamedPacks, verifyPacks } from './verify/verify-packs.ts'
import { openPool, openPoolHere, type VerifyPool } from './verify/verify-pool.ts'
import {
  verifyHolds,
  verifyRecords,
  verifyRepositoryIdentity,
  verifySystems,
} from './verify/verify-small.ts'
import {
  countObject,
  type Left,
  nothingProved,
  type Proved,
  type VerifyState,
} from './verify/verify-state.ts'
import { type VerifiedWal, verifyWal } from './verify/verify-wal.ts'

export type { Finding, LostInterval } from './verify/findings.ts'
export { type RebuiltRecord, rebuildCatalogue } from './verify/rebuild-catalogue.ts'
export type { Left, Proved } from './verify/verify-state.ts'

export type VerifyMode =
  /** What is new, or was not proved for so many days, within a budget. */
  | { readonly kind: 'incremental'; readonly days: number; readonly budget?: BudgetLimits }
  | { readonly kind: 'full' }
  /** All that this backup needs. */
  | { readonly kind: 'backup'; readonly id: string }

export interface VerifyOptions {
  readonly storage: Storage
  /** For the workers; without one everything runs on this thread. */
  readonly specification?: StorageSpecification
  readonly cluster: string
  readonly mode: VerifyMode
  readonly workers: number
  readonly rebuildCatalogue: boolean
  /** The other repositories of the cluster; opened only when there are findings. */
  readonly openOthers?: () => Promise<OtherRepositories>
  readonly progress: Progress
  readonly signal: AbortSignal
}

export interface OtherRepositories {
  readonly healers: readonly Healer[]
  /** Why some of them could not be opened. */
  readonly notes: readonly string[]
}

export interface VerifyReport {
  readonly findings: readonly Finding[]
  readonly proved: Proved
  readonly left: Left
  readonly backups: number
  /** Packs that no record names, with their bytes. */
  readonly unnamed: { readonly packs: readonly string[]; readonly bytes: number }
  /** Keys that the format does not know. */
  readonly strangers: readonly string[]
  readonly rebuilt: readonly RebuiltRecord[]
  readonly notes: readonly string[]
  readonly durationMs: number
}

export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const { storage, cluster, specification, workers, signal } = options
  const beganAt = monotonicMs()
  await requireRepository(storage)
  const left: string[] = []
  const rebuilt = options.rebuildCatalogue
    ? await rebuildCatalogue(storage, cluster, signal, (note) => void left.push(note))
    : []
  // Records first: what they name was there before them, so the later listing must have it.
  const list = await listBackups(storage, cluster)
  const segmentBlocks = list.backups[0]?.sizes.relationSegmentBlocks ?? SEGMENT_BLOCKS
  const settings = { cluster, segmentBlocks }
  const pool =
    specification === undefined
      ? openPoolHere(storage, settings)
      : openPool(specification, settings, workers)
  try {
    const state = await openState(options, list, pool)
    await verifyRepositoryIdentity(state)
    await verifyKeys(state)
    const identities = await verifySystems(state)
    await verifyRecords(state, list)
    await verifyHolds(state)
    await judgeNamedPacks(state)
    pool.tell(await verifyPacks(state))
    if (state.book.size > 0) state.budget.lift()
    await verifyMaps(state, dueBackups(state))
    const wal: VerifiedWal[] = []
    for (const identity of identities) {
      if (!isWanted(state, identity.systemIdentifier)) continue
      const verified = await verifyWal(state, identity)
      if (verified !== undefined) wal.push(verified)
    }
    await verifyDerived(state, options.mode.kind)
    const costs = await tellCosts(storage, state.book.all, list.backups, wal)
    const findings = await tellHealers(state, costs, options.openOthers)
    await remember(state)
    const described = describe(state)
    const notes = [...left, ...described.notes]
    return { ...described, notes, findings, rebuilt, durationMs: monotonicMs() - beganAt }
  } finally {
    await pool.close()
  }
}

/** TM1503 or TM1504 before anything else; a damaged identity is a finding of its own. */
async function requireRepository(storage: Storage): Promise<void> {
  try {
    await openRepository(storage)
  } catch (error) {
    if (!isFailure(error, 'TM1601')) throw error
  }
}

/** RELSEG_SIZE of an ordinary build; without a backup nothing asks for it. */
const SEGMENT_BLOCKS = 131_072

async function openState(
  { storage, cluster, mode, progress, signal }: VerifyOptions,
  list: BackupList,
  pool: VerifyPool,
): Promise<VerifyState> {
  const { backups } = list
  const chosen = mode.kind === 'backup' ? chooseBackup(list, mode.id, cluster) : backups
  const { memory, damaged } = await readVerifiedMemory(storage, cluster)
  const condemned = await readCondemned(storage, cluster)
  const inventory = await takeInventory(storage, cluster)
  const startedAt = Math.floor(now().getTime() / 1000)
  const isIncremental = mode.kind === 'incremental'
  const notes =
    damaged === undefined
      ? []
      : [`what was proved before is not known: ${verifiedKey(cluster)} is of no use (${damaged})`]
  const state: VerifyState = {
    storage,
    cluster,
    pool,
    progress,
    signal,
    budget: new Budget(isIncremental ? (mode.budget ?? {}) : {}),
    memory: isIncremental ? memory : withoutSweep(memory),
    startedAt,
    provedSince: isIncremental ? startedAt - mode.days * 86_400 : Number.POSITIVE_INFINITY,
    backups,
    chosen,
    isOneBackup: mode.kind === 'backup',
    wantedBackup: mode.kind === 'backup' ? (chosen[0]?.id ?? mode.id) : undefined,
    inventory,
    condemned,
    book: new FindingBook(),
    proved: nothingProved(),
    left: { packs: 0, segments: 0, backups: 0 },
    notes,
  }
  const memorySize = inventory.sizes.get(verifiedKey(cluster))
  if (memorySize !== undefined && damaged === undefined) {
    countObject(state, verifiedKey(cluster), memorySize)
    state.memory.objects.delete(verifiedKey(cluster))
  }
  return state
}

/** A walk that a budget ended is no concern of one without a budget. */
function withoutSweep(memory: VerifiedMemory): VerifiedMemory {
  return { ...memory, sweep: undefined }
}

/** None where its record is damaged: that is the finding. */
function chooseBackup(
  { backups, damaged }: BackupList,
  id: string,
  cluster: string,
): readonly BackupRecord[] {
  if (damaged.some(({ backupId }) => backupId === id)) return []
  const found = id === 'latest' ? backups.at(-1) : backups.find((backup) => backup.id === id)
  if (found !== undefined) return [found]
  throw new Failure('TM1505', {
    message: `there is no backup ${id} of ${cluster}`,
    because: 'no record has that id',
    fix: `tidemark list ${cluster}`,
  })
}

/**
 * Backups whose maps are walked: those not proved lately, those of a walk that a budget ended,
 * and all that a damaged pack may cost.
 */
function dueBackups(state: VerifyState): readonly BackupRecord[] {
  const { memory, chosen, provedSince, book, cluster } = state
  const damaged = new Set(book.all.map(({ key }) => key))
  const isHurt = ({ packs }: BackupRecord): boolean =>
    packs.some(({ id }) => damaged.has(packKey(cluster, id)))
  const hurt = damaged.size === 0 ? [] : chosen.filter(isHurt)
  const swept = memory.sweep?.backups ?? []
  const unfinished = chosen.filter(({ id }) => swept.includes(id))
  if (hurt.length === 0 && unfinished.length > 0) return unfinished
  // What damage costs shows only in a walk from the first path.
  memory.sweep = undefined
  const old = chosen.filter(({ id }) => {
    const at = memory.backups.get(id)?.at ?? 0
    return at < provedSince || at === 0
  })
  return [...new Set([...old, ...hurt])]
}

function isWanted({ isOneBackup, chosen }: VerifyState, systemIdentifier: string): boolean {
  return !isOneBackup || chosen.some((backup) => backup.systemIdentifier === systemIdentifier)
}

/** The other repositories are looked at only when there is something to mend. */
async function tellHealers(
  { cluster, notes, progress }: VerifyState,
  findings: readonly Finding[],
  openOthers: VerifyOptions['openOthers'],
): Promise<readonly Finding[]> {
  if (findings.length === 0 || openOthers === undefined) return findings
  progress.phase('looking at the other repositories')
  const others = await openOthers()
  notes.push(...others.notes)
  if (others.healers.length === 0) return findings
  const search = new HealerSearch(others.healers, cluster)
  const told: Finding[] = []
  for (const finding of findings) {
    told.push({ ...finding, healableFrom: await search.find(finding) })
  }
  for (const [name, { message }] of search.away) {
    notes.push(`${name} could not be looked at for what is damaged here: ${message}`)
  }
  return told
}

/** A hint that cannot be written costs the next run its time, and this one nothing. */
async function remember(state: VerifyState): Promise<void> {
  const { storage, cluster, memory, notes } = state
  forgetRemoved(state)
  try {
    await writeVerifiedMemory(storage, cluster, memory)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    notes.push(`what was proved is not remembered: ${error.message} (${error.because ?? ''})`)
  }
}

/** Segments behind the end of the archive stay: their absence is told again. */
function forgetRemoved({ memory, inventory, cluster, book }: VerifyState): void {
  const packs = new Set([...inventory.packs.keys()].map((id) => packKey(cluster, id)))
  for (const key of memory.objects.keys()) {
    const isThere = packs.has(key) || inventory.sizes.has(key) || !key.startsWith('clusters/')
    if (!isThere && book.find(key) === undefined) memory.objects.delete(key)
  }
}

function describe(state: VerifyState): Omit<VerifyReport, 'findings' | 'rebuilt' | 'durationMs'> {
  const { backups, inventory, proved, left, notes } = state
  const named = new Set<string>()
  for (const backup of backups) for (const { id } of backup.packs) named.add(id)
  const packs = [...inventory.packs].filter(([id]) => !named.has(id))
  return {
    proved,
    left,
    backups: backups.length,
    unnamed: {
      packs: packs.map(([id]) => packKey(state.cluster, id)),
      bytes: packs.reduce((sum, [, bytes]) => sum + bytes, 0),
    },
    strangers: inventory.strangers,
    notes,
  }
}
