/** Checks of one repository of the cluster, and of what it holds. */
import { checkWal } from '../../../archive/check-wal.ts'
import { hasSegment } from '../../../archive/list-wal.ts'
import { Failure, isFailure } from '../../../base/failure.ts'
import { parseSegmentName } from '../../../postgres/lsn.ts'
import { holdKey } from '../../../repository/keys.ts'
import { provePacks } from '../../../recovery/prove-packs.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import { openRepository } from '../../../repository/repository.ts'
import { findSystemIdentity } from '../../../repository/system-identity.ts'
import { findLocalRoot } from '../../../storage/open-storage.ts'
import { probeConditionalWrites } from '../../../storage/probe-conditional-writes.ts'
import type { Storage } from '../../../storage/storage.ts'
import { formatBytes, formatCount } from '../../format-units.ts'
import { describeMissing, type Protection, type ServerProtection } from '../../protection.ts'
import { areOnOneDevice } from '../../server-access.ts'
import { type Check, failed, found, ok, skipped } from './check.ts'

/** Is it there, ours, and does it know the server? */
export async function checkReachable(
  storage: Storage,
  cluster: string,
  systemIdentifier: string | undefined,
): Promise<Check> {
  const name = 'repository'
  try {
    await openRepository(storage)
    if (systemIdentifier === undefined) return ok('TM1710', name, `${storage.url} is there`)
    const identity = await findSystemIdentity(storage, cluster, systemIdentifier)
    if (identity !== undefined) return ok('TM1710', name, `${storage.url} knows the server`)
    const detail = `${storage.url} does not know server ${systemIdentifier} as ${cluster}`
    const fix = 'check the URL; introduce the server: tidemark doctor --fix, or tidemark init'
    return found('problem', 'TM1710', name, detail, fix)
  } catch (error) {
    if (error instanceof Failure) return failed('TM1710', name, error)
    throw error
  }
}

/**
 * Begins an object and gives it up: nothing becomes visible. An object store is asked besides
 * whether it has the conditional writes that several writers rely on.
 */
export async function checkWritable(storage: Storage, cluster: string): Promise<Check> {
  const name = 'repository writes'
  try {
    const writer = await storage.openWriter(holdKey(cluster, '00000000-000000-test'))
    try {
      writer.append([Buffer.alloc(8192)])
    } finally {
      await writer.abort()
    }
    if (findLocalRoot(storage.url) !== undefined) {
      return ok('TM1711', name, 'an object can be begun')
    }
    await probeConditionalWrites(storage)
    await storage.locks?.prove()
    return ok('TM1711', name, 'an object can be begun, and of two creators one wins')
  } catch (error) {
    if (error instanceof Failure) return failed('TM1711', name, error)
    throw error
  }
}

export interface SpaceNeeds {
  readonly freeBytes: number | undefined
  /** Of the data directory with its tablespaces; undefined while unknown. */
  readonly clusterBytes: number | undefined
  readonly walBytes: number | undefined
  readonly walSegmentSizeBytes: number
  readonly hasBackup: boolean
}

/** Pure. */
export function checkSpace(needs: SpaceNeeds): Check {
  const { freeBytes, clusterBytes, walBytes = 0, walSegmentSizeBytes, hasBackup } = needs
  const name = 'repository space'
  if (freeBytes === undefined) return ok('TM1712', name, 'this kind of storage has no fixed size')
  const free = formatBytes(freeBytes)
  const fix = 'make room on the file system of the repository'
  if (freeBytes < Math.max(walBytes, 4 * walSegmentSizeBytes)) {
    const detail = `${free} free, but pg_wal holds ${formatBytes(walBytes)}`
    return found('problem', 'TM1712', name, detail, fix)
  }
  if (!hasBackup && clusterBytes !== undefined && freeBytes < clusterBytes) {
    const size = formatBytes(clusterBytes)
    const detail = `${free} free; the cluster has ${size}, so the first backup may not fit`
    return found('warning', 'TM1712', name, detail, fix)
  }
  return ok('TM1712', name, `${free} free`)
}

export function checkDevice(url: string, dataDirectory: string | undefined): Check {
  const name = 'another device'
  if (dataDirectory === undefined) return skipped('TM1713', name, 'the data directory is not here')
  const root = findLocalRoot(url)
  if (root === undefined || !areOnOneDevice(root, dataDirectory)) return ok('TM1713', name, 'yes')
  return found(
    'warning',
    'TM1713',
    name,
    'the repository is on the disk of the data directory: when it fails, both are lost',
    'add a repository elsewhere to tidemark.yaml',
  )
}

/** Pure. */
export function checkGaps(server: ServerProtection | undefined): Check {
  const name = 'WAL continuity'
  if (server?.newest === undefined) return ok('TM1716', name, 'nothing is archived yet')
  const { missing, walSegmentSizeBytes, newest } = server
  if (missing.length === 0) return ok('TM1716', name, `no hole up to ${newest.name}`)
  const names = describeMissing(missing, walSegmentSizeBytes)
  return found(
    'problem',
    'TM1716',
    name,
    `${formatCount(missing.length, 'segment')} missing: ${shorten(names)}`,
    'bring them from the pg_wal of the server or of a standby: tidemark wal push FILE; or take a new backup',
  )
}

/**
 * The last segment that the server takes for archived must be there: a gap at the end shows
 * in no listing. Judged only behind the newest backup, whose WAL proves that it was this
 * archive that the server wrote to by then. Pure.
 */
export function checkLastArchived(
  server: ServerProtection | undefined,
  lastArchivedWal: string | undefined,
  newestBackup: BackupRecord | undefined,
): Check {
  const name = 'newest WAL'
  const size = server?.walSegmentSizeBytes ?? 16 * 1024 * 1024
  const last = parseSegmentName(lastArchivedWal ?? '', size)
  const proved = parseSegmentName(newestBackup?.walLast ?? '', size)
  const isOurs = proved !== undefined && newestBackup?.systemIdentifier === server?.systemIdentifier
  if (server === undefined || last === undefined || !isOurs || last.segment <= proved.segment) {
    return ok('TM1721', name, 'nothing is known to be missing')
  }
  if (hasSegment(server.archive, last.timeline, last.segment)) {
    return ok('TM1721', name, `${lastArchivedWal} is there`)
  }
  return found(
    'problem',
    'TM1721',
    name,
    `the server archived ${lastArchivedWal}, which the repository does not hold`,
    'bring it from the pg_wal of the server or of a standby: tidemark wal push FILE; or take a new backup',
  )
}

/** Pure. */
export function checkBackups({ health, list }: Protection): Check {
  const name = 'backups'
  const problems = [
    ...list.damaged.map(
      ({ backupId, failure }) => `${backupId}: ${failure.because ?? failure.message}`,
    ),
    ...health.flatMap(({ backup, missingPacks, missingWal }) => [
      ...(missingPacks.length > 0
        ? [`${backup.id}: ${formatCount(missingPacks.length, 'pack')} missing (${missingPacks[0]})`]
        : []),
      ...(missingWal.length > 0 ? [`${backup.id}: WAL missing (${shorten(missingWal)})`] : []),
    ]),
  ]
  if (problems.length > 0) {
    const fix = 'take a new backup: tidemark backup; bring missing WAL with: tidemark wal push FILE'
    return found('problem', 'TM1717', name, `cannot be restored: ${problems.join('; ')}`, fix)
  }
  const count = list.backups.length
  if (count > 0) return ok('TM1717', name, `${formatCount(count, 'backup')}, nothing missing`)
  return found(
    'warning',
    'TM1717',
    name,
    'there is none yet',
    'take the first one: tidemark backup',
  )
}

/** Opens the packs of the newest backup; missing ones are told by checkBackups(). */
export async function checkPacks(
  storage: Storage,
  newest: BackupRecord | undefined,
): Promise<Check> {
  const name = 'packs'
  if (newest === undefined) return ok('TM1717', name, 'there is no backup yet')
  try {
    await provePacks(storage, newest)
    const count = formatCount(newest.packs.length, 'pack')
    return ok('TM1717', name, `${count} of the newest backup, every index holds`)
  } catch (error) {
    if (isFailure(error, 'TM1602')) return skipped('TM1717', name, 'one is missing, see above')
    if (error instanceof Failure) return failed('TM1717', name, error)
    throw error
  }
}

/** Pure. */
export function checkQuarantine(server: ServerProtection | undefined): Check {
  const files = server?.archive.quarantine ?? []
  if (files.length === 0) return ok('TM1720', 'quarantine', 'empty')
  return found(
    'warning',
    'TM1720',
    'quarantine',
    `${formatCount(files.length, 'WAL file')} refused and kept: ` +
      shorten(files.map(({ name }) => name)),
    'see which server they come from (tidemark wal list, its log), and stop archiving on the ' +
      'wrong one; if it is the right one: tidemark wal adopt --timeline N --from DIR',
  )
}

/** The newest segments are the ones that a recovery to now needs. */
const NEWEST_CHECKED = 64n

/** Reads segments and proves their hashes: those that the newest recovery begins with. */
export async function checkArchivedWal(
  storage: Storage,
  cluster: string,
  server: ServerProtection | undefined,
  protection: Protection,
  signal: AbortSignal,
): Promise<Check> {
  const name = 'archived WAL'
  if (server?.newest === undefined) return ok('TM1718', name, 'nothing is archived yet')
  const { systemIdentifier, walSegmentSizeBytes, path } = server
  const last = parseSegmentName(server.newest.name, walSegmentSizeBytes)?.segment ?? 0n
  const newest = protection.list.backups.findLast(
    (one) => one.systemIdentifier === systemIdentifier,
  )
  const start = parseSegmentName(newest?.walFirst ?? '', walSegmentSizeBytes)?.segment
  const lowest = last >= NEWEST_CHECKED ? last - NEWEST_CHECKED + 1n : 0n
  const oldest = server.archive.timelines[0]?.ranges[0]?.first ?? last
  const first = start !== undefined && start > lowest ? start : max(lowest, oldest)
  const { checked, problems } = await checkWal({
    storage,
    cluster,
    systemIdentifier,
    walSegmentSizeBytes,
    path,
    first,
    last,
    level: 'full',
    signal,
  })
  const damaged = problems.filter(({ failure }) => failure.code !== 'TM1408')
  const read = checked - (problems.length - damaged.length)
  if (damaged.length === 0) {
    return ok('TM1718', name, `the newest ${formatCount(read, 'segment')} verified`)
  }
  return found(
    'problem',
    'TM1718',
    name,
    `${formatCount(damaged.length, 'segment')} damaged: ${shorten(damaged.map((one) => one.name))}`,
    'push an intact copy from pg_wal, which replaces it: tidemark wal push FILE; or take a new backup',
  )
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}

const SHOWN = 5

function shorten(names: readonly string[]): string {
  const rest = names.length - SHOWN
  return `${names.slice(0, SHOWN).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`
}
