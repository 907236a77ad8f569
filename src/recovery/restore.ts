/**
 * Restores a cluster: the story in order (docs/design/recovery.md).
 *
 * prepareRestore() reads and judges and writes nothing; executeRestore() does what the plan
 * says. Between them a person may look at the plan.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { listWal } from '../archive/list-wal.ts'
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import { makeDirectories } from '../base/make-directories.ts'
import type { Progress } from '../base/progress.ts'
import { randomHex } from '../base/random.ts'
import { CONTROL_FILE_PATH, parseControlFile } from '../postgres/control-file.ts'
import type { Timeline } from '../postgres/lsn.ts'
import {
  describeVersion,
  type PostgresVersion,
  versionDirectoryName,
} from '../postgres/versions.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { readFileList } from '../repository/file-list.ts'
import { listBackups } from '../repository/read-backups.ts'
import { listPacks } from '../repository/write-backup.ts'
import type { PassedOver } from '../storage/fallback-storage.ts'
import { findLocalRoot, type StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { beginRestore, checkTablespaces, findUnfinished, giveTo } from './begin-restore.ts'
import {
  checkDestination,
  checkSpace,
  type Destination,
  spaceFreedBy,
} from './check-destination.ts'
import { checkReplayedTablespaces } from './check-replayed-tablespaces.ts'
import { recordLsn } from './choose-timeline.ts'
import { chooseSocketDirectory } from './choose-socket-directory.ts'
import type { Owner } from './file-restore/messages.ts'
import { type FoundTarget, findTarget } from './find-target.ts'
import { finishRestore } from './finish-restore.ts'
import {
  type RecoveryAction,
  type RecoverySettings,
  requiredMaxima,
} from './format-recovery-settings.ts'
import { type RestoredMarker, UNFINISHED_CONTROL_FILE } from './marker-files.ts'
import {
  describePassedOver,
  openSources,
  preferHolders,
  type Sources,
  storagesOfServer,
  withoutRepeats,
} from './open-sources.ts'
import { formatTarget, type Target } from './parse-target.ts'
import {
  type Aside,
  CONFIGURATION_DIRECTORY,
  placeOf,
  planRestore,
  requirePacks,
  type RestorePlan,
  spaceNeeds,
  surveyFiles,
} from './plan-restore.ts'
import {
  type PlacedTablespace,
  planTablespaces,
  type TablespaceMapping,
} from './plan-tablespaces.ts'
import { type ReservedNumber, reserveNumber } from './reserve-number.ts'
import { resolveOwner } from './resolve-owner.ts'
import { restoreFiles } from './restore-files.ts'
import { provePacks } from './prove-packs.ts'
import { RestoredManifest } from './write-manifest.ts'
import { writeRecoverySettings } from './write-recovery-settings.ts'
import { writeTails } from './write-tails.ts'

export interface RestoreOptions {
  /** The nearest repository; its fallbacks are asked for what it has not whole. */
  readonly storage: StorageSpecification
  /** Sentences on repositories that could not be opened at all. */
  readonly leftOut: readonly string[]
  readonly cluster: string
  readonly into: string
  readonly target: Target
  readonly action: RecoveryAction
  readonly tablespaces: readonly TablespaceMapping[]
  readonly takeOver: boolean
  readonly timeline: Timeline | undefined
  readonly backup: string | undefined
  readonly port: number
  readonly owner: string | undefined
  /** Of this process. */
  readonly uid: number
  readonly workers: number
  /** shared_preload_libraries of a copy: only what replay needs. */
  readonly preload: string
  /**
   * Shell words that run `wal get` of the cluster out of the repositories with these URLs, all
   * paths absolute, without %f and %p.
   */
  readonly walGet: (urls: readonly string[]) => string
}

export interface PreparedRestore {
  readonly options: RestoreOptions
  readonly sources: Pick<Sources, 'specification' | 'passedOver'>
  readonly plan: RestorePlan
  readonly record: BackupRecord
  readonly found: FoundTarget
  readonly destination: Destination
  readonly tablespaces: readonly PlacedTablespace[]
  /** Locations that replay will create tablespaces in; absent on this machine. */
  readonly replayedLocations: readonly string[]
  readonly owner: Owner | undefined
  readonly version: PostgresVersion
}

/** Judges everything and writes nothing. */
export async function prepareRestore(
  options: RestoreOptions,
  progress: Progress,
  signal?: AbortSignal,
): Promise<PreparedRestore> {
  progress.phase('reading the backups')
  const sources = await openSources(options.storage)
  try {
    return await prepare(options, sources, interruptible(progress, signal))
  } finally {
    await sources.storage.close()
  }
}

/** Reading the WAL may take long: whoever reports progress notices the interruption. */
function interruptible(progress: Progress, signal: AbortSignal | undefined): Progress {
  return {
    phase: (name, total, unit) => {
      signal?.throwIfAborted()
      progress.phase(name, total, unit)
    },
    advance: (units) => {
      signal?.throwIfAborted()
      progress.advance(units)
    },
    note: (text) => {
      progress.note(text)
    },
  }
}

async function prepare(
  options: RestoreOptions,
  all: Sources,
  progress: Progress,
): Promise<PreparedRestore> {
  const { backups, notes } = await backupsOfOneSystem(options, all.storage)
  const newest = backups.at(-1)
  const destination = await checkDestination(options.into, {
    repositories: listUrls(options.storage).flatMap((url) => findLocalRoot(url) ?? []),
    original: newest?.server.dataDirectory ?? '',
    tablespaces: newest?.tablespaces.map(({ location }) => location) ?? [],
  })
  const owner = await resolveOwner(options.owner, destination.directory, options.uid)
  const found = await judge(options, all, backups, progress)
  const record = found.backup
  const sources = await preferHolders(all, record)
  const { storage } = sources
  const version = describeVersion(record.server.major * 10_000)
  requirePacks(record, await listPacks(storage, options.cluster))
  await provePacks(storage, record)
  const tablespaces = planTablespaces(record.tablespaces, options.tablespaces)
  await checkTablespaces(tablespaces, destination)
  const replayedLocations = await checkReplayedTablespaces(found, tablespaces, options)
  const survey = await surveyFiles(readFileList(storage, record), asideOf(options, record))
  const { takeOver } = options
  const repositories = listUrls(sources.specification)
  notes.push(...options.leftOut, ...sources.notes)
  notes.push(...withoutRepeats(sources.passedOver).map(describePassedOver))
  const input = { record, found, survey, destination, tablespaces, takeOver, repositories, notes }
  await checkSpace([...spaceNeeds(input), ...(await spaceFreedBy(destination))])
  const plan = planRestore(input)
  return {
    options,
    sources,
    plan,
    record,
    found,
    destination,
    tablespaces,
    replayedLocations,
    owner,
    version,
  }
}

function listUrls({ url, fallbacks = [] }: StorageSpecification): string[] {
  return [url, ...fallbacks.map((one) => one.url)]
}

/** A cluster's name may have outlived a pg_upgrade: the newest backup's server is meant. */
async function backupsOfOneSystem(
  options: RestoreOptions,
  storage: Storage,
): Promise<{ backups: readonly BackupRecord[]; notes: string[] }> {
  const { backups, damaged } = await listBackups(storage, options.cluster)
  const { target } = options
  const named = options.backup ?? (target.kind === 'backup' ? target.backup : undefined)
  const lost = damaged.find(({ backupId }) => backupId === named)
  if (lost !== undefined) throw lost.failure
  const anchor = backups.find(({ id }) => id === named) ?? backups.at(-1)
  const system = anchor?.systemIdentifier
  const notes = damaged.map(
    ({ backupId, failure }) => `the record of backup ${backupId} is damaged: ${failure.message}`,
  )
  return { backups: backups.filter((one) => one.systemIdentifier === system), notes }
}

async function judge(
  options: RestoreOptions,
  sources: Sources,
  backups: readonly BackupRecord[],
  progress: Progress,
): Promise<FoundTarget> {
  const { cluster, target, timeline, backup } = options
  const system = backups[0]?.systemIdentifier
  if (system === undefined) throw noBackups(options)
  const archive = await listWal(sources.storage, cluster, system)
  const storages = await storagesOfServer(sources, cluster, system)
  return await findTarget({
    cluster,
    storages,
    onPassedOver: (event) => void sources.passedOver.push(event),
    backups,
    archive,
    target,
    timeline,
    backup,
    progress,
  })
}

function noBackups(options: RestoreOptions): Failure {
  return new Failure('TM1202', {
    message: `cannot recover ${options.cluster} to ${formatTarget(options.target)}`,
    because: `${options.storage.url} holds no backup of it`,
    fix: `take one: tidemark backup ${options.cluster}`,
  })
}

export interface RestoreResult {
  readonly plan: RestorePlan
  readonly restoreId: string
  readonly bytes: number
  readonly socketDirectory: string | undefined
  readonly port: number
  /** Objects that had to be taken from another repository, each once. */
  readonly passedOver: readonly PassedOver[]
  /** The number of the timeline that a server which takes over will have. */
  readonly reservedTimeline: Timeline | undefined
}

/** Writes what was prepared; at the end the directory can be started. */
export async function executeRestore(
  prepared: PreparedRestore,
  progress: Progress,
  signal: AbortSignal,
): Promise<RestoreResult> {
  const restoreId = randomHex(8)
  const reserved = prepared.options.takeOver ? await reserve(prepared, restoreId) : undefined
  for (const note of reserved?.notes ?? []) progress.note(note)
  try {
    const reservedTimeline = reserved?.timeline
    return await execute({ ...prepared, restoreId, reservedTimeline }, progress, signal)
  } catch (error) {
    await reserved?.giveBack()
    throw error
  }
}

async function reserve(prepared: PreparedRestore, restoreId: string): Promise<ReservedNumber> {
  const { options, record, destination, sources, found } = prepared
  return await reserveNumber({
    storage: sources.specification,
    cluster: options.cluster,
    systemIdentifier: record.systemIdentifier,
    restoreId,
    backup: record.id,
    dataDirectory: destination.directory,
    timeline: found.timeline,
    unfinished: await findUnfinished(destination),
  })
}

interface NumberedRestore extends PreparedRestore {
  readonly restoreId: string
  readonly reservedTimeline: Timeline | undefined
}

async function execute(
  prepared: NumberedRestore,
  progress: Progress,
  signal: AbortSignal,
): Promise<RestoreResult> {
  const { options, record, destination, owner, tablespaces, version, restoreId } = prepared
  const { directory } = destination
  await beginRestore({
    destination,
    marker: { restoreId, cluster: options.cluster, backup: record.id },
    tablespaces,
    versionDirectory: versionDirectoryName(record.server.major, record.server.catalogVersion),
    mode: record.server.dataDirectoryMode,
    owner,
  })
  const manifest = new RestoredManifest({
    dataDirectory: directory,
    owner,
    version: version.manifestVersion,
    systemIdentifier: record.systemIdentifier,
    modifiedAt: now(),
  })
  let bytes: number
  let socketDirectory: string | undefined
  try {
    bytes = await restoreInto(prepared, manifest, progress, signal)
    progress.phase('writing recovery settings')
    await writeTails({
      storage: prepared.sources.specification,
      record,
      path: prepared.found.path,
      tails: prepared.found.tails,
      dataDirectory: directory,
      owner,
    })
    socketDirectory = await writeSettings(prepared, manifest)
    const { timeline, startLsn, stopLsn } = record
    manifest.finish({
      timeline,
      startLsn: recordLsn(startLsn),
      endLsn: recordLsn(stopLsn),
    })
  } finally {
    manifest.close()
  }
  for (const location of prepared.replayedLocations) {
    makeDirectories(location, 0o700)
    await giveTo(location, owner)
  }
  progress.phase('making it durable')
  const outside = [...tablespaces.map(({ location }) => location), ...prepared.replayedLocations]
  await finishRestore(directory, [directory, ...outside])
  const passedOver = withoutRepeats(prepared.sources.passedOver)
  const { plan, reservedTimeline } = prepared
  const { port } = options
  return { plan, restoreId, bytes, socketDirectory, port, passedOver, reservedTimeline }
}

async function restoreInto(
  prepared: PreparedRestore,
  manifest: RestoredManifest,
  progress: Progress,
  signal: AbortSignal,
): Promise<number> {
  const { options, record, owner } = prepared
  const { directory } = prepared.destination
  if (record.configurationFiles.length > 0) {
    const place = join(directory, CONFIGURATION_DIRECTORY)
    await mkdir(place, { mode: 0o700 })
    await giveTo(place, owner)
  }
  return await restoreFiles({
    storage: prepared.sources.specification,
    onPassedOver: (event) => void prepared.sources.passedOver.push(event),
    record,
    dataDirectory: directory,
    owner,
    workers: options.workers,
    progress,
    signal,
    placeOf: (entry) => placeOf(entry, asideOf(options, record)),
    onFile(file) {
      const path = file.path === UNFINISHED_CONTROL_FILE ? CONTROL_FILE_PATH : file.path
      if (path !== 'postgresql.auto.conf') manifest.add({ ...file, path })
    },
  })
}

function asideOf({ takeOver }: RestoreOptions, record: BackupRecord): Aside {
  return { takeOver, hasConfiguration: record.configurationFiles.length > 0 }
}

/** Returns the socket directory of a copy. */
async function writeSettings(
  prepared: NumberedRestore,
  manifest: RestoredManifest,
): Promise<string | undefined> {
  const { options, record, found, owner, version, tablespaces, restoreId } = prepared
  const { directory } = prepared.destination
  const control = parseControlFile(await readFile(join(directory, UNFINISHED_CONTROL_FILE)))
  if (!control.isCrcCorrect) throw new Error('the restored pg_control does not hold')
  const maxima = requiredMaxima(control, record.settings, found.facts.parameters)
  const names = version.settings
  const recovery: RecoverySettings = {
    names,
    stop: found.stop,
    timeline: found.timeline,
    action: options.action,
    walGet: options.walGet(listUrls(prepared.sources.specification)),
    maxima,
    original: record.settings,
    mayFaultFollow: found.mayFaultFollow,
    inWalDirectory: found.tails.map(({ name }) => name),
    takeOver: options.takeOver,
  }
  const socketDirectory = options.takeOver
    ? undefined
    : await chooseSocketDirectory(directory, options.port, restoreId, owner)
  const copy =
    socketDirectory === undefined
      ? undefined
      : {
          names,
          maxima,
          original: record.settings,
          port: options.port,
          socketDirectory,
          walSegmentSizeBytes: record.sizes.walSegmentSizeBytes,
          hasInPlaceTablespaces: record.tablespaces.some(({ kind }) => kind === 'in-place'),
          preload: options.preload,
        }
  const marker = describeRestore(prepared)
  const dataDirectory = directory
  const written = await writeRecoverySettings({
    dataDirectory,
    owner,
    record,
    version,
    tablespaces,
    recovery,
    copy,
    port: options.port,
    marker,
  })
  for (const file of written) manifest.add(file)
  return socketDirectory
}

function describeRestore(prepared: NumberedRestore): RestoredMarker {
  const { options, record, plan, restoreId, reservedTimeline } = prepared
  return {
    restoreId,
    cluster: options.cluster,
    systemIdentifier: record.systemIdentifier,
    backup: record.id,
    target: formatTarget(options.target),
    timeline: plan.timeline,
    targetLsn: plan.stop.lsn,
    takeOver: options.takeOver,
    ...(reservedTimeline === undefined ? {} : { reservedTimeline }),
    restoredAt: now().toISOString(),
  }
}
