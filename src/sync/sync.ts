/**
 * Brings what one repository of a cluster lacks from another, and mends what is damaged in it:
 * the story in order (docs/design/sync.md).
 *
 * Invariant: a record is listed in the target only when the backup restores from the target
 * alone; damage does not travel; nothing that was removed comes back.
 */
import { monotonicMs, now } from '../base/clock.ts'
import type { Progress } from '../base/progress.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import {
  backupKey,
  backupPrefix,
  clusterPrefix,
  labelsKey,
  packKey,
  packPrefix,
  parseBackupKey,
  parsePackKey,
  pinKey,
} from '../repository/keys.ts'
import type { RetentionPolicy } from '../retention/retention-policy.ts'
import type { Storage } from '../storage/storage.ts'
import { bringBackup, bringPacks, type SettledPack } from './bring-backup.ts'
import { bringBreaks } from './bring-breaks.ts'
import { bringGaps } from './bring-gaps.ts'
import { bringDerived } from './bring-derived.ts'
import { bringIdentities, listIdentityKeys } from './bring-identities.ts'
import { bringTails } from './bring-tails.ts'
import { bringWal } from './bring-wal.ts'
import { chooseByRetention } from './choose-by-retention.ts'
import { type ComparedObject, compareListings } from './compare-listings.ts'
import { findDamagedObjects, healObjects } from './heal.ts'
import { type HeldBoth, holdBoth } from './hold-both.ts'
import { parseObjectKey } from './object-key.ts'
import {
  EVERYTHING,
  findDueWal,
  namePacks,
  ownHistory,
  ownPack,
  ownSegments,
  type PlannedPack,
  type PlannedWal,
  planBackups,
  planPacks,
  planWal,
  type SyncChoice,
  type WalPlan,
} from './plan-sync.ts'
import { readSides, requireTwo, type Sides } from './read-sides.ts'
import {
  type HealedObject,
  type KeptBack,
  openSyncState,
  type SyncCounts,
  type SyncNames,
  type SyncProblem,
  type SyncState,
} from './sync-state.ts'

export type { HealedObject, KeptBack, SyncCounts, SyncProblem } from './sync-state.ts'

export interface SyncOptions {
  readonly source: Storage
  readonly target: Storage
  readonly names: SyncNames
  readonly cluster: string
  /** Say what would be done; nothing is written. */
  readonly dryRun?: boolean
  /** Prove everything that the target has and the source as well, and mend it. */
  readonly heal?: boolean
  /** Mend these objects, and do nothing else. */
  readonly objects?: readonly string[]
  /** The target's retention; without one everything is brought. */
  readonly policy?: RetentionPolicy
  readonly progress: Progress
  readonly signal: AbortSignal
}

export interface SyncReport {
  readonly counts: SyncCounts
  readonly healed: readonly HealedObject[]
  readonly problems: readonly SyncProblem[]
  readonly keptBack: readonly KeptBack[]
  readonly notes: readonly string[]
  /** Keys that a dry run found damaged in the target. */
  readonly damaged: readonly string[]
  readonly durationMs: number
}

/** What is known before the first write. */
interface Intent {
  readonly sides: Sides
  /** The oldest first. */
  readonly backups: readonly BackupRecord[]
  readonly choice: SyncChoice
  /** Keys to be looked at again under the hold. */
  readonly damaged: readonly string[]
  /** Ids of packs that records of the target name, and that only the source has. */
  readonly lostPacks: readonly string[]
}

export async function sync(options: SyncOptions): Promise<SyncReport> {
  const beganAt = monotonicMs()
  const problems: SyncProblem[] = []
  await requireTwo(options)
  options.progress.phase('comparing')
  const intent = await decide(options, problems)
  const done =
    options.dryRun === true
      ? await foresee(options, intent, problems)
      : await perform(options, intent, problems)
  return { ...done, durationMs: monotonicMs() - beganAt }
}

async function decide(options: SyncOptions, problems: SyncProblem[]): Promise<Intent> {
  const { objects, heal } = options
  const sides = await readSides(options, problems)
  const choice = objects === undefined ? await choose(options) : NOTHING_MORE
  const due = planBackups(sides.source, sides.target, choice)
  if (objects !== undefined) {
    const asked = new Set(objects)
    const backups = due.filter(({ id }) => asked.has(backupKey(options.cluster, id)))
    return { sides, backups, choice, damaged: objects, lostPacks: [] }
  }
  const named = new Set(namePacks(due, sides.target.records).keys())
  const damaged = heal === true ? await findDamagedObjects(options, named) : []
  const { lostPacks } = await comparePacks(options, due, sides.target.records)
  return { sides, backups: due, choice, damaged, lostPacks }
}

/** For --object: what a named record needs is brought, and nothing else. */
const NOTHING_MORE: SyncChoice = { wantsBackup: () => true, wantsWal: () => false }

async function choose({ policy, ...request }: SyncOptions): Promise<SyncChoice> {
  if (policy === undefined) return EVERYTHING
  return await chooseByRetention({ ...request, policy, nowMs: now().getTime() })
}

interface ComparedPacks {
  readonly packs: ReadonlyMap<string, PlannedPack>
  readonly lostPacks: readonly string[]
}

async function comparePacks(
  options: SyncOptions,
  backups: readonly BackupRecord[],
  there: readonly BackupRecord[],
): Promise<ComparedPacks> {
  const named = namePacks(backups, there)
  const packs = await planPacks(named, compareBoth(options, packPrefix(options.cluster)))
  const lostPacks = [...packs]
    .filter(([id, { task }]) => task === 'copy' && named.get(id)?.forCopy === false)
    .map(([id]) => id)
  return { packs, lostPacks }
}

async function compareWal(
  options: SyncOptions,
  backups: readonly BackupRecord[],
  choice: SyncChoice,
): Promise<WalPlan> {
  const { cluster } = options
  const required = new Set(backups.flatMap((one) => [...ownSegments(one), ownHistory(one)]))
  const listing = compareBoth(options, `${clusterPrefix(cluster)}wal/`)
  return await planWal(cluster, required, choice, listing)
}

function compareBoth(
  { source, target }: SyncOptions,
  prefix: string,
): AsyncIterable<ComparedObject> {
  return compareListings(source.list(prefix), target.list(prefix))
}

async function foresee(
  options: SyncOptions,
  intent: Intent,
  problems: SyncProblem[],
): Promise<Omit<SyncReport, 'durationMs'>> {
  const { backups, sides, choice } = intent
  const there = options.objects === undefined ? sides.target.records : []
  const { packs } = await comparePacks(options, backups, there)
  const wal = await compareWal(options, backups, choice)
  const due = [...packs.values()].filter(({ task }) => task === 'copy' || task === 'complete')
  const { segments, others } = wal
  const counts: SyncCounts = {
    backups: backups.map(({ id }) => id),
    packs: due.length,
    segments,
    others,
    bytes: sumBytes([...due, wal]),
  }
  const { damaged } = intent
  return { counts, healed: [], problems, keptBack: [], notes: [], damaged }
}

async function perform(
  options: SyncOptions,
  intent: Intent,
  problems: SyncProblem[],
): Promise<Omit<SyncReport, 'durationMs'>> {
  const held = await holdBoth(await describeHolds(options, intent))
  const state = openSyncState(options, held, problems)
  try {
    await bring(options, state, intent, held)
  } finally {
    state.notes.push(...(await held.release()))
  }
  const { counts, healed, keptBack, notes } = state
  return { counts, healed, problems, keptBack, notes, damaged: [] }
}

/** What is seen in the target must stay there, and what is replaced must be nobody else's. */
async function describeHolds(
  { source, target, names, cluster }: SyncOptions,
  { backups, damaged, lostPacks, sides }: Intent,
): Promise<Parameters<typeof holdBoth>[0]> {
  const mended = [...lostPacks, ...damaged.flatMap((key) => parsePackKey(key) ?? [])]
  const lost = lostPacks.map((id) => packKey(cluster, id))
  const keys = new Set([
    ...[...namePacks(backups, []).keys()].map((id) => packKey(cluster, id)),
    ...backups.flatMap((one) => [
      backupKey(cluster, one.id),
      pinKey(cluster, one.id),
      labelsKey(cluster, one.id),
      ...ownSegments(one),
      ownHistory(one),
    ]),
    // A pack that is brought back for a backup may hold the copy of its record.
    ...naming(sides.target.records, mended).map(({ id }) => backupKey(cluster, id)),
    ...(await listIdentityKeys(source, cluster)),
    ...lost,
    ...damaged,
  ])
  return {
    source,
    target,
    names,
    cluster,
    backups: backups.map(({ id }) => id),
    keys: [...keys],
    sourceKeys: [...lost, ...damaged],
  }
}

async function bring(
  options: SyncOptions,
  state: SyncState,
  intent: Intent,
  held: HeldBoth,
): Promise<void> {
  const { source, cluster, progress } = options
  const identities = await bringIdentities(state, await listIdentityKeys(source, cluster))
  const systems = new Set(identities.map(({ systemIdentifier }) => systemIdentifier))
  const segmentBytes = Math.max(0, ...identities.map((one) => one.walSegmentSizeBytes))
  const backups = chooseBackups(state, intent.backups, held, systems)
  const wantsWal: SyncChoice['wantsWal'] = (wal) =>
    systems.has(wal.systemIdentifier) && intent.choice.wantsWal(wal)
  const choice = { ...intent.choice, wantsWal }
  const there = await findStaying(state, intent)
  const ownPacks = new Set(there.flatMap((one) => ownPack(one) ?? []))
  const complete = options.objects !== undefined
  await healObjects(state, intent.damaged, { ownPacks, complete })
  const { packs } = await comparePacks(options, backups, naming(there, intent.lostPacks))
  const wal = await compareWal(options, backups, choice)
  const due = [...packs.values()].filter(({ task }) => task === 'copy' || task === 'complete')
  progress.phase('copying', sumBytes([...due, wal]))
  for (const key of wal.present) state.present.add(key)
  const histories = new Set([...wal.histories.map(({ key }) => key), ...wal.present])
  await bringWal(state, wal.histories, segmentBytes)
  const settled = new Map<string, SettledPack>()
  const replaced = new Set(intent.sides.target.damaged)
  for (const record of backups) {
    const isReplacement = replaced.has(record.id)
    await bringBackup(state, record, { packs, wal, histories, settled, ownPacks, isReplacement })
  }
  const named = new Set(there.flatMap((one) => one.packs.map(({ id }) => id)))
  const lostPacks = intent.lostPacks.filter((id) => named.has(id))
  await bringPacks(state, lostPacks, { packs, settled, ownPacks })
  await bringWal(state, listDueWal(options, choice), segmentBytes)
  for (const identity of identities) {
    await bringTails(state, identity, wantsWal)
    await bringGaps(state, identity.systemIdentifier)
    await bringBreaks(state, identity)
  }
  if (options.objects === undefined) await bringDerived(state)
}

/** As the listings tell of it, so that nothing of a long archive is kept. */
async function* listDueWal(options: SyncOptions, choice: SyncChoice): AsyncGenerator<PlannedWal> {
  const { cluster } = options
  for await (const object of compareBoth(options, `${clusterPrefix(cluster)}wal/`)) {
    const wal = findDueWal(cluster, object, choice)
    if (wal !== undefined) yield wal
  }
}

/** Records of the target as they are under our hold: what has expired since is not mended. */
async function findStaying(
  { target, cluster, condemned }: SyncState,
  { sides }: Intent,
): Promise<BackupRecord[]> {
  const ids = new Set<string>()
  for await (const { key } of target.list(backupPrefix(cluster))) {
    const id = parseBackupKey(key)
    if (id !== undefined && !condemned.hasBackup(id)) ids.add(id)
  }
  return sides.target.records.filter(({ id }) => ids.has(id))
}

/** Those that name one of the packs. */
function naming(records: readonly BackupRecord[], packIds: readonly string[]): BackupRecord[] {
  const wanted = new Set(packIds)
  return records.filter(({ packs }) => packs.some(({ id }) => wanted.has(id)))
}

/** Those that may be brought now; of the others it is said why not. */
function chooseBackups(
  { keptBack, names }: SyncState,
  backups: readonly BackupRecord[],
  { busyBackups, lost }: HeldBoth,
  systems: ReadonlySet<string>,
): BackupRecord[] {
  return backups.filter(({ id, systemIdentifier }) => {
    const because = busyBackups.has(id)
      ? `${names.target} has a hold of that backup: it is being written there`
      : lost.has(id)
        ? `${names.source} is about to expire it`
        : systems.has(systemIdentifier)
          ? undefined
          : `${names.target} does not know its server ${systemIdentifier}`
    if (because !== undefined) keptBack.push({ backupId: id, because })
    return because === undefined
  })
}

function sumBytes(items: readonly { readonly bytes: number }[]): number {
  return items.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Whether a key names something that two repositories can both have. */
export function isSharedObject(cluster: string, key: string): boolean {
  return parseObjectKey(cluster, key) !== undefined
}
