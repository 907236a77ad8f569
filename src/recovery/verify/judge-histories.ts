/**
 * Do the archived timeline histories hold together, with each other, with the segments and
 * with the backups? Pure.
 */
import type { WalListing, WalTimeline } from '../../archive/list-wal.ts'
import { badHistory } from '../../archive/find-history.ts'
import { walPrefix } from '../../archive/wal-file-name.ts'
import { Failure } from '../../base/failure.ts'
import { historyFileName, sameAncestors } from '../../postgres/history-file.ts'
import {
  formatLsn,
  formatSegmentName,
  type Lsn,
  segmentNumber,
  segmentStart,
} from '../../postgres/lsn.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import { missingObject } from '../../repository/envelope.ts'
import type { PlannedWindow } from '../window.ts'

export interface HistoryProblem {
  readonly key: string
  readonly failure: Failure
  /** Backups that cannot be recovered along any path because of it. */
  readonly backups: readonly string[]
  /** Where the WAL begins that cannot be followed without it. */
  readonly from: Lsn | undefined
}

export function judgeHistories(
  archive: WalListing,
  backups: readonly BackupRecord[],
  plan: PlannedWindow,
  cluster: string,
): HistoryProblem[] {
  const planned = new Set([
    ...plan.intervals.flatMap((interval) => interval.backups.map(({ id }) => id)),
    ...plan.unusable.map(({ backup }) => backup.id),
  ])
  const stranded = backups.filter(({ id }) => !planned.has(id))
  const timelines = new Set([
    ...archive.timelines.map(({ timeline }) => timeline),
    ...stranded.map(({ timeline }) => timeline),
  ])
  const problems: HistoryProblem[] = []
  for (const timeline of timelines) {
    const key = walPrefix(cluster, archive.systemIdentifier) + historyFileName(timeline)
    const listed = archive.timelines.find((one) => one.timeline === timeline)
    const own = stranded.filter((backup) => backup.timeline === timeline)
    const failure = judge(archive, timeline, listed, key)
    const first = listed?.ranges[0]?.first
    const from = first === undefined ? undefined : segmentStart(first, archive.walSegmentSizeBytes)
    if (failure !== undefined) {
      problems.push({ key, failure, backups: own.map(({ id }) => id), from })
    }
    if (failure === undefined && own.length > 0) problems.push(noWal(key, own))
  }
  return problems
}

function judge(
  archive: WalListing,
  timeline: number,
  listed: WalTimeline | undefined,
  key: string,
): Failure | undefined {
  if (listed?.historyFailure !== undefined) return mendable(listed.historyFailure)
  const history = listed?.history
  if (history === undefined) {
    if (timeline === 1) return undefined
    return mendable(missingObject(key, `WAL of timeline ${timeline}`))
  }
  for (const [index, ancestor] of history.ancestors.entries()) {
    const older = archive.timelines.find((one) => one.timeline === ancestor.timeline)?.history
    const before = history.ancestors.slice(0, index)
    if (older === undefined || sameAncestors(before, older.ancestors)) continue
    return badHistory(key, `the history of timeline ${ancestor.timeline} names other ancestors`)
  }
  return judgeFork(archive, listed as WalTimeline, key)
}

/** A timeline begins in the segment of its fork (XLogInitNewTimeline). */
function judgeFork(archive: WalListing, listed: WalTimeline, key: string): Failure | undefined {
  const fork = listed.history?.ancestors.at(-1)?.endLsn
  const first = listed.ranges[0]?.first
  const size = archive.walSegmentSizeBytes
  if (fork === undefined || first === undefined || first >= segmentNumber(fork, size)) {
    return undefined
  }
  const name = formatSegmentName(listed.timeline, first, size)
  return badHistory(key, `it forks at ${formatLsn(fork)}, and segment ${name} lies before that`)
}

function mendable(failure: Failure): Failure {
  return new Failure(failure.code, {
    message: failure.message,
    ...(failure.because === undefined ? {} : { because: failure.because }),
    fix:
      'bring the .history file from the pg_wal of the server or of a standby: ' +
      'tidemark wal push FILE',
    cause: failure,
  })
}

function noWal(key: string, own: readonly BackupRecord[]): HistoryProblem {
  const failure = new Failure('TM1408', {
    message: `no archived WAL leads on from backups ${own.map(({ id }) => id).join(', ')}`,
    because: 'their timeline was left before they ended, by all histories that are archived',
    fix: 'compare the histories with those in the pg_wal of the server and its standbys',
    details: { key },
  })
  return { key, failure, backups: own.map(({ id }) => id), from: undefined }
}
