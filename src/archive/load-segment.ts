/**
 * Loads archived segments along a path of timelines, each verified by both hashes; where none is
 * archived, what was flushed of it (docs/design/tails.md, section 5).
 */
import type { Failure } from '../base/failure.ts'
import { pathOf, type TimelineHistory, timelineEnd } from '../postgres/history-file.ts'
import {
  formatSegmentName,
  type Lsn,
  parseSegmentName,
  segmentStart,
  type Timeline,
} from '../postgres/lsn.ts'
import type { PassedOverListener } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { findWalFile } from './fetch-wal.ts'
import { padSegment } from './find-record-end.ts'
import { timelineOfSegment, timelinesOfSegment } from './find-gaps.ts'
import { listSegmentsAfter } from './list-segments.ts'
import { findTail } from './read-tail.ts'
import { findFirstOnPath, listTails } from './tail-keys.ts'

export interface WalPath {
  /** Asked in this order; the first whole copy of a segment is taken. */
  readonly storages: readonly Storage[]
  readonly onPassedOver?: PassedOverListener | undefined
  readonly cluster: string
  /** Decimal. */
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  /** The timelines to follow: the history of the last of them. */
  readonly path: TimelineHistory
}

export interface LoadedSegment {
  readonly name: string
  readonly timeline: Timeline
  readonly bytes: Buffer
  /** Set where only an ancestor's file was there: what counts in it ends here. */
  readonly usableEnd: Lsn | undefined
  /** Set where only a tail was there: the rest is zeros. */
  readonly tail: LoadedTail | undefined
}

export interface LoadedTail {
  /** First LSN that is not in it. */
  readonly endLsn: Lsn
  /** TM1441: more had been durable than is left. */
  readonly loss: Failure | undefined
}

/**
 * The segment that the path takes, or, where the fork's segment is archived only under an
 * ancestor, that one; else what was flushed of it. Undefined: every storage has proved that none
 * is there. TM1601 for a damaged object, TM1443 for tails that contradict each other.
 */
export async function findPathSegment(
  from: WalPath,
  segment: bigint,
): Promise<LoadedSegment | undefined> {
  const whole = await findWholeSegment(from, segment)
  if (whole !== undefined && whole.usableEnd === undefined) return whole
  const tail = await findPathTail(from, segment)
  if (tail === undefined) return whole
  // The path's own tail may end before the fork up to which the parent's file counts.
  const isLess = whole?.usableEnd !== undefined && reachOf(tail) <= whole.usableEnd
  return isLess ? whole : tail
}

function reachOf({ usableEnd, tail }: LoadedSegment): Lsn {
  const end = (tail as LoadedTail).endLsn
  return usableEnd !== undefined && usableEnd < end ? usableEnd : end
}

/** Of the timelines that may hold it the tail that reaches furthest on the path. */
async function findPathTail(from: WalPath, segment: bigint): Promise<LoadedSegment | undefined> {
  const { walSegmentSizeBytes } = from
  let best: LoadedSegment | undefined
  for (const timeline of timelinesOfSegment(from.path, segment, from.walSegmentSizeBytes)) {
    const name = formatSegmentName(timeline, segment, walSegmentSizeBytes)
    const found = await findTail(from.storages, from, name)
    if (found === undefined) continue
    const { endLsn, loss } = found
    const bytes = padSegment(found.bytes, walSegmentSizeBytes)
    const usableEnd = endWithin(from, timeline, segment)
    const loaded = { name, timeline, bytes, usableEnd, tail: { endLsn, loss } }
    if (best === undefined || reachOf(loaded) > reachOf(best)) best = loaded
  }
  return best
}

async function findWholeSegment(
  from: WalPath,
  segment: bigint,
): Promise<LoadedSegment | undefined> {
  for (const timeline of timelinesOfSegment(from.path, segment, from.walSegmentSizeBytes)) {
    const name = formatSegmentName(timeline, segment, from.walSegmentSizeBytes)
    const { storages, cluster, systemIdentifier, onPassedOver } = from
    const request = { storages, cluster, systemIdentifier, name, holes: 'absent' } as const
    const object = await findWalFile({
      ...request,
      ...(onPassedOver === undefined ? {} : { onPassedOver }),
    })
    if (object === undefined) continue
    const usableEnd = endWithin(from, timeline, segment)
    return { name, timeline, bytes: object.content, usableEnd, tail: undefined }
  }
  return undefined
}

/** Where the path leaves `timeline` in this segment, if it does. */
function endWithin(from: WalPath, timeline: Timeline, segment: bigint): Lsn | undefined {
  const end = timelineEnd(from.path, timeline)
  const next = segmentStart(segment + 1n, from.walSegmentSizeBytes)
  return end !== undefined && end < next ? end : undefined
}

/** As findLaterSegment(), or the name of a later segment of which a tail is there. */
export async function findLaterWal(from: WalPath, segment: bigint): Promise<string | undefined> {
  const later = await findLaterSegment(from, segment)
  if (later !== undefined) return later
  const { storages, cluster, systemIdentifier, walSegmentSizeBytes: size, path } = from
  for (const storage of storages) {
    const tails = await listTails(storage, cluster, systemIdentifier)
    const names = tails.map((tail) => tail.segment)
    const first = findFirstOnPath(path, names, segment, size)
    if (first !== undefined) return first
  }
  return undefined
}

/** The name of the first archived segment on the path behind `segment`, or undefined. */
export async function findLaterSegment(
  from: WalPath,
  segment: bigint,
): Promise<string | undefined> {
  const size = from.walSegmentSizeBytes
  const newest = timelineOfSegment(from.path, segment, size)
  for (const timeline of pathOf(from.path).filter((one) => one >= newest)) {
    const after = formatSegmentName(timeline, segment, size)
    const found = await Promise.all(
      from.storages.map(async (storage) => await findInStorage(from, storage, timeline, after)),
    )
    const first = found.filter((name) => name !== undefined).sort()[0]
    if (first !== undefined) return first
  }
  return undefined
}

async function findInStorage(
  from: WalPath,
  storage: Storage,
  timeline: Timeline,
  after: string,
): Promise<string | undefined> {
  const { cluster, systemIdentifier } = from
  for await (const { name } of listSegmentsAfter(storage, cluster, systemIdentifier, after)) {
    if (isTakenBy(from, timeline, name)) return name
  }
  return undefined
}

function isTakenBy(from: WalPath, timeline: Timeline, name: string): boolean {
  const segment = parseSegmentName(name, from.walSegmentSizeBytes)?.segment
  if (segment === undefined) return false
  return timelineOfSegment(from.path, segment, from.walSegmentSizeBytes) === timeline
}
