/**
 * Brings dumps that one repository of a cluster lacks from another, and mends those that are
 * damaged in it (docs/design/dumps.md, section 9).
 *
 * Invariant: a record is listed in the target only when every pack that it names was seen there
 * with its size, or written there with every frame proved; damage does not travel; nothing comes
 * back that the retention of dumps would remove at once.
 */
import { now } from '../base/clock.ts'
import type { Progress } from '../base/progress.ts'
import { readCondemned } from '../repository/condemned-sets.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import {
  dumpKey,
  dumpLabelsKey,
  dumpPackKey,
  dumpPackPrefix,
  dumpPinKey,
  parseDumpKey,
  parseDumpPackKey,
} from '../repository/keys.ts'
import { listDumpPacks, listDumps } from '../repository/read-dumps.ts'
import type { Storage } from '../storage/storage.ts'
import { compareListings } from '../sync/compare-listings.ts'
import { type HeldBoth, holdBoth } from '../sync/hold-both.ts'
import { findDamage } from '../sync/prove-object.ts'
import { requireTwo } from '../sync/read-sides.ts'
import { runLimited } from '../sync/run-limited.ts'
import {
  addProblem,
  type HealedObject,
  type KeptBack,
  openSyncState,
  type SyncNames,
  type SyncProblem,
  type SyncState,
} from '../sync/sync-state.ts'
import { bringDump, bringDumpPacks } from './bring-dump.ts'
import { chooseDumps } from './choose-dumps.ts'
import type { DumpPolicy } from './plan-dump-expiration.ts'

export interface SyncDumpsOptions {
  readonly source: Storage
  readonly target: Storage
  readonly names: SyncNames
  readonly cluster: string
  /** Say what would be done; nothing is written. */
  readonly dryRun: boolean
  /** Prove every pack of dumps that the target has and the source as well, and mend it. */
  readonly heal: boolean
  /** Mend these objects, and do nothing else. */
  readonly objects?: readonly string[]
  /** Without one everything is brought. */
  readonly policy: DumpPolicy | undefined
  readonly progress: Progress
  readonly signal: AbortSignal
}

export interface SyncDumpsReport {
  /** Ids, in their order. */
  readonly dumps: readonly string[]
  readonly packs: number
  readonly bytes: number
  readonly healed: readonly HealedObject[]
  readonly problems: readonly SyncProblem[]
  readonly keptBack: readonly KeptBack[]
  readonly notes: readonly string[]
  /** Keys that a dry run found damaged in the target. */
  readonly damaged: readonly string[]
}

/** What is known before the first write. */
interface Intent {
  /** The oldest first. */
  readonly dumps: readonly DumpRecord[]
  /** Ids of those whose record is there, and damaged. */
  readonly replaced: ReadonlySet<string>
  /** Readable records of the target. */
  readonly there: readonly DumpRecord[]
  /** Ids of packs of the target to be looked at again under the hold. */
  readonly mended: readonly string[]
}

export async function syncDumps(options: SyncDumpsOptions): Promise<SyncDumpsReport> {
  await requireTwo(options)
  options.progress.phase('comparing dumps')
  const problems: SyncProblem[] = []
  const intent = await decide(options, problems)
  if (options.dryRun) return foresee(options, intent, problems)
  if (intent.dumps.length + intent.mended.length === 0) return reportNothing(problems)
  const held = await holdBoth(describeHolds(options, intent))
  const state = openSyncState(options, held, problems)
  const brought: string[] = []
  try {
    await bring(options, state, intent, held, brought)
  } finally {
    state.notes.push(...(await held.release()))
  }
  const { counts, healed, keptBack, notes } = state
  const { packs, bytes } = counts
  return { dumps: brought, packs, bytes, healed, problems, keptBack, notes, damaged: [] }
}

function reportNothing(problems: readonly SyncProblem[]): SyncDumpsReport {
  const none = { dumps: [], packs: 0, bytes: 0, healed: [], keptBack: [], notes: [], damaged: [] }
  return { ...none, problems }
}

async function decide(options: SyncDumpsOptions, problems: SyncProblem[]): Promise<Intent> {
  const { source, target, cluster, names, objects, policy } = options
  const [from, to] = await Promise.all([listDumps(source, cluster), listDumps(target, cluster)])
  for (const { key, failure } of from.unreadable) {
    addProblem({ problems, names }, 'source', key, failure)
  }
  const known = new Set(to.dumps.map(({ id }) => id))
  const replaced = new Set(to.unreadable.flatMap(({ key }) => parseDumpKey(key) ?? []))
  const wanted =
    objects === undefined
      ? await chooseDumps({ source, target, cluster, policy, nowMs: now().getTime() })
      : new Set(objects.flatMap((key) => parseDumpKey(key) ?? []))
  const isDue = ({ id }: DumpRecord): boolean =>
    !known.has(id) && (wanted.has(id) || (objects === undefined && replaced.has(id)))
  const mended =
    objects === undefined
      ? await findDamagedPacks(options, to.dumps)
      : objects.flatMap((key) => parseDumpPackKey(key) ?? [])
  return { dumps: from.dumps.filter(isDue), replaced, there: to.dumps, mended }
}

/** Packs that records of the target name, and that it has not as they were written. */
async function findDamagedPacks(
  { source, target, cluster, heal, progress, signal }: SyncDumpsOptions,
  there: readonly DumpRecord[],
): Promise<string[]> {
  const named = new Map(there.flatMap(({ packs }) => packs.map(({ id, bytes }) => [id, bytes])))
  const prefix = dumpPackPrefix(cluster)
  const damaged: string[] = []
  const doubtful: string[] = []
  for await (const one of compareListings(source.list(prefix), target.list(prefix))) {
    const id = parseDumpPackKey(one.key)
    const bytes = id === undefined ? undefined : named.get(id)
    if (id === undefined || bytes === undefined || one.source === undefined) continue
    if (one.target !== bytes) damaged.push(id)
    else if (heal) doubtful.push(id)
  }
  if (heal) progress.phase('proving packs of dumps', doubtful.length, 'files')
  await runLimited(doubtful, 4, async (id) => {
    signal.throwIfAborted()
    if ((await findDamage(target, cluster, dumpPackKey(cluster, id))) !== undefined)
      damaged.push(id)
    progress.advance(1)
  })
  return damaged
}

async function foresee(
  { cluster, target }: SyncDumpsOptions,
  { dumps, mended }: Intent,
  problems: readonly SyncProblem[],
): Promise<SyncDumpsReport> {
  const sizes = await listDumpPacks(target, cluster)
  const missing = new Map(
    dumps
      .flatMap(({ packs }) => packs)
      .filter(({ id, bytes }) => sizes.get(id) !== bytes)
      .map(({ id, bytes }) => [id, bytes]),
  )
  return {
    ...reportNothing(problems),
    dumps: dumps.map(({ id }) => id),
    packs: missing.size,
    bytes: [...missing.values()].reduce((sum, bytes) => sum + bytes, 0),
    damaged: mended.map((id) => dumpPackKey(cluster, id)),
  }
}

/** In the target what is brought, mended or relied on; in the source what is read. */
function describeHolds(
  { source, target, names, cluster }: SyncDumpsOptions,
  { dumps, there, mended }: Intent,
): Parameters<typeof holdBoth>[0] {
  const packs = [...dumps.flatMap((one) => one.packs.map(({ id }) => id)), ...mended]
  const packKeys = packs.map((id) => dumpPackKey(cluster, id))
  const records = dumps.map(({ id }) => dumpKey(cluster, id))
  const marks = dumps.flatMap(({ id }) => [dumpPinKey(cluster, id), dumpLabelsKey(cluster, id)])
  const healed = naming(there, mended).map(({ id }) => dumpKey(cluster, id))
  return {
    source,
    target,
    names,
    cluster,
    backups: [],
    keys: [...new Set([...packKeys, ...records, ...marks, ...healed])],
    sourceKeys: [...new Set([...packKeys, ...records, ...marks])],
  }
}

function naming(records: readonly DumpRecord[], packIds: readonly string[]): DumpRecord[] {
  const wanted = new Set(packIds)
  return records.filter(({ packs }) => packs.some(({ id }) => wanted.has(id)))
}

/** Mended first: what is brought may refer to it. */
async function bring(
  { target, cluster, progress }: SyncDumpsOptions,
  state: SyncState,
  intent: Intent,
  held: HeldBoth,
  brought: string[],
): Promise<void> {
  const dumps = await chooseHeld(state, intent.dumps, held)
  // Under the hold: what is there now stays.
  const sizes = await listDumpPacks(target, cluster)
  const listed = new Set((await listDumps(target, cluster)).dumps.map(({ id }) => id))
  const staying = intent.there.filter(({ id }) => listed.has(id))
  const needed = new Map(
    naming(staying, intent.mended).flatMap(({ packs }) => packs.map((pack) => [pack.id, pack])),
  )
  const mended = intent.mended.flatMap((id) => needed.get(id) ?? [])
  progress.phase('copying dumps', sumBytes([...mended, ...dumps.flatMap(({ packs }) => packs)]))
  await bringDumpPacks(state, mended, sizes, { prove: true })
  for (const record of dumps) {
    const isReplacement = intent.replaced.has(record.id)
    if (await bringDump(state, record, sizes, isReplacement)) brought.push(record.id)
  }
}

function sumBytes(packs: readonly { readonly bytes: number }[]): number {
  return packs.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Those that may be brought now; of the others it is said why not. */
async function chooseHeld(
  state: SyncState,
  dumps: readonly DumpRecord[],
  { busyBackups }: HeldBoth,
): Promise<DumpRecord[]> {
  const { source, cluster, names, keptBack } = state
  // Sets first: of one that is gone by now the record is gone, too.
  const condemned = await readCondemned(source, cluster)
  const chosen: DumpRecord[] = []
  for (const record of dumps) {
    const key = dumpKey(cluster, record.id)
    const isThere = (await source.size(key)) !== undefined
    const because = busyBackups.has(record.id)
      ? `${names.target} has a hold of that dump: it is being written there`
      : !isThere || condemned.hasKey(key)
        ? `${names.source} is about to expire it`
        : undefined
    if (because === undefined) chosen.push(record)
    else keptBack.push({ backupId: record.id, because })
  }
  return chosen
}
