/** `show ID`: one backup or one dump in detail. */
import { now } from '../../base/clock.ts'
import { Failure, isFailure } from '../../base/failure.ts'
import { chooseCluster, chooseRepository } from '../../config/configuration.ts'
import { nearestName } from '../../config/nearest-name.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import { attemptOfPack, isBackupId, parsePackKey, packPrefix } from '../../repository/keys.ts'
import { applyMarks, readMarks } from '../../repository/marks.ts'
import { listBackups, readBackup } from '../../repository/read-backups.ts'
import { findDump } from '../../repository/read-dumps.ts'
import { openRepository } from '../../repository/repository.ts'
import type { Storage } from '../../storage/storage.ts'
import type { CommandContext } from '../command-context.ts'
import { backupJson } from '../describe-backup.ts'
import { formatPairs } from '../format-table.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from '../format-units.ts'
import { wrongUsage } from '../program.ts'
import type { Colours } from '../terminal.ts'
import { type FoundDump, showDump, showDumpObjects } from './show/show-dump.ts'

export interface ShowCommandOptions {
  readonly cluster?: string
  readonly repository?: string
  readonly objects?: boolean
  readonly search?: string
}

interface FoundBackup {
  readonly backup: BackupRecord
  readonly repository: string
  readonly storage: Storage
}

export async function runShow(
  context: CommandContext,
  id: string,
  options: ShowCommandOptions,
): Promise<number> {
  const listsObjects = options.objects === true || options.search !== undefined
  const found = await find(context, id, options)
  if ('record' in found) {
    if (listsObjects) return await showDumpObjects(context, found, options.search)
    return await showDump(context, found)
  }
  if (listsObjects) {
    throw wrongUsage(
      `${found.backup.id} is a backup`,
      'only dumps list the objects that they hold; a backup holds files',
      'leave --objects and --search out',
    )
  }
  return await showBackup(context, found)
}

async function showBackup(
  context: CommandContext,
  { backup: record, repository, storage }: FoundBackup,
): Promise<number> {
  const backup = applyMarks(record, await readMarks(storage, record.cluster))
  const missing = await findMissingPacks(storage, backup)
  const { repositoryId } = await openRepository(storage)
  const lockedUntil = earliestLock(backup, repositoryId)
  const { terminal } = context
  if (context.json) {
    const details = { ...backupDetails(backup, missing), lockedUntil: lockedUntil ?? null }
    terminal.printJson({ repository, backup: details })
  } else {
    for (const line of formatBackup(backup, repository, missing, terminal.colours)) {
      terminal.print(line)
    }
    if (lockedUntil !== undefined) {
      terminal.print(`its packs are locked at least until ${formatTime(lockedUntil)}`)
    }
  }
  return 0
}

/** Without --cluster the id is looked for in every cluster of the configuration. */
async function find(
  context: CommandContext,
  backupId: string,
  options: ShowCommandOptions,
): Promise<FoundBackup | FoundDump> {
  const configuration = context.configuration()
  const named = options.cluster !== undefined || backupId === 'latest'
  const clusters = named
    ? [chooseCluster(configuration, options.cluster)]
    : [...configuration.clusters.values()]
  const known: string[] = []
  for (const cluster of clusters) {
    const repository = chooseRepository(cluster, options.repository)
    const storage = await openRepositoryStorage(repository, context.env)
    await openRepository(storage)
    if (backupId !== 'latest') {
      const backup = await tryRead(storage, cluster.name, backupId)
      if (backup !== undefined) return { backup, repository: repository.name, storage }
      const record = await findDump(storage, cluster.name, backupId)
      if (record !== undefined) return { record, repository: repository.name, storage }
    }
    const { backups } = await listBackups(storage, cluster.name)
    const newest = backups.at(-1)
    if (backupId === 'latest' && newest !== undefined) {
      return { backup: newest, repository: repository.name, storage }
    }
    known.push(...backups.map((backup) => backup.id))
  }
  throw noSuchBackup(backupId, known)
}

async function tryRead(
  storage: Storage,
  cluster: string,
  backupId: string,
): Promise<BackupRecord | undefined> {
  try {
    return await readBackup(storage, cluster, backupId)
  } catch (error) {
    if (isFailure(error, 'TM1505')) return undefined
    throw error
  }
}

function noSuchBackup(backupId: string, known: readonly string[]): Failure {
  const nearest = isBackupId(backupId) ? nearestName(backupId, known) : undefined
  const meant = nearest === undefined ? '' : `; did you mean ${nearest}?`
  return new Failure('TM1505', {
    message:
      backupId === 'latest' ? 'there is no backup yet' : `no backup or dump ${backupId}${meant}`,
    because:
      known.length === 0
        ? 'the repository holds nothing of that id, and no backup of the cluster'
        : `the newest of ${known.length} is ${known.at(-1)}`,
    fix: known.length === 0 ? 'take one: tidemark backup' : 'tidemark list shows all of them',
    details: { backup: backupId },
  })
}

/** By one listing: packs that the record needs and the repository does not hold. */
async function findMissingPacks(storage: Storage, backup: BackupRecord): Promise<string[]> {
  const stored = new Set<string>()
  for await (const { key } of storage.list(packPrefix(backup.cluster))) {
    const id = parsePackKey(key)
    if (id !== undefined) stored.add(id)
  }
  return backup.packs.map((pack) => pack.id).filter((id) => !stored.has(id))
}

function backupDetails(backup: BackupRecord, missingPacks: readonly string[]) {
  return {
    ...backupJson(backup),
    checkpointLsn: backup.checkpointLsn,
    minRecoveryLsn: backup.minRecoveryLsn ?? null,
    dataDirectory: backup.server.dataDirectory,
    tablespaces: backup.tablespaces,
    walSegmentSizeBytes: backup.sizes.walSegmentSizeBytes,
    configurationFiles: backup.configurationFiles.map(({ path }) => path),
    settings: backup.settings,
    damage: backup.damage,
    missingPacks,
    packAttempts: countPacks(backup).attempts,
    oldestPackAt: countPacks(backup).oldest,
  }
}

function formatBackup(
  backup: BackupRecord,
  repository: string,
  missing: readonly string[],
  colours: Colours,
): string[] {
  const { statistics, server, files } = backup
  const pairs: [string, string][] = [
    ['backup', colours.bold(backup.id)],
    ['cluster', `${backup.cluster} (system ${backup.systemIdentifier}), in ${repository}`],
    ['server', `PostgreSQL ${server.version}${server.isStandby ? ', a standby' : ''}`],
    ['data directory', server.dataDirectory],
    ['started', formatTime(backup.startedAt)],
    ['ended', `${formatTime(backup.stoppedAt)}, took ${formatDuration(statistics.durationMs)}`],
    ['LSN', `${backup.startLsn} to ${backup.stopLsn}, timeline ${backup.timeline}`],
    ['WAL needed', `${backup.walFirst} to ${backup.walLast}`],
    ['size', `${formatBytes(files.bytes)} in ${formatCount(files.entries, 'entry', 'entries')}`],
    ['read', `${formatBytes(statistics.bytesRead)}, ${formatCount(statistics.filesRead, 'file')}`],
    [
      'stored',
      `${formatBytes(statistics.bytesStored)}, ${formatCount(statistics.pagesStored, 'page')}`,
    ],
    ['hangs on', describePacks(backup)],
    ['compared with', backup.comparedWith ?? 'nothing: everything was stored'],
    ['all pages read', formatTime(backup.lastFullReadAt)],
    ['checksums', backup.dataChecksumVersion === 0 ? 'off' : 'on, verified'],
  ]
  const lists: string[][] = [
    backup.tablespaces.map(
      ({ oid, name, location }) => `tablespace ${name} (${oid}) at ${location}`,
    ),
    Object.entries(backup.labels).map(([key, value]) => `label ${key}=${value}`),
    backup.pinned ? ['pinned: kept until it is unpinned'] : [],
    backup.damage.map((damage) => colours.red(describeDamage(damage))),
    missing.map((id) => colours.red(`missing pack ${id}: this backup cannot be restored`)),
  ]
  return [...formatPairs(pairs), ...lists.flat()]
}

/** As the record noted it; a later backup may have extended it. */
function earliestLock({ locks = [] }: BackupRecord, repositoryId: string): string | undefined {
  const own = locks.filter(({ repository }) => repository === repositoryId)
  return own.map(({ until }) => until).sort()[0]
}

/** How many copies of how many backups it needs, and how old the oldest is. */
function describePacks(backup: BackupRecord): string {
  const { packs, attempts, oldest } = countPacks(backup)
  const age = now().getTime() - Date.parse(oldest)
  const days = formatCount(Math.max(0, Math.floor(age / 86_400_000)), 'day')
  const wrote = attempts === 1 ? 'of this backup alone' : `of ${attempts} backups`
  const since = `the oldest from ${formatTime(oldest)} (${days} old)`
  return `${formatCount(packs, 'pack')} ${wrote}, ${since}`
}

function countPacks({ packs, startedAt }: BackupRecord) {
  const times = packs.map(({ since }) => since ?? startedAt)
  return {
    packs: packs.length,
    attempts: new Set(packs.map(({ id }) => attemptOfPack(id))).size,
    oldest: times.reduce((oldest, at) => (at < oldest ? at : oldest), startedAt),
  }
}

function describeDamage(damage: BackupRecord['damage'][number]): string {
  const { relation, path, blocks, lastGoodBackup } = damage
  const name = relation === undefined ? path : `${relation} (${path})`
  const pages = `damaged: ${formatCount(blocks.length, 'page')} of ${name}, blocks`
  const good = lastGoodBackup === undefined ? '' : `; last good copy in ${lastGoodBackup}`
  return `${pages} ${blocks.slice(0, 10).join(', ')}${blocks.length > 10 ? ', …' : ''}${good}`
}
