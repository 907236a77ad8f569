/** What `wal status` reads of one repository; a failure of it is a finding, not the end. */
import { listWal, type WalListing } from '../../../archive/list-wal.ts'
import { describeWriter } from '../../../archive/writer-identity.ts'
import { findWriterRecord } from '../../../archive/writer-record.ts'
import { Failure } from '../../../base/failure.ts'
import { SILENT } from '../../../base/progress.ts'
import type { RepositoryConfiguration } from '../../../config/configuration.ts'
import type { Environment } from '../../../config/environment.ts'
import { openRepositoryStorage } from '../../../config/unlock-storage.ts'
import {
  formatLsn,
  parseLsn,
  parseSegmentName,
  segmentStart,
  type Timeline,
} from '../../../postgres/lsn.ts'
import { scanToTarget } from '../../../recovery/scan-to-target.ts'
import { describeWindow, type RecoveryWindow } from '../../../recovery/window.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import { type BackupList, listBackups } from '../../../repository/read-backups.ts'
import { openRepository } from '../../../repository/repository.ts'
import { listSystemIdentities } from '../../../repository/system-identity.ts'
import type { Storage } from '../../../storage/storage.ts'
import { judgeServer, type ServerProtection } from '../../protection.ts'
import { type Check, failed, found } from '../doctor/check.ts'
import { checkRecordedGaps } from '../doctor/check-recorded-gaps.ts'
import { checkGaps, checkLastArchived, checkQuarantine } from '../doctor/check-repository.ts'
import type { WalPoint } from './measure-wal.ts'
import type { ReachedWalServer } from './read-wal-server.ts'

export interface ArchiveStatus {
  readonly name: string
  readonly url: string
  /** A tail grows in place there; undefined: it was not opened. False: its pieces are requests. */
  readonly canAppend?: boolean
  /** Undefined: it could not be read, or knows no server. */
  readonly archive: WalListing | undefined
  /** Up to where it has everything that a recovery to now would need. */
  readonly position: ArchivePosition | undefined
  /** By timeline: who archives it, as far as it has said so. */
  readonly writers: readonly { readonly timeline: Timeline; readonly writer: string }[]
  /** The last moment that it holds, where a record tells it. */
  readonly lastMoment: WalPoint | undefined
  /** One of some segments before, to measure the rate with. */
  readonly earlier: WalPoint | undefined
  /** The newest of the server. */
  readonly lastBackup: BackupRecord | undefined
  readonly backups: number | undefined
  readonly window: RecoveryWindow | undefined
  /** The newest whole segment, and where it ends. */
  readonly newestWal: { readonly segment: string; readonly lsn: string } | undefined
  readonly findings: readonly Check[]
}

export interface ArchivePosition {
  readonly lsn: string
  /** The newest whole segment. */
  readonly segment: string
  /** What was flushed of the segment behind it. */
  readonly tail: string | null
}

export async function readArchiveStatus(
  cluster: string,
  repository: RepositoryConfiguration,
  reached: ReachedWalServer | undefined,
  env: Environment,
): Promise<ArchiveStatus> {
  const { name, url } = repository
  try {
    const storage = await openRepositoryStorage(repository, env)
    await openRepository(storage)
    const canAppend = storage.openJournal !== undefined
    return { name, url, canAppend, ...(await read(storage, cluster, reached)) }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { name, url, ...NOTHING, findings: [failed('TM1710', 'repository', error)] }
  }
}

const NOTHING = {
  archive: undefined,
  position: undefined,
  writers: [],
  lastMoment: undefined,
  earlier: undefined,
  lastBackup: undefined,
  backups: undefined,
  window: undefined,
  newestWal: undefined,
} as const

/** Of one that was not waited for. Pure. */
export function unreadArchive({ name, url }: RepositoryConfiguration): ArchiveStatus {
  return { name, url, ...NOTHING, findings: [] }
}

type Read = Omit<ArchiveStatus, 'name' | 'url'>

async function read(
  storage: Storage,
  cluster: string,
  reached: ReachedWalServer | undefined,
): Promise<Read> {
  const listed = await listBackups(storage, cluster)
  const identities = await listSystemIdentities(storage, cluster)
  const wanted = reached?.systemIdentifier ?? listed.backups.at(-1)?.systemIdentifier
  const identity = identities.find((one) => one.systemIdentifier === wanted) ?? identities.at(-1)
  if (identity === undefined || (reached !== undefined && identity.systemIdentifier !== wanted)) {
    const detail = `${storage.url} does not know the server as ${cluster}`
    const fix = 'check the URL; introduce the server: tidemark init'
    return { ...NOTHING, findings: [found('problem', 'TM1710', 'repository', detail, fix)] }
  }
  const archive = await listWal(storage, cluster, identity.systemIdentifier)
  const own = listed.backups.filter((one) => one.systemIdentifier === archive.systemIdentifier)
  const server = judgeServer(archive, own)
  const newestBackup = own.at(-1)
  const findings = [
    checkLastArchived(server, reached?.lastArchivedWal ?? undefined, newestBackup),
    checkGaps(server),
    checkRecordedGaps(server, own),
    checkQuarantine(server),
  ]
  const ownList: BackupList = { ...listed, backups: own }
  const window = await describeWindow({ storage, cluster, listed: ownList, archive })
  const { newest } = server
  const end = await findLastMoment(window, server, storage, cluster)
  return {
    archive,
    position: findPosition(window, server),
    writers: await readWriters(storage, cluster, archive),
    lastMoment: end,
    earlier: await findEarlier(server, storage, cluster),
    lastBackup: newestBackup,
    backups: own.length,
    window,
    newestWal: newest && { segment: newest.name, lsn: formatLsn(newest.endLsn) },
    findings: [...findings, ...judgeEnd(window, server)],
  }
}

/** Behind the newest whole segment there may be a tail, which the window has read. */
function findPosition(
  { intervals }: RecoveryWindow,
  { newest }: ServerProtection,
): ArchivePosition | undefined {
  if (newest === undefined) return undefined
  const { name: segment } = newest
  const last = intervals.find((one) => one.lastSegment === segment && one.tail !== undefined)
  const whole = formatLsn(newest.endLsn)
  return { lsn: last?.to.lsn ?? whole, segment, tail: last?.tail ?? null }
}

async function readWriters(
  storage: Storage,
  cluster: string,
  { systemIdentifier, timelines }: WalListing,
): Promise<ArchiveStatus['writers']> {
  const writers: { timeline: Timeline; writer: string }[] = []
  for (const { timeline } of timelines) {
    const record = await findWriterRecord(storage, { cluster, systemIdentifier }, timeline)
    if (record === undefined) continue
    const writer = record === 'unreadable' ? 'unreadable' : describeWriter(record.writer)
    writers.push({ timeline, writer })
  }
  return writers
}

/** Of the window where it reaches to the newest segment, else read from that segment. */
async function findLastMoment(
  window: RecoveryWindow,
  server: ServerProtection,
  storage: Storage,
  cluster: string,
): Promise<WalPoint | undefined> {
  const { newest } = server
  if (newest === undefined) return undefined
  const interval = window.intervals.find(({ lastSegment }) => lastSegment === newest.name)
  const lsn = parseLsn(interval?.to.lsn ?? '')
  if (interval?.to.time !== undefined && lsn !== undefined) {
    return { lsn, atMs: Date.parse(interval.to.time) }
  }
  // The window ends before it; its last segment may hold no record with a time.
  for (let back = 0n; back < SEARCHED_SEGMENTS; back += 1n) {
    const point = await readMoment(server, storage, cluster, back)
    if (point !== undefined) return point
  }
  return undefined
}

const SEARCHED_SEGMENTS = 8n

/** So many segments before the newest one lies the other end of the rate. */
const RATE_SEGMENTS = 16n

async function findEarlier(
  server: ServerProtection,
  storage: Storage,
  cluster: string,
): Promise<WalPoint | undefined> {
  return await readMoment(server, storage, cluster, RATE_SEGMENTS)
}

/** The last moment in the segment that lies `back` segments before the newest one. */
async function readMoment(
  server: ServerProtection,
  storage: Storage,
  cluster: string,
  back: bigint,
): Promise<WalPoint | undefined> {
  const { archive, path, newest, walSegmentSizeBytes: size } = server
  const last = parseSegmentName(newest?.name ?? '', size)?.segment
  if (last === undefined) return undefined
  const range = archive.timelines
    .flatMap(({ ranges }) => ranges)
    .findLast((one) => one.first <= last && last <= one.last)
  const oldest = range?.first ?? last
  const segment = last - back > oldest ? last - back : oldest
  const limit = segmentStart(segment + 1n, size)
  let point: WalPoint | undefined
  const source = { storages: [storage], cluster, archive, path, progress: SILENT }
  await scanToTarget(
    source,
    { from: segmentStart(segment, size) },
    {
      visit(record, event) {
        if (record.lsn >= limit) return true
        if (event !== undefined && 'time' in event) {
          point = { lsn: record.endLsn, atMs: Number(event.time / 1000n) }
        }
        return false
      },
    },
  )
  return point
}

/** What ends the newest interval besides a gap, which the listing tells already. */
function judgeEnd(window: RecoveryWindow, { newest }: ServerProtection): Check[] {
  const lasts = window.intervals.map(({ lastSegment }) => lastSegment).sort()
  return window.intervals.flatMap((interval) => {
    const name = 'archived WAL'
    // WAL goes on behind it, and no backup has been taken since.
    const isLast = interval.lastSegment === lasts.at(-1) && interval.brokenAt !== undefined
    if (interval.lastSegment !== newest?.name && !isLast) return []
    if (interval.end === 'reset') {
      const detail = `pg_resetwal: WAL begins anew at ${interval.brokenAt}; nothing replays that`
      return [found('problem', 'TM1718', name, detail, 'take a new backup: tidemark backup')]
    }
    if (interval.end === 'minimal') {
      const detail = `the server went on with wal_level=minimal at ${interval.to.lsn}`
      const fix = "ALTER SYSTEM SET wal_level = 'replica'; restart; take a new backup"
      return [found('problem', 'TM1703', name, detail, fix)]
    }
    if (interval.damage === undefined) return []
    const { segment, because } = interval.damage
    const fix = 'push an intact copy from pg_wal, which replaces it: tidemark wal push FILE'
    return [found('problem', 'TM1718', name, `${segment}: ${because}`, fix)]
  })
}
