/**
 * The window: the intervals in which every moment can be recovered, and the gaps between
 * them. planWindow() is pure and knows names only; readWindow() adds the moments by reading
 * the last segments of each interval, and the first behind a gap. Neither proves that the
 * segments are whole: that is archive/check-wal.ts, and every restore for its own range.
 */
import type { BreakPlace } from '../archive/break-mark.ts'
import { type ExpiredWalMark, isLetGo } from '../archive/expired-wal.ts'
import {
  findRange,
  type SegmentRange,
  timelineOfSegment,
  timelinesOfSegment,
} from '../archive/find-gaps.ts'
import {
  findListedTail,
  holdsWal,
  tailsAlong,
  listWal,
  rangesAlong,
  type WalListing,
} from '../archive/list-wal.ts'
import { type Progress, SILENT } from '../base/progress.ts'
import { pathOf, type TimelineHistory, timelineStart } from '../postgres/history-file.ts'
import {
  formatLsn,
  formatSegmentName,
  type Lsn,
  parseSegmentName,
  previousSegmentNumber,
  segmentNumber,
  segmentStart,
  type Timeline,
} from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { type BackupList, listBackups } from '../repository/read-backups.ts'
import { listSystemIdentities } from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'
import { backupsOnPath, stoppedAt } from './choose-backup.ts'
import { consistencyLsn, findPath, recordLsn } from './choose-timeline.ts'
import { formatTime } from './parse-target.ts'
import { breaksAlong, firstBreak, lastBefore } from './window-breaks.ts'
import { type RecordedReason, readReason } from './recorded-reason.ts'
import {
  findEnd,
  findMomentBehind,
  type IntervalEnd,
  type SegmentDamage,
  type WindowSource,
} from './window-ends.ts'
import { findWalWithoutBackup, type WalWithoutBackup } from './wal-without-backup.ts'

export interface SegmentGap {
  readonly timeline: Timeline
  readonly first: string
  readonly last: string
  readonly segments: number
}

/** From the end of the first backup on, every moment up to the end can be recovered. */
export interface PlannedInterval {
  /** The timeline to follow: the last of the path. */
  readonly timeline: Timeline
  readonly path: TimelineHistory
  /** Oldest first. */
  readonly backups: readonly BackupRecord[]
  readonly lastSegment: bigint
  readonly lastSegmentName: string
  /** The name of the segment behind it of which what was flushed is there. */
  readonly tail: string | undefined
  /** What ends it: a gap, a break in the WAL (or one behind the other), or the archive's end. */
  readonly gap: SegmentGap | undefined
  readonly break?: BreakPlace | undefined
  /** Marks of full_page_writes=off within it. */
  readonly withoutPageWrites?: readonly BreakPlace[]
}

export interface UnusableBackup {
  readonly backup: BackupRecord
  /** The segment that is missing, or in which the WAL breaks off. */
  readonly missing: string
  /** Not missing: what breaks there. */
  readonly break?: BreakPlace | undefined
}

export interface PlannedWindow {
  readonly intervals: readonly PlannedInterval[]
  /** Backups that cannot even reach their own end, with the first segment they lack. */
  readonly unusable: readonly UnusableBackup[]
}

export function planWindow(backups: readonly BackupRecord[], archive: WalListing): PlannedWindow {
  const intervals: PlannedInterval[] = []
  const unusable = new Map<string, UnusableBackup>()
  const covered = new Set<string>()
  for (const path of leafPaths(archive, backups)) {
    const archived = rangesAlong(archive, path)
    const size = archive.walSegmentSizeBytes
    const tails = tailsAlong(archive, path)
    const breaks = breaksAlong(archive, path)
    for (const backup of backupsOnPath(backups, path).reverse()) {
      const whole = reachOf(size, archived, tails, path, backup, archive.expired)
      const reach = cutAtBreak(whole, breaks, path, backup, size)
      if (reach.missing !== undefined) {
        if (!covered.has(backup.id)) {
          const { missing, break: at } = reach
          unusable.set(backup.id, { backup, missing, ...(at && { break: at }) })
        }
        continue
      }
      addTo(intervals, archive, path, backup, { ...reach, breaks })
      covered.add(backup.id)
      unusable.delete(backup.id)
    }
  }
  return { intervals: withoutRepeats(intervals), unusable: [...unusable.values()] }
}

/** Newest leaf first: its intervals hold what older branches share with it. */
function leafPaths(archive: WalListing, backups: readonly BackupRecord[]): TimelineHistory[] {
  const known = new Set<Timeline>([
    ...archive.timelines.filter((one) => holdsWal(archive, one)).map(({ timeline }) => timeline),
    ...backups.map(({ timeline }) => timeline),
  ])
  return [...known]
    .sort((a, b) => b - a)
    .map((timeline) => findPath(archive, timeline))
    .filter((path) => path !== undefined)
}

interface Reach {
  readonly lastSegment: bigint
  readonly gap: SegmentGap | undefined
  /** Set when the backup lacks WAL of its own. */
  readonly missing: string | undefined
  readonly break?: BreakPlace | undefined
}

/** A break counts before a gap; one that begins right behind a gap says why it is there. */
function cutAtBreak(
  reach: Reach,
  breaks: readonly BreakPlace[],
  path: TimelineHistory,
  backup: BackupRecord,
  size: number,
): Reach {
  const found = firstBreak(breaks, recordLsn(backup.startLsn))
  if (found === undefined || reach.missing !== undefined) return reach
  const last = lastBefore(found, size)
  if (last > reach.lastSegment) {
    const behindGap = parseSegmentName(reach.gap?.last ?? '', size)?.segment
    return found.kind === 'reset' && behindGap === last ? { ...reach, break: found } : reach
  }
  if (found.lsn < consistencyLsn(backup)) {
    const segment = segmentNumber(found.lsn, size)
    const missing = formatSegmentName(timelineOfSegment(path, segment, size), segment, size)
    return { ...reach, missing, break: found }
  }
  return { lastSegment: last, gap: undefined, missing: undefined, break: found }
}

/** `archived`: the ranges along the path; `tails`: segments that only a tail is there of. */
function reachOf(
  size: number,
  archived: readonly SegmentRange[],
  tails: readonly bigint[],
  path: TimelineHistory,
  backup: BackupRecord,
  expired: ExpiredWalMark | undefined,
): Reach {
  const nameOf = (segment: bigint): string =>
    formatSegmentName(timelineOfSegment(path, segment, size), segment, size)
  const needed = previousSegmentNumber(consistencyLsn(backup), size)
  const first = segmentNumber(recordLsn(backup.startLsn), size)
  const { holding, after } = findRange(archived, first)
  const end = holding === undefined ? first : holding.last + 1n
  const tailBehind = tails.find((one) => one >= end && !tails.includes(end))
  if (end <= needed) return { lastSegment: end, gap: undefined, missing: nameOf(end) }
  const next = after?.first ?? tailBehind
  if (next === undefined) return { lastSegment: end - 1n, gap: undefined, missing: undefined }
  const gap = {
    timeline: timelineOfSegment(path, end, size),
    first: nameOf(end),
    last: nameOf(next - 1n),
    segments: Number(next - end),
  }
  const isOpen = [end, next - 1n].every((one) =>
    isLetGo(expired, timelineOfSegment(path, one, size), one),
  )
  // What was let go on purpose is nothing to bring back.
  return { lastSegment: end - 1n, gap: isOpen ? undefined : gap, missing: undefined }
}

function addTo(
  intervals: PlannedInterval[],
  archive: WalListing,
  path: TimelineHistory,
  backup: BackupRecord,
  reach: Reach & { readonly breaks: readonly BreakPlace[] },
): void {
  const { lastSegment, gap, break: at } = reach
  const same = intervals.findIndex(
    (one) =>
      one.timeline === path.timeline &&
      one.lastSegment === lastSegment &&
      one.break?.lsn === at?.lsn,
  )
  const known = intervals[same]
  if (known !== undefined) {
    intervals[same] = { ...known, backups: [...known.backups, backup] }
    return
  }
  const size = backup.sizes.walSegmentSizeBytes
  const timeline = timelineOfSegment(path, lastSegment, size)
  const lastSegmentName = formatSegmentName(timeline, lastSegment, size)
  const { timeline: leaf } = path
  const next = lastSegment + 1n
  const tail =
    at === undefined
      ? findListedTail(archive, timelinesOfSegment(path, next, size), next)
      : undefined
  const from = consistencyLsn(backup)
  const end = at?.lsn ?? segmentStart(next, size)
  const withoutPageWrites = reach.breaks.filter(
    ({ kind, lsn }) => kind === 'fpw-off' && lsn >= from && lsn < end,
  )
  const last = { lastSegment, lastSegmentName, tail }
  intervals.push({
    timeline: leaf,
    path,
    backups: [backup],
    ...last,
    gap,
    break: at,
    withoutPageWrites,
  })
}

/** An older branch is only shown where it holds what no newer one does. */
function withoutRepeats(intervals: readonly PlannedInterval[]): PlannedInterval[] {
  return intervals.filter((interval) => {
    const newer = intervals.filter((one) => one.timeline > interval.timeline)
    return !newer.some(
      (one) =>
        pathOf(one.path).includes(interval.timeline) &&
        isBehindFork(interval, one.path) &&
        interval.backups.every((backup) => one.backups.includes(backup)),
    )
  })
}

/** Does the interval end before (or in the segment where) the path leaves its timeline? */
function isBehindFork(interval: PlannedInterval, path: TimelineHistory): boolean {
  const timelines = pathOf(path)
  const next = timelines[timelines.indexOf(interval.timeline) + 1]
  if (next === undefined) return true
  const size = interval.backups[0]?.sizes.walSegmentSizeBytes ?? 1
  const fork = timelineStart(path, next) ?? (0n as Lsn)
  return interval.lastSegment <= segmentNumber(fork, size)
}

export interface WindowPoint {
  /** ISO 8601 UTC; undefined where nothing in the WAL tells. */
  readonly time: string | undefined
  readonly lsn: string
}

/** A gap with its moments: what was done between them is lost unless the segments turn up. */
export interface DatedGap extends SegmentGap {
  /** The last moment before it; undefined where nothing in the WAL tells. */
  readonly since: string | undefined
  /** The first moment behind it. */
  readonly until: string | undefined
  /** What a receiver has recorded of it. */
  readonly recorded: RecordedReason | undefined
}

/** What an interval ends with (docs/design/recovery.md, section 9). */
export type WindowEnd = 'archive' | 'gap' | 'damage' | 'minimal' | 'reset'

export interface WindowInterval {
  readonly timeline: Timeline
  readonly backups: readonly string[]
  readonly from: { readonly time: string; readonly lsn: string }
  readonly to: WindowPoint
  readonly lastSegment: string
  /** The segment behind it, of which what was flushed is there: the interval reaches into it. */
  readonly tail: string | undefined
  readonly end: WindowEnd
  readonly gap: DatedGap | undefined
  /** Only of the last segments, those that are read for the moment of the end. */
  readonly damage: SegmentDamage | undefined
  /** LSN of the record behind which no recovery goes on, where the WAL breaks off. */
  readonly brokenAt?: string
  /** LSNs at which full_page_writes was turned off. Every moment can be recovered even so. */
  readonly withoutPageWritesFrom?: readonly string[]
}

export interface RecoveryWindow {
  readonly systemIdentifier: string | undefined
  /** By timeline (newest first), then by time. */
  readonly intervals: readonly WindowInterval[]
  readonly unusable: readonly {
    readonly backup: string
    readonly missing: string
    /** The segment is there: the WAL breaks off in it. */
    readonly brokenAt?: string
  }[]
  /** By timeline: archived WAL from which nothing can be recovered. */
  readonly withoutBackup: readonly WalWithoutBackup[]
  /** Records of backups that cannot be read. */
  readonly damaged: readonly { readonly backup: string; readonly because: string }[]
}

/** Of the server of the newest backup. Nothing to show is no failure. */
export async function readWindow(
  storage: Storage,
  cluster: string,
  progress: Progress = SILENT,
): Promise<RecoveryWindow> {
  const listed = await listBackups(storage, cluster)
  const systemIdentifier =
    listed.backups.at(-1)?.systemIdentifier ?? (await findOnlySystem(storage, cluster))
  const archive =
    systemIdentifier === undefined ? undefined : await listWal(storage, cluster, systemIdentifier)
  return await describeWindow({ storage, cluster, listed, archive, progress })
}

/** Before the first backup: the server that archives, where there is only one. */
async function findOnlySystem(storage: Storage, cluster: string): Promise<string | undefined> {
  const [only, other] = await listSystemIdentities(storage, cluster)
  return other === undefined ? only?.systemIdentifier : undefined
}

export interface ListedCluster {
  readonly storage: Storage
  readonly cluster: string
  readonly listed: BackupList
  /** Of the server of the newest backup, or of the only one; undefined when there is none. */
  readonly archive: WalListing | undefined
  readonly progress?: Progress
}

/** As readWindow(), for whoever has listed everything already. */
export async function describeWindow(input: ListedCluster): Promise<RecoveryWindow> {
  const { storage, cluster, listed, archive, progress = SILENT } = input
  const damaged = listed.damaged.map(({ backupId, failure }) => ({
    backup: backupId,
    because: failure.message,
  }))
  const systemIdentifier = listed.backups.at(-1)?.systemIdentifier ?? archive?.systemIdentifier
  const backups = listed.backups.filter((one) => one.systemIdentifier === systemIdentifier)
  if (systemIdentifier === undefined || archive === undefined) {
    return { systemIdentifier, intervals: [], unusable: [], withoutBackup: [], damaged }
  }
  const plan = planWindow(backups, archive)
  const intervals: WindowInterval[] = []
  for (const interval of plan.intervals) {
    intervals.push(await describeInterval(interval, { storage, cluster, archive, progress }))
  }
  const unusable = plan.unusable.map(({ backup, missing, break: at }) => ({
    backup: backup.id,
    missing,
    ...(at && { brokenAt: formatLsn(at.lsn) }),
  }))
  const withoutBackup = findWalWithoutBackup(plan.intervals, archive)
  return { systemIdentifier, intervals, unusable, withoutBackup, damaged }
}

async function describeInterval(
  interval: PlannedInterval,
  source: WindowSource,
): Promise<WindowInterval> {
  const first = interval.backups[0] as BackupRecord
  const end = await findEnd(interval, source)
  const to = endPoint(interval.backups, end)
  const { gap, break: at, withoutPageWrites = [] } = interval
  const dated = gap === undefined ? undefined : await dateGap(gap, to, interval, source)
  return {
    timeline: interval.timeline,
    backups: interval.backups.map(({ id }) => id),
    from: { time: first.stoppedAt, lsn: formatLsn(consistencyLsn(first)) },
    to,
    lastSegment: interval.lastSegmentName,
    tail: interval.tail,
    end: kindOfEnd(end, interval),
    gap: dated,
    damage: end.damage,
    ...(at && { brokenAt: formatLsn(at.lsn) }),
    ...(withoutPageWrites.length > 0 && {
      withoutPageWritesFrom: withoutPageWrites.map(({ lsn }) => formatLsn(lsn)),
    }),
  }
}

async function dateGap(
  gap: SegmentGap,
  to: WindowPoint,
  interval: PlannedInterval,
  source: WindowSource,
): Promise<DatedGap> {
  const until = await findMomentBehind(gap, interval, source)
  const recorded = await readReason(source.storage, source.archive, gap)
  return { ...gap, since: to.time, until, recorded }
}

/** The first of them in the WAL: gaps and breaks are behind what was read. */
function kindOfEnd(end: IntervalEnd, { gap, break: at }: PlannedInterval): WindowEnd {
  if (end.isMinimal) return 'minimal'
  if (end.damage !== undefined) return 'damage'
  if (at !== undefined && at.kind !== 'fpw-off') return at.kind
  return gap === undefined ? 'archive' : 'gap'
}

/**
 * The end of an interval: what its last records say, or the end of its newest backup where
 * that is later, since a backup's own WAL may hold no record with so late a time. Never
 * before the interval's begin: one that damage leaves nothing of is a point.
 */
export function endPoint(
  backups: readonly BackupRecord[],
  end: { readonly lsn: Lsn; readonly time: bigint | undefined; readonly damage?: unknown },
): WindowPoint {
  const [first] = backups as readonly [BackupRecord]
  const usable = backups.filter(
    (backup) => end.damage === undefined || consistencyLsn(backup) <= end.lsn,
  )
  const last = usable.at(-1) ?? first
  const least = consistencyLsn(last)
  const time = stoppedAt(last)
  return {
    lsn: formatLsn(end.lsn > least ? end.lsn : least),
    time: formatTime(end.time !== undefined && end.time > time ? end.time : time),
  }
}
