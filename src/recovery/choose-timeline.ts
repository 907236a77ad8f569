/**
 * Chooses the path of timelines that a recovery follows. Pure.
 *
 * Invariant: a path is only followed by its number, and every branch that is not followed
 * is told. `recovery_target_timeline = 'latest'` would follow whatever was archived last.
 */
import { holdsWal, type WalListing, type WalTimeline } from '../archive/list-wal.ts'
import { Failure } from '../base/failure.ts'
import { includes, NO_ANCESTORS, pathOf, type TimelineHistory } from '../postgres/history-file.ts'
import { formatLsn, type Lsn, parseLsn, type Timeline } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'

export interface ChosenTimeline {
  readonly path: TimelineHistory
  /** Branches with archived segments that are not on the path. */
  readonly others: readonly TimelineHistory[]
  readonly notes: readonly string[]
}

/** The LSN of a record's text; records are checked when they are read. */
export function recordLsn(text: string): Lsn {
  const parsed = parseLsn(text)
  if (parsed === undefined) throw new Error(`not an LSN: ${text}`)
  return parsed
}

/** After this LSN the backup is consistent: its stop, from a standby also its minimum. */
export function consistencyLsn(backup: BackupRecord): Lsn {
  const stop = recordLsn(backup.stopLsn)
  if (backup.minRecoveryLsn === undefined) return stop
  const minimum = recordLsn(backup.minRecoveryLsn)
  return minimum > stop ? minimum : stop
}

/**
 * The timeline asked for, else the newest with archived segments that contains `anchor`,
 * the newest backup. TM1208 when there is none of that number or it has no history.
 */
export function chooseTimeline(
  archive: WalListing,
  anchor: BackupRecord,
  requested: Timeline | undefined,
): ChosenTimeline {
  const path = requested === undefined ? newestPath(archive, anchor) : pathTo(archive, requested)
  const onPath = new Set(pathOf(path))
  const others = archive.timelines
    .filter((one) => holdsWal(archive, one) && !onPath.has(one.timeline))
    .map((timeline) => historyOf(timeline))
    .filter((history) => history !== undefined)
  return { path, others, notes: others.map((other) => describeOther(other, path)) }
}

function newestPath(archive: WalListing, anchor: BackupRecord): TimelineHistory {
  const own: TimelineHistory = findPath(archive, anchor.timeline) ?? {
    timeline: anchor.timeline,
    ancestors: NO_ANCESTORS,
  }
  const stop = recordLsn(anchor.stopLsn)
  const paths = archive.timelines
    .filter((one) => holdsWal(archive, one))
    .map(({ timeline }) => findPath(archive, timeline))
    .filter((path) => path !== undefined && includes(path, anchor.timeline, stop))
  return (paths.at(-1) as TimelineHistory | undefined) ?? own
}

function pathTo(archive: WalListing, timeline: Timeline): TimelineHistory {
  const path = findPath(archive, timeline)
  if (path !== undefined) return path
  const listed = archive.timelines.find((one) => one.timeline === timeline)
  const known = archive.timelines.map((one) => one.timeline).join(', ')
  throw new Failure('TM1208', {
    message: `timeline ${timeline} cannot be followed`,
    because: reasonFor(timeline, listed),
    fix: `choose one of the archived timelines (${known}), or leave --timeline out`,
    details: { timeline, archived: archive.timelines.map((one) => one.timeline) },
    ...(listed?.historyFailure === undefined ? {} : { cause: listed.historyFailure }),
  })
}

function reasonFor(timeline: Timeline, listed: WalTimeline | undefined): string {
  if (listed === undefined) return 'the archive holds nothing of it'
  if (listed.historyFailure !== undefined) return listed.historyFailure.message
  return `its history file is not archived, so where timeline ${timeline} came from is not known`
}

export function findPath(archive: WalListing, timeline: Timeline): TimelineHistory | undefined {
  const listed = archive.timelines.find((one) => one.timeline === timeline)
  return listed === undefined ? undefined : historyOf(listed)
}

/** Only timeline 1 (initdb's) has no history file (readTimeLineHistory). */
function historyOf(listed: WalTimeline): TimelineHistory | undefined {
  if (listed.history !== undefined) return listed.history
  if (listed.timeline === 1) return { timeline: 1, ancestors: NO_ANCESTORS }
  return undefined
}

function describeOther(other: TimelineHistory, path: TimelineHistory): string {
  const from = other.ancestors.at(-1)
  const origin =
    from === undefined ? '' : ` (it left timeline ${from.timeline} at ${formatLsn(from.endLsn)})`
  return (
    `timeline ${other.timeline}${origin} is archived too and not followed: the recovery ` +
    `follows timeline ${path.timeline}; --timeline ${other.timeline} chooses the other`
  )
}
