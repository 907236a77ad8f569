/**
 * Ends the backup and publishes it: stop, WAL, metadata, record.
 */
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import { parseBackupLabel } from '../postgres/backup-label.ts'
import { formatLsn, formatSegmentName, segmentNumber, type Timeline } from '../postgres/lsn.ts'
import { extendLocks } from './extend-locks.ts'
import { parseRelationPath } from '../postgres/relation-path.ts'
import {
  type DatabaseNames,
  findRelationName,
  parseRelationNames,
} from '../repository/relation-names.ts'
import type {
  BackupRecord,
  DamagedPages,
  NamedPack,
  PackLock,
} from '../repository/backup-record.ts'
import { attemptOfPack } from '../repository/keys.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import type { PackSummary, PackWriter } from '../repository/pack-writer.ts'
import { encodeBackupRecord } from '../repository/write-backup.ts'
import { archiveBackupWal, type BackupWalOptions } from './archive-backup-wal.ts'
import { type BackupContext, sizesOf, waitLimitOf } from './backup-context.ts'
import { type StartedBackup, type StoppedBackup, stopBackup, whileEnding } from './backup-mode.ts'
import { openComparedStorage } from './compared-storage.ts'
import type { ClusterCopy } from './copy-cluster.ts'
import type { LoadedBase } from './load-base.ts'
import { publishHeld } from './publish-held.ts'
import type { NameReader } from './relation-names.ts'
import { readTablespaceNames } from './server-facts.ts'
import { addFrame, writeFileList, writeRelationNames } from './write-metadata.ts'

/** What was begun before the copy and ends here. */
export interface Companions {
  readonly base: LoadedBase
  /** The main thread's own packs; the caller aborts them when anything fails. */
  readonly packs: PackWriter
  readonly names: NameReader
}

export async function publish(
  context: BackupContext,
  started: StartedBackup,
  copy: ClusterCopy,
  companions: Companions,
): Promise<BackupRecord> {
  const { session, progress, signal } = context
  signal.throwIfAborted()
  progress.phase('ending the backup')
  const tablespaceNames = await readTablespaceNames(session)
  const stopped = await stopBackup(session, context.version)
  const timeline = await requireSameServer(context, stopped).catch(whileEnding)
  const wal = walOptions(context, started, stopped, timeline)
  const segments = await archiveBackupWal(wal, context.targets.group, progress, signal)
  progress.phase('writing the record')
  const { raw: rawNames, unknown } = await companions.names.read()
  const names = copy.damage.length === 0 ? [] : parseRelationNames(rawNames)
  if (unknown.length > 0) context.notes.push(unknownNames(unknown))
  const facts = { started, stopped, timeline, segments, names, rawNames, tablespaceNames }
  const { record, raw } = await writeRecord(context, copy, facts, companions)
  signal.throwIfAborted()
  const written = [...copy.workerPacks, ...companions.packs.packs]
  await publishEverywhere(context, record, raw, written)
  return record
}

/**
 * One target after the other, the required ones first. Each is published by its own proof: one
 * that has not the base has not its packs either, and none that sync or a restore could tell
 * from it. What was published stays, whatever happens elsewhere.
 */
async function publishEverywhere(
  { targets, base, comparedIn, notes }: BackupContext,
  record: BackupRecord,
  raw: Uint8Array,
  written: readonly PackSummary[],
): Promise<void> {
  for (const target of targets.inOrderOfNeed()) {
    if (base !== undefined && !comparedIn.includes(target)) continue
    const isStored = await targets.group.attempt(target, async (storage) => {
      notes.push(...(await publishHeld(storage, record, raw, written)))
    })
    if (isStored) targets.noteStored(target)
  }
}

function unknownNames(databases: readonly string[]): string {
  const some = databases.slice(0, 3).join(', ')
  const all = databases.length > 3 ? `${some} and ${databases.length - 3} more` : some
  return `the names of relations in ${all} could not be read: they go by number`
}

/**
 * The session that started is the one that stopped; on a standby no promotion between, nor
 * a change of the timeline that it follows. Returns the backup's timeline.
 */
async function requireSameServer(
  context: BackupContext,
  stopped: StoppedBackup,
): Promise<Timeline> {
  const { session } = context
  const { isInRecovery } = await session.checkSameServer()
  if (isInRecovery !== session.facts.isInRecovery) {
    throw serverChanged('it was promoted between start and stop of the backup')
  }
  const { startTimeline } = parseBackupLabel(stopped.backupLabel)
  if (!isInRecovery) return startTimeline
  const [row] = await session.query(
    'SELECT min_recovery_end_timeline::int8::text AS timeline FROM pg_control_recovery()',
  )
  if (Number(row?.['timeline']) === startTimeline) return startTimeline
  throw serverChanged(
    `it follows timeline ${String(row?.['timeline'])} now, the backup began on ${startTimeline}`,
  )
}

function serverChanged(because: string): Failure {
  return new Failure('TM1309', {
    message: 'the server changed while the backup ran',
    because,
    fix: 'nothing of this backup is kept; run it again',
  })
}

function walOptions(
  context: BackupContext,
  started: StartedBackup,
  stopped: StoppedBackup,
  timeline: number,
): BackupWalOptions {
  const { options, control, facts, session } = context
  return {
    cluster: options.cluster,
    systemIdentifier: String(control.systemIdentifier),
    dataDirectory: facts.dataDirectory,
    timeline,
    walSegmentSizeBytes: control.walSegmentSizeBytes,
    startLsn: started.startLsn,
    stopLsn: stopped.stopLsn,
    isStandby: session.facts.isInRecovery,
    waitLimitMs: waitLimitOf(options),
  }
}

interface BackupFacts {
  readonly started: StartedBackup
  readonly stopped: StoppedBackup
  readonly timeline: number
  readonly segments: readonly string[]
  /** Parsed only where damage is to be named. */
  readonly names: readonly DatabaseNames[]
  readonly rawNames: Uint8Array
  readonly tablespaceNames: ReadonlyMap<number, string>
}

/** The record's bytes go into the last pack as its last frame, then out as an object. */
async function writeRecord(
  context: BackupContext,
  copy: ClusterCopy,
  facts: BackupFacts,
  companions: Companions,
): Promise<{ record: BackupRecord; raw: Uint8Array }> {
  const storage = openComparedStorage(context.targets.group, context.comparedIn)
  const { base, packs } = companions
  const files = await writeFileList(copy.entries, packs, base.pieces)
  const relationNames = await writeRelationNames(facts.rawNames, packs, storage, base)
  if (packs.needsPack) await packs.begin()
  const packList = namePacks(copy, { files, relationNames }, companions, facts.started.startedAt)
  const locks = await lockPacks(context, packList)
  const stored = copy.workerPacks.reduce((sum, pack) => sum + pack.bytes, packs.bytesWritten)
  const written = { files, relationNames, packs: packList, locks, bytesStored: stored }
  const record = describeBackup(context, copy, facts, written)
  const raw = encodeBackupRecord(record)
  await addFrame(packs, FRAME_KINDS.record, raw)
  await packs.finish()
  return { record, raw }
}

type WrittenMetadata = {
  readonly files: Awaited<ReturnType<typeof writeFileList>>
  readonly relationNames: NonNullable<BackupRecord['relationNames']>
}

type WrittenBackup = WrittenMetadata &
  Pick<BackupRecord, 'packs' | 'locks'> & { readonly bytesStored: number }

async function lockPacks(
  { options, base, notes, attemptId, beganAt, progress, targets, comparedIn }: BackupContext,
  packs: readonly NamedPack[],
): Promise<readonly PackLock[]> {
  const { cluster } = options
  const { group } = targets
  // One without the base lacks its packs, and gets no record either.
  const locked = group.living().filter((one) => base === undefined || comparedIn.includes(one))
  const storages = locked.map((target) => group.storageOf(target))
  const own = packs.map(({ id }) => id).filter((id) => attemptOfPack(id) === attemptId)
  const request = { cluster, packs, written: new Set(own), beganAt, base: base?.backup, progress }
  const extended = await extendLocks(storages, { ...request, at: now() })
  notes.push(...extended.notes)
  return extended.locks
}

/** Every pack that the backup needs, with the size that it has. */
function namePacks(
  copy: ClusterCopy,
  { files, relationNames }: WrittenMetadata,
  { base, packs: own }: Companions,
  startedAt: Date,
): NamedPack[] {
  const written = [...copy.workerPacks, ...own.packs]
  const sizes = new Map(base.packSizes)
  for (const { id, bytes } of written) sizes.set(id, bytes)
  const since = sinceOf(base.chosen?.backup)
  for (const { id } of written) since.set(id, startedAt.toISOString())
  const ids = new Set([...files.packs, relationNames.pack, ...written.map(({ id }) => id)])
  if (own.openPackId !== undefined) ids.add(own.openPackId)
  return [...ids].sort().map((id) => {
    const bytes = sizes.get(id)
    const age = { since: since.get(id) ?? startedAt.toISOString() }
    return bytes === undefined ? { id, ...age } : { id, bytes, ...age }
  })
}

/** When each pack of the base was first written. */
function sinceOf(base: BackupRecord | undefined): Map<string, string> {
  if (base === undefined) return new Map()
  return new Map(base.packs.map(({ id, since }) => [id, since ?? base.startedAt]))
}

function describeBackup(
  context: BackupContext,
  copy: ClusterCopy,
  facts: BackupFacts,
  { files, relationNames, packs, locks, bytesStored }: WrittenBackup,
): BackupRecord {
  const { options, session, control, base, beganAt } = context
  const { started, stopped, segments } = facts
  const { pieces, entries, bytes, contentHash } = files
  const wantsFullRead = base === undefined || !base.trustStatus
  return {
    format: 1,
    id: context.backupId,
    cluster: options.cluster,
    systemIdentifier: String(control.systemIdentifier),
    tidemarkVersion: options.tidemarkVersion,
    source: 'local',
    server: describeServer(context, copy),
    sizes: sizesOf(control),
    dataChecksumVersion: copy.control.dataChecksumVersion,
    startedAt: started.startedAt.toISOString(),
    stoppedAt: stopped.stoppedAt.toISOString(),
    timeline: facts.timeline,
    startLsn: formatLsn(started.startLsn),
    checkpointLsn: formatLsn(copy.control.checkpointLsn),
    stopLsn: formatLsn(stopped.stopLsn),
    ...(session.facts.isInRecovery
      ? { minRecoveryLsn: formatLsn(copy.control.minRecoveryLsn) }
      : {}),
    walFirst: segments[0] ?? firstSegment(context, facts),
    walLast: segments.at(-1) ?? firstSegment(context, facts),
    backupLabel: stopped.backupLabel,
    tablespaceMap: stopped.tablespaceMap,
    tablespaces: copy.listing.tablespaces.map((tablespace) => {
      return { ...tablespace, name: facts.tablespaceNames.get(tablespace.oid) ?? '' }
    }),
    settings: context.facts.settings,
    configurationFiles: copy.configurationFiles,
    labels: options.labels ?? {},
    pinned: options.pinned ?? false,
    files: { pieces, entries, bytes, contentHash },
    relationNames,
    packs,
    ...(locks === undefined || locks.length === 0 ? {} : { locks }),
    damage: describeDamage(copy, facts, base?.backup),
    ...(base === undefined ? {} : { comparedWith: base.backup.id }),
    lastFullReadAt: wantsFullRead ? started.startedAt.toISOString() : base.backup.lastFullReadAt,
    bootId: context.facts.bootId,
    ...(context.facts.bootedAtMs === undefined ? {} : { bootedAtMs: context.facts.bootedAtMs }),
    statistics: {
      filesRead: copy.plan.files,
      filesUnchangedByStatus: copy.plan.filesUnchanged,
      bytesRead: copy.bytesRead,
      pagesStored: copy.storedPages,
      bytesStored,
      durationMs: now().getTime() - beganAt.getTime(),
    },
  }
}

function firstSegment(context: BackupContext, { started, timeline }: BackupFacts): string {
  const { walSegmentSizeBytes } = context.control
  const segment = segmentNumber(started.startLsn, walSegmentSizeBytes)
  return formatSegmentName(timeline, segment, walSegmentSizeBytes)
}

function describeServer(context: BackupContext, copy: ClusterCopy): BackupRecord['server'] {
  return {
    major: context.version.major,
    version: context.session.facts.versionText,
    controlFileVersion: copy.control.controlFileVersion,
    catalogVersion: copy.control.catalogVersion,
    isStandby: context.session.facts.isInRecovery,
    dataDirectory: context.facts.dataDirectory,
    dataDirectoryMode: context.facts.dataDirectoryMode,
  }
}

/** Damage that was read now, and that of files which were taken over unread. */
function describeDamage(
  copy: ClusterCopy,
  facts: BackupFacts,
  base: BackupRecord | undefined,
): DamagedPages[] {
  const earlier = new Map((base?.damage ?? []).map((damage) => [damage.path, damage]))
  const unread = findUnread(copy, earlier)
  const found = copy.damage.flatMap(({ path, pages }) => {
    const damaged = pages.filter(({ lsn }) => !isMendedByReplay(lsn, facts))
    const first = damaged[0]
    if (first === undefined) return []
    const relation = nameOf(path, facts.names)
    const lastGoodBackup = first.isNew ? base?.id : earlier.get(path)?.lastGoodBackup
    const blocks = damaged.map(({ block }) => block)
    return [
      {
        path,
        ...(relation === undefined ? {} : { relation }),
        blocks,
        ...(lastGoodBackup === undefined ? {} : { lastGoodBackup }),
      },
    ]
  })
  return [...found, ...[...earlier.values()].filter(({ path }) => unread.has(path))]
}

/** Those of the paths whose files were taken over unread. */
function findUnread({ listing, plan }: ClusterCopy, paths: ReadonlyMap<string, unknown>) {
  const unread = new Set<string>()
  if (paths.size === 0) return unread
  for (let index = 0; index < listing.entries.length; index++) {
    const path = listing.entries.at(index)?.path ?? ''
    if (paths.has(path) && plan.fateOf(index)?.kind === 'unchanged') unread.add(path)
  }
  return unread
}

/**
 * A page that was written while it was read bears an LSN of the backup's own time, and its
 * full image is in the WAL. Any other LSN is that of an older page, or noise.
 */
function isMendedByReplay(lsn: bigint, { started, stopped }: BackupFacts): boolean {
  return lsn >= started.startLsn && lsn <= stopped.stopLsn
}

function nameOf(path: string, names: readonly DatabaseNames[]): string | undefined {
  const relation = parseRelationPath(path)
  if (relation === undefined) return undefined
  return findRelationName(names, relation.databaseOid, relation.filenode)
}
