/**
 * What is streamed next: a pure decision from where the archive ends and what the server's
 * history says (docs/design/receive.md, sections 5 and 6).
 */
import { Failure } from '../base/failure.ts'
import {
  pathOf,
  type TimelineHistory,
  timelineEnd,
  timelineStart,
} from '../postgres/history-file.ts'
import {
  formatLsn,
  type Lsn,
  lsn,
  segmentNumber,
  segmentStart,
  type Timeline,
} from '../postgres/lsn.ts'
import type { ResumePoint } from './wal-sink.ts'

export type StreamStep =
  | { readonly kind: 'stream'; readonly timeline: Timeline; readonly start: Lsn }
  /** The timeline is over at `end`; the next one is streamed from `start`. */
  | {
      readonly kind: 'switch'
      readonly from: Timeline
      readonly end: Lsn
      readonly to: Timeline
      readonly start: Lsn
      /** We have more of the old timeline than the new one took over. */
      readonly isBeyondFork: boolean
    }

export interface ServerEnd {
  /** The server's timeline with its ancestors. */
  readonly path: TimelineHistory
  readonly flushLsn: Lsn
  readonly isInRecovery: boolean
  readonly address: string
}

/** TM1427 when the server's history does not lead over our timeline. */
export function planStep(
  { path, address }: Pick<ServerEnd, 'path' | 'address'>,
  at: ResumePoint,
  walSegmentSizeBytes: number,
): StreamStep {
  const timelines = pathOf(path)
  const place = timelines.indexOf(at.timeline)
  if (place < 0) throw notOurPath(address, path, at)
  const fork = timelineEnd(path, at.timeline)
  if (fork === undefined || at.flushed < fork) {
    return { kind: 'stream', timeline: at.timeline, start: at.lsn }
  }
  return {
    kind: 'switch',
    from: at.timeline,
    end: at.flushed,
    to: timelines[place + 1] as Timeline,
    start: segmentStart(segmentNumber(fork, walSegmentSizeBytes), walSegmentSizeBytes),
    isBeyondFork: at.flushed > fork,
  }
}

/**
 * Where to begin so that the server shows again what the archive ends with: with a tail that is
 * the start of its segment; where the archive ends with a whole segment, that segment. Undefined:
 * there is nothing of this timeline to compare.
 */
export function planProof(
  path: TimelineHistory,
  { timeline, lsn: start, flushed }: ResumePoint,
  walSegmentSizeBytes: number,
): Lsn | undefined {
  if (flushed > start) return undefined
  const before = start - BigInt(walSegmentSizeBytes)
  const begin = timelineStart(path, timeline) ?? 0n
  return before > 0n && before >= begin ? lsn(before) : undefined
}

/**
 * A primary whose WAL ends before what is durable here lost WAL, or is an older copy. A standby
 * may lag, and is waited for: true.
 */
export function mustWaitFor(server: ServerEnd, at: ResumePoint): boolean {
  if (server.path.timeline !== at.timeline || server.flushLsn >= at.flushed) return false
  if (server.isInRecovery) return server.flushLsn < at.lsn
  throw new Failure('TM1426', {
    message: `the server at ${server.address} is behind the archive`,
    because:
      `its WAL ends at ${formatLsn(server.flushLsn)} on timeline ${at.timeline}, and the ` +
      `repositories hold it up to ${formatLsn(at.flushed)}`,
    fix:
      'find out where the WAL went (a disk put back, fsync off, an older copy of the server); ' +
      'if this server is to go on, archive it under another name and take a backup',
    details: { serverEnd: formatLsn(server.flushLsn), archivedEnd: formatLsn(at.flushed) },
  })
}

function notOurPath(address: string, path: TimelineHistory, at: ResumePoint): Failure {
  return new Failure('TM1427', {
    message: `the server at ${address} does not go on with timeline ${at.timeline}`,
    because: `it is on timeline ${path.timeline}, which came by ${pathOf(path).join(', ')}`,
    fix:
      'connect to the server that was promoted last; if this one is to go on, see: ' +
      'tidemark wal list',
    details: { serverTimeline: path.timeline, archivedTimeline: at.timeline },
  })
}
