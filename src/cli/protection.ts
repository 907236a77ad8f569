/**
 * What the backups and the archived WAL of a cluster are worth, by listings alone: which
 * backups can be restored, and where the WAL after them has holes. No pack and no segment
 * is opened here.
 */
import { isLetGo } from '../archive/expired-wal.ts'
import { findPathGaps, type MissingSegment } from '../archive/find-gaps.ts'
import { hasSegment, listWal, rangesAlong, type WalListing } from '../archive/list-wal.ts'
import { includes, pathOf, type TimelineHistory } from '../postgres/history-file.ts'
import {
  formatSegmentName,
  type Lsn,
  parseSegmentName,
  segmentNumber,
  segmentStart,
} from '../postgres/lsn.ts'
import { chooseTimeline, consistencyLsn, recordLsn } from '../recovery/choose-timeline.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { packPrefix, parsePackKey } from '../repository/keys.ts'
import { type BackupList, listBackups } from '../repository/read-backups.ts'
import { listSystemIdentities } from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'

export interface BackupHealth {
  readonly backup: BackupRecord
  readonly missingPacks: readonly string[]
  /** Names of segments without which it never becomes consistent. */
  readonly missingWal: readonly string[]
}

export interface ServerProtection {
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  readonly archive: WalListing
  readonly path: TimelineHistory
  /** Segments that are missing between the oldest backup on the path and the newest WAL. */
  readonly missing: readonly MissingSegment[]
  /** The newest archived segment on the path, and the LSN at which it ends. */
  readonly newest: { readonly name: string; readonly endLsn: Lsn } | undefined
}

export interface Protection {
  readonly list: BackupList
  readonly health: readonly BackupHealth[]
  /** In the order of the repository's identities. */
  readonly servers: readonly ServerProtection[]
}

export async function readProtection(storage: Storage, cluster: string): Promise<Protection> {
  const list = await listBackups(storage, cluster)
  const packs = await listPacks(storage, cluster)
  const servers: ServerProtection[] = []
  for (const { systemIdentifier } of await listSystemIdentities(storage, cluster)) {
    const archive = await listWal(storage, cluster, systemIdentifier)
    const own = list.backups.filter((backup) => backup.systemIdentifier === systemIdentifier)
    servers.push(judgeServer(archive, own))
  }
  const health = list.backups.map((backup) => {
    const server = servers.find((one) => one.systemIdentifier === backup.systemIdentifier)
    return judgeBackup(backup, packs, server?.archive)
  })
  return { list, health, servers }
}

async function listPacks(storage: Storage, cluster: string): Promise<ReadonlySet<string>> {
  const packs = new Set<string>()
  for await (const { key, sizeBytes } of storage.list(packPrefix(cluster))) {
    const id = parsePackKey(key)
    if (id !== undefined && sizeBytes > 0) packs.add(id)
  }
  return packs
}

/** Pure. */
export function judgeBackup(
  backup: BackupRecord,
  packs: ReadonlySet<string>,
  archive: WalListing | undefined,
): BackupHealth {
  const missingPacks = backup.packs.map(({ id }) => id).filter((id) => !packs.has(id))
  const size = backup.sizes.walSegmentSizeBytes
  const first = parseSegmentName(backup.walFirst, size)
  const last = parseSegmentName(backup.walLast, size)
  const missingWal: string[] = []
  if (first !== undefined && last !== undefined) {
    for (let segment = first.segment; segment <= last.segment; segment++) {
      const there = archive !== undefined && hasSegment(archive, first.timeline, segment)
      if (!there) missingWal.push(formatSegmentName(first.timeline, segment, size))
    }
  }
  return { backup, missingPacks, missingWal }
}

/** Pure. `backups`: those of this server. */
export function judgeServer(
  archive: WalListing,
  backups: readonly BackupRecord[],
): ServerProtection {
  const { systemIdentifier, walSegmentSizeBytes } = archive
  const path = choosePath(archive, backups)
  const last = newestSegment(archive, path)
  const onPath = backups.filter((one) => includes(path, one.timeline, consistencyLsn(one)))
  const starts = onPath.map((backup) => recordLsn(backup.startLsn))
  const oldest = starts.reduce<Lsn | undefined>(
    (least, start) => (least === undefined || start < least ? start : least),
    undefined,
  )
  const missing =
    last === undefined || oldest === undefined
      ? []
      : findPathGaps(
          path,
          segmentNumber(oldest, walSegmentSizeBytes),
          last.segment,
          walSegmentSizeBytes,
          rangesAlong(archive, path),
        ).filter(({ timeline, segment }) => !isLetGo(archive.expired, timeline, segment))
  const newest =
    last === undefined
      ? undefined
      : {
          name: formatSegmentName(last.timeline, last.segment, walSegmentSizeBytes),
          endLsn: segmentStart(last.segment + 1n, walSegmentSizeBytes),
        }
  return { systemIdentifier, walSegmentSizeBytes, archive, path, missing, newest }
}

/** The path that a recovery would take: on from the newest backup. */
function choosePath(archive: WalListing, backups: readonly BackupRecord[]): TimelineHistory {
  const anchor = backups.at(-1)
  if (anchor !== undefined) return chooseTimeline(archive, anchor, undefined).path
  const newest = archive.timelines.findLast(({ segments }) => segments > 0)
  return newest?.history ?? { timeline: newest?.timeline ?? 1, ancestors: [] }
}

/** What a parent archived beyond the fork is not on the path. */
function newestSegment(archive: WalListing, path: TimelineHistory): MissingSegment | undefined {
  for (const timeline of pathOf(path).toReversed()) {
    const last = archive.timelines.find((one) => one.timeline === timeline)?.ranges.at(-1)?.last
    if (last === undefined) continue
    const end = path.ancestors.find((ancestor) => ancestor.timeline === timeline)?.endLsn
    if (end === undefined) return { timeline, segment: last }
    const fork = segmentNumber(end, archive.walSegmentSizeBytes)
    if (fork < last) return { timeline, segment: fork }
    return { timeline, segment: last }
  }
  return undefined
}

/** The names of the missing segments, runs of neighbours as `first to last (n)`. */
export function describeMissing(
  missing: readonly MissingSegment[],
  walSegmentSizeBytes: number,
): string[] {
  const runs: { first: MissingSegment; last: MissingSegment }[] = []
  for (const one of missing) {
    const run = runs.at(-1)
    const follows = run?.last.timeline === one.timeline && run.last.segment + 1n === one.segment
    if (run !== undefined && follows) run.last = one
    else runs.push({ first: one, last: one })
  }
  const name = ({ timeline, segment }: MissingSegment): string =>
    formatSegmentName(timeline, segment, walSegmentSizeBytes)
  return runs.map(({ first, last }) => {
    if (first === last) return name(first)
    return `${name(first)} to ${name(last)} (${last.segment - first.segment + 1n} segments)`
  })
}
