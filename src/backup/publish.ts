/**
 * Ends the backup and publishes it: stop, WAL, metadata, record.
 */
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import { formatLsn, formatSegmentName, segmentNumber } from '../postgres/lsn.ts'
import { parseRelationPath } from '../postgres/relation-path.ts'
import type { BackupRecord, DamagedPages } from '../repository/backup-record.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import { encodeBackupRecord, publishBackup } from '../repository/write-backup.ts'
import { archiveBackupWal, type BackupWalOptions } from './archive-backup-wal.ts'
import { type BackupContext, sizesOf, waitLimitOf } from './backup-context.ts'
import { type StartedBackup, type StoppedBackup, stopBackup } from './backup-mode.ts'
import type { ClusterCopy } from './copy-cluster.ts'
import { type DatabaseNames, findRelationName, readRelationNames } from './relation-names.ts'
import { addFrame, writeFileList, writeRelationNames } from './write-metadata.ts'

export async function publish(
  context: BackupContext,
  started: StartedBackup,
  copy: ClusterCopy,
): Promise<BackupRecord> {
  const { session, options, progress, signal } = context
  signal.throwIfAborted()
  progress.phase('ending the backup')
  const names = await readRelationNames(session, options.connection)
  const stopped = await stopBackup(session, context.version)
  const timeline = await requireSameServer(context)
  const wal = walOptions(context, started, stopped, timeline)
  const segments = await archiveBackupWal(wal, progress, signal)
  progress.phase('writing the record')
  const facts = { started, stopped, timeline, segments, names }
  const { record, raw } = await writeRecord(context, copy, facts)
  signal.throwIfAborted()
  const written = [...copy.workerPacks, ...copy.packs.packs]
  await publishBackup(options.storage, record, raw, written)
  return record
}

/** The session that started is the one that stopped; on a standby no promotion between. */
async function requireSameServer(context: BackupContext): Promise<number> {
  const { session } = context
  const { isInRecovery } = await session.checkSameServer()
  if (isInRecovery !== session.facts.isInRecovery) {
    throw new Failure('TM1309', {
      message: 'the server changed while the backup ran',
      because: 'it was promoted between start and stop of the backup',
      fix: 'nothing of this backup is kept; run it again',
    })
  }
  const [row] = await session.query('SELECT timeline_id FROM pg_control_checkpoint()')
  return Number(row?.['timeline_id'])
}

function walOptions(
  context: BackupContext,
  started: StartedBackup,
  stopped: StoppedBackup,
  timeline: number,
): BackupWalOptions {
  const { options, control, facts, session } = context
  return {
    storage: options.storage,
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
  readonly names: readonly DatabaseNames[]
}

/** The record's bytes go into the last pack as its last frame, then out as an object. */
async function writeRecord(
  context: BackupContext,
  copy: ClusterCopy,
  facts: BackupFacts,
): Promise<{ record: BackupRecord; raw: Uint8Array }> {
  const { options, base } = context
  const files = await writeFileList(copy.entries, copy.packs, copy.basePieces)
  const rawNames = Buffer.from(JSON.stringify(facts.names))
  const relationNames = await writeRelationNames(
    rawNames,
    copy.packs,
    options.storage,
    base?.backup,
  )
  const record = describeBackup(context, copy, facts, { files, relationNames })
  const raw = encodeBackupRecord(record)
  await addFrame(copy.packs, FRAME_KINDS.record, raw)
  await copy.packs.finish()
  return { record, raw }
}

type WrittenMetadata = {
  readonly files: Awaited<ReturnType<typeof writeFileList>>
  readonly relationNames: NonNullable<BackupRecord['relationNames']>
}

function describeBackup(
  context: BackupContext,
  copy: ClusterCopy,
  facts: BackupFacts,
  { files, relationNames }: WrittenMetadata,
): BackupRecord {
  const { options, session, control, base, beganAt } = context
  const { started, stopped, segments } = facts
  const { pieces, entries, bytes, contentHash } = files
  const own = copy.workerPacks
  const ids = new Set([...files.packs, relationNames.pack, ...own.map(({ id }) => id)])
  const packs = [...ids].sort().map((id) => ({ id }))
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
    ...(session.facts.isInRecovery ? { minRecoveryLsn: formatLsn(copy.control.minRecoveryLsn) } : {}),
    walFirst: segments[0] ?? firstSegment(context, facts),
    walLast: segments.at(-1) ?? firstSegment(context, facts),
    backupLabel: stopped.backupLabel,
    tablespaceMap: stopped.tablespaceMap,
    tablespaces: copy.listing.tablespaces.map((tablespace) => ({ ...tablespace, name: '' })),
    settings: context.facts.settings,
    configurationFiles: copy.configurationFiles,
    labels: options.labels ?? {},
    pinned: options.pinned ?? false,
    files: { pieces, entries, bytes, contentHash },
    relationNames,
    packs,
    damage: describeDamage(copy, facts.names, base?.backup),
    ...(base === undefined ? {} : { comparedWith: base.backup.id }),
    lastFullReadAt: wantsFullRead ? started.startedAt.toISOString() : base.backup.lastFullReadAt,
    bootId: context.facts.bootId,
    statistics: {
      filesRead: copy.plan.files.length,
      filesUnchangedByStatus: copy.plan.unchanged.length,
      bytesRead: copy.bytesRead,
      pagesStored: copy.storedPages,
      bytesStored:
        copy.workerPacks.reduce((sum, { bytes }) => sum + bytes, 0) + copy.packs.bytesWritten,
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
  names: readonly DatabaseNames[],
  base: BackupRecord | undefined,
): DamagedPages[] {
  const found = copy.damage.map((damage) => {
    const relation = nameOf(damage.path, names)
    return { ...damage, ...(relation === undefined ? {} : { relation }) }
  })
  const unread = new Set(copy.plan.unchanged.map(({ path }) => path))
  return [...found, ...(base?.damage ?? []).filter(({ path }) => unread.has(path))]
}

function nameOf(path: string, names: readonly DatabaseNames[]): string | undefined {
  const relation = parseRelationPath(path)
  if (relation === undefined) return undefined
  return findRelationName(names, relation.databaseOid, relation.filenode)
}
