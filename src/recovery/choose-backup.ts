/**
 * Which backups can begin a recovery along a path of timelines. Pure.
 *
 * Invariant: a backup is offered only when all that it holds is part of the path and it
 * is consistent before the point where replay stops.
 */
import { Failure } from '../base/failure.ts'
import { includes, type TimelineHistory } from '../postgres/history-file.ts'
import { formatLsn, type Lsn } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { consistencyLsn } from './choose-timeline.ts'
import { formatTime, parseTime } from './parse-target.ts'

export function stoppedAt(backup: BackupRecord): Microseconds {
  return parseTime(backup.stoppedAt)
}

/** The backups on the path, newest (by LSN) first. */
export function backupsOnPath(
  backups: readonly BackupRecord[],
  path: TimelineHistory,
): BackupRecord[] {
  return backups
    .filter((backup) => includes(path, backup.timeline, consistencyLsn(backup)))
    .sort((a, b) => compare(consistencyLsn(b), consistencyLsn(a)))
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Newest first, those that are consistent at `lsn` or before. */
export function backupsBeforeLsn(candidates: readonly BackupRecord[], lsn: Lsn): BackupRecord[] {
  return candidates.filter((backup) => consistencyLsn(backup) <= lsn)
}

/** Newest first, those that ended at `time` or before by the server's clock. */
export function backupsBeforeTime(
  candidates: readonly BackupRecord[],
  time: Microseconds,
): BackupRecord[] {
  return candidates.filter((backup) => stoppedAt(backup) <= time)
}

/** TM1202: nothing to start from; names the earliest moment that can be reached. */
export function noBackupFor(
  cluster: string,
  target: string,
  candidates: readonly BackupRecord[],
): Failure {
  const earliest = candidates.at(-1)
  if (earliest === undefined) {
    return new Failure('TM1202', {
      message: `cannot recover ${cluster} to ${target}`,
      because: 'there is no backup of it on the chosen timeline',
      fix: `take one: tidemark backup ${cluster}`,
    })
  }
  const at = formatTime(stoppedAt(earliest))
  return new Failure('TM1202', {
    message: `cannot recover ${cluster} to ${target}`,
    because:
      `the first backup that could begin it, ${earliest.id}, ended at ${at} ` +
      `(${formatLsn(consistencyLsn(earliest))}), after the target`,
    fix: `the earliest moment that can be reached: --to backup:${earliest.id}`,
    details: { nearest: `backup:${earliest.id}`, earliest: at },
  })
}
