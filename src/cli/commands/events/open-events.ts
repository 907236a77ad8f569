/**
 * Opens what `events` reads: the repositories as one, the path of timelines, and what can be
 * recovered along it.
 */
import { listWal, type WalListing } from '../../../archive/list-wal.ts'
import type { WalPath } from '../../../archive/load-segment.ts'
import { Failure } from '../../../base/failure.ts'
import {
  type ClusterConfiguration,
  chooseRepository,
  nearestFirst,
} from '../../../config/configuration.ts'
import type { Environment } from '../../../config/environment.ts'
import { includes, type TimelineHistory, timelineAt } from '../../../postgres/history-file.ts'
import { type Lsn, segmentNumber, type Timeline } from '../../../postgres/lsn.ts'
import { chooseTimeline, consistencyLsn, findPath } from '../../../recovery/choose-timeline.ts'
import { openSources, storagesOfServer } from '../../../recovery/open-sources.ts'
import { type PlannedInterval, planWindow } from '../../../recovery/window.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import { listBackups } from '../../../repository/read-backups.ts'
import { onlySystemIdentifier } from '../../only-system.ts'
import { unlockSources } from '../../unlock-sources.ts'

export interface OpenedEvents {
  readonly walPath: WalPath
  /** That of a restore that names none. */
  readonly usualTimeline: Timeline
  /** Can a recovery stop there? By names only: neither packs nor segments are proved. */
  isRecoverable(lsn: Lsn): boolean
  /** Sentences on repositories that were left out, and branches that are not followed. */
  readonly notes: readonly string[]
}

export async function openEvents(
  cluster: ClusterConfiguration,
  options: { readonly repository?: string; readonly timeline?: Timeline | undefined },
  env: Environment,
): Promise<OpenedEvents> {
  const repositories =
    options.repository === undefined
      ? nearestFirst(cluster.repositories)
      : [chooseRepository(cluster, options.repository)]
  const { storage: specification, leftOut } = await unlockSources(repositories, env)
  const sources = await openSources(specification)
  const { backups } = await listBackups(sources.storage, cluster.name)
  const systemIdentifier =
    backups.at(-1)?.systemIdentifier ?? (await onlySystemIdentifier(cluster.name, sources.storage))
  const archive = await listWal(sources.storage, cluster.name, systemIdentifier)
  const own = backups.filter((backup) => backup.systemIdentifier === systemIdentifier)
  const chosen = choosePath(archive, own, options.timeline)
  const storages = await storagesOfServer(sources, cluster.name, systemIdentifier)
  const intervals = planWindow(own, archive).intervals
  const { walSegmentSizeBytes } = archive
  return {
    walPath: {
      storages,
      cluster: cluster.name,
      systemIdentifier,
      walSegmentSizeBytes,
      path: chosen.path,
    },
    usualTimeline: choosePath(archive, own, undefined).path.timeline,
    isRecoverable: (lsn) =>
      intervals.some((one) => covers(one, lsn, chosen.path, walSegmentSizeBytes)),
    notes: [...leftOut, ...sources.notes, ...chosen.notes],
  }
}

/** As a restore chooses; before the first backup the newest timeline that has WAL. */
function choosePath(
  archive: WalListing,
  backups: readonly BackupRecord[],
  timeline: Timeline | undefined,
): { readonly path: TimelineHistory; readonly notes: readonly string[] } {
  const anchor = backups.at(-1)
  if (anchor !== undefined) return chooseTimeline(archive, anchor, timeline)
  const newest = archive.timelines.findLast(({ segments }) => segments > 0)?.timeline
  const wanted = timeline ?? newest
  const path = wanted === undefined ? undefined : findPath(archive, wanted)
  if (path !== undefined) return { path, notes: [] }
  throw new Failure('TM1483', {
    message:
      wanted === undefined ? 'no WAL is archived yet' : `there is no WAL of timeline ${wanted}`,
    fix: 'tidemark wal list shows what is archived',
  })
}

/**
 * Is there WAL from a backup to there, the tail behind the last segment included? Pure. Where
 * the paths are on other timelines at the LSN, they are other histories.
 */
export function covers(
  interval: Pick<PlannedInterval, 'path' | 'backups' | 'lastSegment' | 'tail'>,
  lsn: Lsn,
  path: TimelineHistory,
  walSegmentSizeBytes: number,
): boolean {
  const [first] = interval.backups as readonly [BackupRecord]
  const from = consistencyLsn(first)
  const last = interval.lastSegment + (interval.tail === undefined ? 0n : 1n)
  if (lsn < from || segmentNumber(lsn, walSegmentSizeBytes) > last) return false
  const isSame = timelineAt(interval.path, lsn) === timelineAt(path, lsn)
  return isSame && includes(path, first.timeline, from)
}
