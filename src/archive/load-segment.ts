/**
 * Loads archived segments along a path of timelines, each verified by both hashes.
 */
import {
  pathOf,
  type TimelineHistory,
  timelineEnd,
  timelineStart,
} from '../postgres/history-file.ts'
import { formatSegmentName, type Lsn, segmentStart, type Timeline } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { timelineOfSegment } from './find-gaps.ts'
import { listSegments } from './list-segments.ts'
import { segmentKey } from './wal-file-name.ts'
import { decodeWalObject } from './wal-object.ts'

export interface WalPath {
  readonly storage: Storage
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
 * ancestor, that one. Undefined: none is there. TM1601 for a damaged object.
 */
export async function findPathSegment(
  from: WalPath,
  segment: bigint,
): Promise<LoadedSegment | undefined> {
  for (const timeline of candidates(from, segment)) {
    const name = formatSegmentName(timeline, segment, from.walSegmentSizeBytes)
    const key = segmentKey(from.cluster, from.systemIdentifier, name)
    const bytes = await from.storage.read(key)
    if (bytes === undefined) continue
    const { systemIdentifier } = from
    const object = decodeWalObject(key, bytes, { systemIdentifier, name })
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
    const { storage, cluster, systemIdentifier } = from
    for await (const { name } of listSegments(storage, cluster, systemIdentifier, timeline)) {
      if (name > after && isTakenBy(from, timeline, name)) return name
    }
  }
  return undefined
}

function isTakenBy(from: WalPath, timeline: Timeline, name: string): boolean {
  const perId = 0x100000000n / BigInt(from.walSegmentSizeBytes)
  const number = BigInt(`0x${name.slice(8, 16)}`) * perId + BigInt(`0x${name.slice(16)}`)
  return timelineOfSegment(from.path, number, from.walSegmentSizeBytes) === timeline
}
