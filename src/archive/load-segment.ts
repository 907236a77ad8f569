/**
 * Loads archived segments along a path of timelines, each verified by both hashes.
 */
import {
  pathOf,
  type TimelineHistory,
  timelineEnd,
  timelineStart,
} from '../postgres/history-file.ts'
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
import { timelineOfSegment } from './find-gaps.ts'
import { listSegmentsAfter } from './list-segments.ts'

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
}

/**
 * The segment that the path takes, or, where the fork's segment is archived only under an
 * ancestor, that one. Undefined: every storage has proved that none is there. TM1601 for
 * a damaged object.
 */
export async function findPathSegment(
  from: WalPath,
  segment: bigint,
): Promise<LoadedSegment | undefined> {
  for (const timeline of candidates(from, segment)) {
    const name = formatSegmentName(timeline, segment, from.walSegmentSizeBytes)
    const { storages, cluster, systemIdentifier, onPassedOver } = from
    const request = { storages, cluster, systemIdentifier, name, holes: 'absent' } as const
    const object = await findWalFile({
      ...request,
      ...(onPassedOver === undefined ? {} : { onPassedOver }),
    })
    if (object === undefined) continue
    const usableEnd = endWithin(from, timeline, segment)
    return { name, timeline, bytes: object.content, usableEnd }
  }
  return undefined
}

/** The path's own timeline for this segment first, then those that it forked from in it. */
function candidates(from: WalPath, segment: bigint): Timeline[] {
  const newest = timelineOfSegment(from.path, segment, from.walSegmentSizeBytes)
  const timelines = pathOf(from.path)
  const found: Timeline[] = [newest]
  for (let index = timelines.indexOf(newest); index > 0; index--) {
    const start = timelineStart(from.path, timelines[index] as Timeline) as Lsn
    if (start <= segmentStart(segment, from.walSegmentSizeBytes)) break
    found.push(timelines[index - 1] as Timeline)
  }
  return found
}

/** Where the path leaves `timeline` in this segment, if it does. */
function endWithin(from: WalPath, timeline: Timeline, segment: bigint): Lsn | undefined {
  const end = timelineEnd(from.path, timeline)
  const next = segmentStart(segment + 1n, from.walSegmentSizeBytes)
  return end !== undefined && end < next ? end : undefined
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
