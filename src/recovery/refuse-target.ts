/**
 * The refusals of targets that cannot be reached: what is in the way, and the nearest
 * target that can be reached. Reads other branches only to say where a transaction is.
 */
import type { WalListing } from '../archive/list-wal.ts'
import { Failure } from '../base/failure.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { formatLsn, type Lsn } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import { stoppedAt } from './choose-backup.ts'
import { type ChosenTimeline, findPath } from './choose-timeline.ts'
import type { Attempt, FindTargetOptions } from './find-target.ts'
import { TargetSearch } from './judge-target.ts'
import { formatTarget, formatTime, type Target } from './parse-target.ts'
import { scanToTarget } from './scan-to-target.ts'

/** `attempts`: what each backup's WAL said, newest backup first. */
export async function refuseTarget(
  options: FindTargetOptions,
  chosen: ChosenTimeline,
  attempts: readonly Attempt[],
): Promise<Failure> {
  const aborted = attempts.find(({ verdict }) => verdict.kind === 'aborted')
  if (aborted !== undefined) return refuseAborted(options, aborted)
  const blocked = attempts.find(({ end }) => end.kind !== 'stopped' && end.kind !== 'archive-end')
  if (blocked !== undefined) return refuseBlocked(options, blocked)
  const { target } = options
  if (target.kind === 'xid' || target.kind === 'name') {
    const elsewhere = await findElsewhere(options, chosen)
    if (elsewhere !== undefined) return refuseAbandoned(options, chosen, elsewhere)
    return refuseUnknown(options, attempts)
  }
  const last = attempts.at(-1) as Attempt
  if (last.verdict.kind === 'before-consistency') return refuseEarly(options, last)
  return refuseBeyond(options, attempts[0] as Attempt)
}

function cannot(options: FindTargetOptions): string {
  return `cannot recover ${options.cluster} to ${formatTarget(options.target)}`
}

/** `14:03:11 (0/5A000028, timeline 1)`: how far the records go that were read. */
function reach(attempt: Attempt): { text: string; lsn: string; time: string | undefined } {
  const last = attempt.search.last
  const lsn = formatLsn(last?.endLsn ?? (0n as Lsn))
  const newest: Microseconds | undefined = attempt.search.facts().newestMoment
  const time = newest === undefined ? undefined : formatTime(newest)
  return { text: time === undefined ? lsn : `${time} (${lsn})`, lsn, time }
}

function refuseBlocked(options: FindTargetOptions, attempt: Attempt): Failure {
  const { end } = attempt
  const { text, lsn, time } = reach(attempt)
  const details = { nearest: 'end-of:gap', endLsn: lsn, endTime: time }
  const consistent = attempt.search.canStopAtLast
  const upTo = consistent
    ? `recover up to there: --to end-of:gap (${text})`
    : `start from an earlier backup, or recover with a later one`
  switch (end.kind) {
    case 'hole': {
      const names = end.first === end.last ? end.first : `${end.first} to ${end.last}`
      return new Failure('TM1204', {
        message: cannot(options),
        because: `the WAL archive has a hole before it: ${names} is not archived`,
        fix: `${upTo}, or bring the segment from an old pg_wal: tidemark wal push FILE`,
        details: { ...details, missingFirst: end.first, missingLast: end.last },
      })
    }
    case 'damage':
      return new Failure('TM1209', {
        message: cannot(options),
        because: `segment ${end.segment} is damaged: ${end.because}`,
        fix: `${upTo}, or bring an intact copy from an old pg_wal: tidemark wal push FILE`,
        details: { ...details, segment: end.segment },
      })
    default: {
      const at = end.kind === 'minimal' ? formatLsn(end.lsn) : lsn
      return new Failure('TM1224', {
        message: cannot(options),
        because: `from ${at} on the server wrote WAL with wal_level=minimal`,
        fix: `recover to just before it: --to before:lsn:${at}`,
        details: { nearest: `before:lsn:${at}` },
      })
    }
  }
}

function refuseAborted(options: FindTargetOptions, attempt: Attempt): Failure {
  if (attempt.verdict.kind !== 'aborted') throw new Error('not aborted')
  const { xid, at } = attempt.verdict
  const place = formatLsn(at.lsn)
  return new Failure('TM1206', {
    message: cannot(options),
    because: `transaction ${xid} was rolled back at ${place}`,
    fix: `it changed nothing; to stop at its place: --to before:lsn:${place}`,
    details: { xid, lsn: place, nearest: `before:lsn:${place}` },
  })
}

function refuseUnknown(options: FindTargetOptions, attempts: readonly Attempt[]): Failure {
  const { target } = options
  const { text } = reach(attempts[0] as Attempt)
  const oldest = (attempts.at(-1) as Attempt).backup
  const range = `from backup ${oldest.id} (${oldest.startedAt}) up to ${text}`
  const what =
    target.kind === 'xid' ? `no end of transaction ${target.xid}` : 'no such restore point'
  const hint =
    target.kind === 'xid'
      ? 'check the number; a transaction that was still running has no end to recover to'
      : 'check the name; names are case-sensitive'
  return new Failure('TM1205', {
    message: cannot(options),
    because: `${what} is in the archived WAL ${range}`,
    fix: `${hint}; the end of the archive is --to latest`,
    details: { nearest: 'latest' },
  })
}

function refuseEarly(options: FindTargetOptions, attempt: Attempt): Failure {
  const { backup } = attempt
  const at = formatTime(stoppedAt(backup))
  return new Failure('TM1202', {
    message: cannot(options),
    because: `it lies before the end of the first backup, ${backup.id} (${at}, ${backup.stopLsn})`,
    fix: `the earliest moment that can be reached: --to backup:${backup.id}`,
    details: { nearest: `backup:${backup.id}`, earliest: at },
  })
}

function refuseBeyond(options: FindTargetOptions, attempt: Attempt): Failure {
  const { text, lsn, time } = reach(attempt)
  const timeline = attempt.segments.at(-1)?.slice(0, 8)
  const next = attempt.segments.at(-1)
  const needs =
    options.target.kind === 'time'
      ? 'nothing in it proves that no transaction is missing between that and the target'
      : 'the target lies after it'
  const isTime = options.target.kind === 'time' && time !== undefined
  const nearest = isTime ? `--to latest, or --to ${time}` : '--to latest'
  return new Failure('TM1203', {
    message: cannot(options),
    because: `the WAL archive ends at ${text}, and ${needs}`,
    fix:
      `recover to the end of the archive (${nearest}), or bring the segments after ` +
      `${next ?? 'it'} from the old server's pg_wal (tidemark wal push FILE)`,
    details: { nearest: 'latest', endLsn: lsn, endTime: time, lastSegment: next, timeline },
  })
}

interface Elsewhere {
  readonly timeline: number
  readonly lsn: Lsn
}

/** A transaction or restore point in WAL that the path does not go through. */
async function findElsewhere(
  options: FindTargetOptions,
  chosen: ChosenTimeline,
): Promise<Elsewhere | undefined> {
  for (const { path, from } of listAbandoned(options.archive, chosen)) {
    const search = new TargetSearch(withoutOrder(options.target), 0n as Lsn)
    await scanToTarget({ ...options, path }, { from }, search)
    const verdict = search.conclude({ kind: 'stopped' }, () => false)
    if (verdict.kind === 'reached' && search.last !== undefined) {
      return { timeline: path.timeline, lsn: search.last.lsn }
    }
  }
  return undefined
}

/** Branches beside the path, and what the timelines of the path went on with after it left. */
function listAbandoned(
  archive: WalListing,
  { path, others }: ChosenTimeline,
): { path: TimelineHistory; from: Lsn }[] {
  const branches = others.flatMap((branch) => {
    const from = branch.ancestors.at(-1)?.endLsn
    return from === undefined ? [] : [{ path: branch, from }]
  })
  const tails = path.ancestors.flatMap(({ timeline, endLsn }) => {
    const tail = findPath(archive, timeline)
    return tail === undefined ? [] : [{ path: tail, from: endLsn }]
  })
  return [...branches, ...tails]
}

function withoutOrder(target: Target): Target {
  return target.kind === 'xid' ? { ...target, inclusive: true } : target
}

function refuseAbandoned(
  options: FindTargetOptions,
  chosen: ChosenTimeline,
  elsewhere: Elsewhere,
): Failure {
  const { timeline, lsn } = elsewhere
  const at = formatLsn(lsn)
  return new Failure('TM1207', {
    message: cannot(options),
    because: `it is on timeline ${timeline} (${at}), which timeline ${chosen.path.timeline} left`,
    fix: `choose that timeline: --timeline ${timeline}`,
    details: { timeline, lsn: at, followed: chosen.path.timeline },
  })
}
