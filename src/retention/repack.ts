/**
 * Takes dead frames out of packs, as the last part of an expiry (docs/design/repacking.md).
 *
 * Order: living frames and the plan are found from one listing of the records; a condemned set
 * names what will be replaced; holds, then records are listed again, and what they name is taken
 * out; packs are replaced one by one; the set goes. A crash anywhere leaves packs that are whole or
 * sparse, and a set that the next expiry takes over.
 */
import { now } from '../base/clock.ts'
import { type Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { randomHex } from '../base/random.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { type CompactedPack, compactPack } from '../repository/compact-pack.ts'
import { removeCondemnedSet, writeCondemnedSet } from '../repository/condemned-sets.ts'
import { listHolds, readHolder } from '../repository/holds.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import { type BackupList, listBackups } from '../repository/read-backups.ts'
import { listPacks } from '../repository/write-backup.ts'
import type { Storage } from '../storage/storage.ts'
import { requireSet } from './execute-removal.ts'
import { findLiveFrames, type LiveFrames } from './find-live-frames.ts'
import { surveyPacks } from './frames/survey-packs.ts'
import {
  findCandidates,
  type PackSurvey,
  planRepacking,
  type RepackingPlan,
  type RepackingRule,
  takeOutHeld,
} from './plan-repacking.ts'

export interface RepackingRequest {
  readonly storage: Storage
  readonly cluster: string
  /** What is there, or for a plan what will be: every backup whose frames are needed. */
  readonly list: BackupList
  /** Backups that expire, or did so in a run that was interrupted: their records are dropped. */
  readonly expired: ReadonlySet<string>
  /** What is worth a rewrite; the rule of docs/design/repacking.md unless given. */
  readonly rule?: RepackingRule
  readonly progress: Progress
  readonly signal: AbortSignal
}

export interface PreparedRepacking {
  readonly plan: RepackingPlan
  readonly live: LiveFrames
  /** Packs that hold records of backups that nobody has expired, by the id of the backup. */
  readonly lostRecords: ReadonlyMap<string, string>
  /** Packs whose index, or a record in them, is damaged. */
  readonly damaged: readonly string[]
  /** Expired backups whose records lie in packs that cannot be removed yet. */
  readonly leftCopies: ReadonlySet<string>
}

export interface RepackingReport {
  readonly repacked: readonly CompactedPack[]
  /** Stay as they are, and why. */
  readonly failed: readonly { readonly packId: string; readonly failure: Failure }[]
  /** Somebody holds them, or needs them since: a later expiry's work. */
  readonly heldPacks: number
  readonly lostRecords: readonly string[]
  /**
   * Backups that expired and whose record frames may still be there: the caller's condemned set
   * must go on to name them.
   */
  readonly unfinished: readonly string[]
}

const NOTHING: PreparedRepacking = {
  plan: { packs: [], bytesToWrite: 0, bytesToFree: 0 },
  live: { isLive: () => true, isKeptWhole: () => true, unreadable: new Set() },
  lostRecords: new Map(),
  damaged: [],
  leftCopies: new Set(),
}

/** Reads only. A record that cannot be read may need anything: nothing is planned then. */
export async function prepareRepacking(request: RepackingRequest): Promise<PreparedRepacking> {
  const { storage, cluster, list, expired, rule, progress, signal } = request
  const { backups, damaged } = list
  if (damaged.length > 0) return NOTHING
  const packs = findCandidates(backups)
  const live = packs.size === 0 ? NOTHING.live : await findLive(request, packs)
  progress.phase('reading indexes of packs', packs.size, 'files')
  const known = new Set(backups.map(({ id }) => id))
  const unnamed = await listUnnamed(storage, cluster, backups)
  const survey = await surveyPacks({
    storage,
    cluster,
    packs,
    unnamed,
    live,
    known,
    expired,
    signal,
    progress,
  })
  return { ...survey, live, plan: planRepacking(survey.surveys, rule) }
}

async function findLive(
  { storage, cluster, list: { backups }, progress, signal }: RepackingRequest,
  packs: ReadonlySet<string>,
): Promise<LiveFrames> {
  const entries = backups.reduce((sum, { files }) => sum + files.entries, 0)
  progress.phase('looking for frames that are needed', entries, 'files')
  const onPiece = (count: number): void => progress.advance(count)
  return await findLiveFrames({ storage, cluster, backups, packs, signal, onPiece })
}

export async function repack(request: RepackingRequest): Promise<RepackingReport> {
  const { storage, cluster, expired, list } = request
  const prepared = await prepareRepacking(request)
  const lostRecords = [...prepared.lostRecords.keys()]
  if (prepared.plan.packs.length === 0) {
    const unfinished = list.damaged.length > 0 ? [...expired] : [...prepared.leftCopies]
    return { repacked: [], failed: [], heldPacks: 0, lostRecords, unfinished }
  }
  const setId = randomHex(8)
  await writeCondemnedSet(storage, cluster, {
    id: setId,
    ...readHolder(),
    startedAt: now().toISOString(),
    backups: [...expired],
    packs: [],
    keys: [],
    repacked: prepared.plan.packs.map(({ packId }) => packId),
  })
  const plan = await lookAgain(request, prepared)
  const done = await replacePacks(request, setId, prepared.live, plan)
  const heldPacks = prepared.plan.packs.length - plan.packs.length
  const left = new Set(prepared.plan.packs.map(({ packId }) => packId))
  for (const { packId } of done.repacked) left.delete(packId)
  const isUnfinished = prepared.plan.packs.some(
    ({ packId, expiredRecords }) => left.has(packId) && expiredRecords.length > 0,
  )
  await removeCondemnedSet(storage, cluster, setId)
  const unfinished = isUnfinished ? [...expired] : [...prepared.leftCopies]
  return { ...done, heldPacks, lostRecords, unfinished }
}

/** Packs that no backup names: of running backups, of lost records, or garbage. */
async function listUnnamed(
  storage: Storage,
  cluster: string,
  backups: readonly BackupRecord[],
): Promise<Set<string>> {
  const unnamed = new Set((await listPacks(storage, cluster)).keys())
  for (const { packs } of backups) for (const { id } of packs) unnamed.delete(id)
  return unnamed
}

/** Holds first, records after: whoever dropped a hold in between has published. */
async function lookAgain(
  { storage, cluster, list }: RepackingRequest,
  { plan }: PreparedRepacking,
): Promise<RepackingPlan> {
  const known = new Set(list.backups.map(({ id }) => id))
  const holds = await listHolds(storage, cluster)
  const { backups, damaged } = await listBackups(storage, cluster)
  return takeOutHeld(cluster, plan, { known, holds, backups, damagedRecords: damaged.length })
}

async function replacePacks(
  { storage, cluster, progress, signal }: RepackingRequest,
  setId: string,
  live: LiveFrames,
  { packs, bytesToWrite }: RepackingPlan,
): Promise<Pick<RepackingReport, 'repacked' | 'failed'>> {
  progress.phase('repacking', bytesToWrite, 'bytes')
  const repacked: CompactedPack[] = []
  const failed: { packId: string; failure: Failure }[] = []
  for (const survey of packs) {
    signal.throwIfAborted()
    await requireSet({ storage, cluster, setId })
    const { packId, sizeBytes, deadBytes } = survey
    try {
      const isLive = (ordinal: number, kind: number): boolean => isKept(survey, live, ordinal, kind)
      repacked.push(await compactPack(storage, cluster, packId, isLive))
    } catch (error) {
      if (!isPackFailure(error)) throw error
      failed.push({ packId, failure: error })
    }
    progress.advance(sizeBytes - deadBytes)
  }
  return { repacked, failed }
}

function isKept(survey: PackSurvey, live: LiveFrames, ordinal: number, kind: number): boolean {
  if (kind === FRAME_KINDS.record) return !survey.expiredRecords.includes(ordinal)
  return survey.isKeptWhole || live.isLive(survey.packId, ordinal)
}

/** One pack that is damaged or gone keeps no other from being repacked. */
function isPackFailure(error: unknown): error is Failure {
  return isFailure(error, 'TM1601') || isFailure(error, 'TM1602') || isFailure(error, 'TM1920')
}
