/**
 * Finds where a recovery starts and where it stops: the timeline, the backup, the record.
 * Reads the archive and writes nothing; what cannot be reached is refused here, with the
 * nearest target that can be.
 */
import type { WalListing } from '../archive/list-wal.ts'
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import {
  formatLsn,
  type Lsn,
  parseSegmentName,
  previousSegmentNumber,
  type Timeline,
} from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import type { PassedOverListener } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import {
  backupsBeforeLsn,
  backupsBeforeTime,
  backupsOnPath,
  noBackupFor,
  stoppedAt,
} from './choose-backup.ts'
import {
  type ChosenTimeline,
  chooseTimeline,
  consistencyLsn,
  recordLsn,
} from './choose-timeline.ts'
import {
  type RecoveryTarget,
  type ReplayFacts,
  TargetSearch,
  type Verdict,
  type WalEnd,
} from './judge-target.ts'
import { formatTarget, type Target } from './parse-target.ts'
import { refuseTarget } from './refuse-target.ts'
import { scanToTarget } from './scan-to-target.ts'
import type { NeededTail } from './write-tails.ts'

export interface FindTargetOptions {
  readonly cluster: string
  readonly storages: readonly Storage[]
  readonly onPassedOver?: PassedOverListener
  /** Of one system identifier. */
  readonly backups: readonly BackupRecord[]
  readonly archive: WalListing
  readonly target: Target
  readonly timeline: Timeline | undefined
  /** Id of the backup to start from, where the user insists on one. */
  readonly backup: string | undefined
  readonly progress: Progress
}

export interface FoundTarget {
  readonly backup: BackupRecord
  readonly path: TimelineHistory
  /**
   * For recovery_target_timeline: the path's own even when the target lies before its
   * fork, since the fork's segment may be archived under the new timeline only.
   */
  readonly timeline: Timeline
  readonly stop: RecoveryTarget
  readonly replayEnd: Lsn
  readonly atArchiveEnd: boolean
  /**
   * Replay must not read on: WAL behind the target was not read, so it may have a hole or be
   * damaged, and from 15 on replay asks for it before it has reached the target.
   */
  readonly mayFaultFollow: boolean
  readonly segments: readonly string[]
  /**
   * Of which only what was flushed was there. Also those behind the last replayed record: the one
   * that replay stops before must be read.
   */
  readonly tails: readonly NeededTail[]
  readonly facts: ReplayFacts
  readonly notes: readonly string[]
}

/** What one backup's WAL said about the target. */
export interface Attempt {
  readonly backup: BackupRecord
  readonly verdict: Verdict
  readonly end: WalEnd
  readonly search: TargetSearch
  readonly segments: readonly string[]
  readonly tails: readonly NeededTail[]
}

/** Failures: TM1202 to TM1209, TM1224. */
export async function findTarget(options: FindTargetOptions): Promise<FoundTarget> {
  const anchor = anchorOf(options)
  const chosen = chooseTimeline(options.archive, anchor, options.timeline)
  const candidates = candidatesFor(options, chosen.path)
  options.progress.phase('reading and checking WAL', undefined, 'segments')
  const attempts: Attempt[] = []
  let limit: Lsn | undefined
  for (const backup of candidates) {
    const attempt = await search(options, chosen, backup, limit)
    if (attempt.verdict.kind === 'reached') return found(chosen, attempt, attempt.verdict, options)
    attempts.push(attempt)
    if (!helpsToStartEarlier(options.target, attempt)) break
    limit = attempt.verdict.kind === 'before-consistency' ? undefined : consistencyLsn(backup)
  }
  throw await refuseTarget(options, chosen, attempts)
}

/** The backup whose timeline is followed when none is named: the newest. */
function anchorOf(options: FindTargetOptions): BackupRecord {
  const { backups, target, cluster } = options
  const named = options.backup ?? (target.kind === 'backup' ? target.backup : undefined)
  const anchor =
    named === undefined ? backups.at(-1) : backups.find((backup) => backup.id === named)
  if (anchor !== undefined) return anchor
  if (named === undefined) throw noBackupFor(cluster, formatTarget(target), [])
  throw new Failure('TM1505', {
    message: `there is no backup ${named} of ${cluster}`,
    because: 'the repository holds no record of that id',
    fix: `tidemark list ${cluster}`,
    details: { backup: named },
  })
}

/** The backups that may begin this recovery, in the order in which they are tried. */
function candidatesFor(options: FindTargetOptions, path: TimelineHistory): BackupRecord[] {
  const { target, backups, cluster } = options
  const onPath = backupsOnPath(backups, path)
  const named = options.backup ?? (target.kind === 'backup' ? target.backup : undefined)
  const allowed = named === undefined ? onPath : onPath.filter(({ id }) => id === named)
  let candidates = allowed
  if (target.kind === 'lsn') candidates = backupsBeforeLsn(allowed, target.lsn)
  if (target.kind === 'time') candidates = backupsBeforeTime(allowed, target.time)
  if (candidates.length === 0) throw noBackupFor(cluster, formatTarget(target), allowed)
  return candidates
}

async function search(
  options: FindTargetOptions,
  chosen: ChosenTimeline,
  backup: BackupRecord,
  limit: Lsn | undefined,
): Promise<Attempt> {
  const consistency = consistencyLsn(backup)
  const targetSearch = new TargetSearch(options.target, consistency, limit)
  const source = { ...options, path: chosen.path }
  const scan = await scanToTarget(source, { at: recordLsn(backup.startLsn) }, targetSearch)
  const { minimal } = targetSearch
  const end: WalEnd = minimal === undefined ? scan.end : { kind: 'minimal', lsn: minimal }
  const covers = (time: Microseconds): boolean => isCovered(options, chosen.path, time)
  const verdict = targetSearch.conclude(end, covers)
  const { segments, tails } = scan
  return { backup, verdict, end, search: targetSearch, segments, tails }
}

/** A backup of this path that stopped at `time` or later needed all WAL up to its stop. */
function isCovered(options: FindTargetOptions, path: TimelineHistory, time: Microseconds): boolean {
  return backupsOnPath(options.backups, path).some((backup) => stoppedAt(backup) >= time)
}

/**
 * Does an older backup have a chance? A hole that lies between this one and the target
 * lies between an older one and the target as well.
 */
function helpsToStartEarlier(target: Target, attempt: Attempt): boolean {
  if (attempt.verdict.kind === 'before-consistency') return true
  if (attempt.verdict.kind !== 'short') return false
  if (target.kind === 'xid' || target.kind === 'name') return true
  return target.kind === 'end-of-gap'
}

function found(
  chosen: ChosenTimeline,
  attempt: Attempt,
  verdict: Extract<Verdict, { kind: 'reached' }>,
  options: FindTargetOptions,
): FoundTarget {
  const { path } = chosen
  const { stop, replayEnd, atArchiveEnd } = verdict
  return {
    backup: attempt.backup,
    path,
    timeline: path.timeline,
    stop,
    replayEnd,
    atArchiveEnd,
    mayFaultFollow: attempt.end.kind !== 'archive-end',
    segments: neededSegments(attempt, replayEnd),
    tails: attempt.tails,
    facts: attempt.search.facts(),
    notes: [...chosen.notes, ...notesOn(options.target, attempt, verdict)],
  }
}

/** A search may have read on behind the target. */
function neededSegments(attempt: Attempt, replayEnd: Lsn): string[] {
  const size = attempt.backup.sizes.walSegmentSizeBytes
  const last = previousSegmentNumber(replayEnd, size)
  return attempt.segments.filter((name) => {
    const segment = parseSegmentName(name, size)?.segment
    return segment !== undefined && segment <= last
  })
}

function notesOn(
  target: Target,
  attempt: Attempt,
  verdict: Extract<Verdict, { kind: 'reached' }>,
): string[] {
  const { end } = attempt
  const at = formatLsn(verdict.replayEnd)
  if (target.kind === 'time' && verdict.atArchiveEnd) {
    return [`no transaction ended after that time: recovery goes to the end of the WAL (${at})`]
  }
  if (target.kind === 'lsn' && verdict.atArchiveEnd) {
    return [`no record starts at or after that LSN: recovery goes to the end of the WAL (${at})`]
  }
  if (target.kind !== 'end-of-gap') return []
  if (end.kind === 'hole') return [`recovery stops at ${at}, before the hole at ${end.first}`]
  if (end.kind === 'damage') return [`recovery stops at ${at}, before damage in ${end.segment}`]
  return [`the archive has no gap after the backup: recovery goes to its end (${at})`]
}
