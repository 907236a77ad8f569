/**
 * Which segments the spool of a recovery should hold. Pure.
 */
import type { TimelineHistory } from '../postgres/history-file.ts'
import { formatSegmentName, parseSegmentName } from '../postgres/lsn.ts'
import { timelineOfSegment } from './find-gaps.ts'

/** At most so many segments and bytes; one at least. */
const MOST_SEGMENTS = 16
const MOST_BYTES = 256 * 1024 * 1024
/** Of what is free: PostgreSQL keeps what it has replayed until the next restartpoint. */
const FREE_SHARE = 4

export function spoolLimit(walSegmentSizeBytes: number, freeBytes: number): number {
  const fitting = Math.max(1, Math.floor(MOST_BYTES / walSegmentSizeBytes))
  const free = Math.floor(freeBytes / FREE_SHARE / walSegmentSizeBytes)
  return Math.max(0, Math.min(MOST_SEGMENTS, fitting, free))
}

export interface FillState {
  readonly path: TimelineHistory
  readonly walSegmentSizeBytes: number
  /** The segment that was handed out last. */
  readonly position: bigint
  /** Not there when it was last asked for; nothing from here on is fetched. */
  readonly end: bigint | undefined
  /** Names in the spool, and those that are being fetched. */
  readonly present: readonly string[]
  readonly limit: number
}

export interface FillPlan {
  /** In the order in which replay asks for them. */
  readonly fetch: readonly string[]
  /** Not among the next ones: replay is elsewhere. */
  readonly remove: readonly string[]
}

export function planFill(state: FillState): FillPlan {
  const { path, walSegmentSizeBytes: size, position, end, present, limit } = state
  const wanted: string[] = []
  for (let segment = position + 1n; segment <= position + BigInt(limit); segment++) {
    if (end !== undefined && segment >= end) break
    wanted.push(formatSegmentName(timelineOfSegment(path, segment, size), segment, size))
  }
  return {
    fetch: wanted.filter((name) => !present.includes(name)),
    remove: present.filter((name) => !isNext(name, position, limit, size)),
  }
}

function isNext(name: string, position: bigint, limit: number, size: number): boolean {
  const segment = parseSegmentName(name, size)?.segment
  if (segment === undefined) return false
  return segment > position && segment <= position + BigInt(limit)
}
