/**
 * How long the disk of pg_wal lasts while nothing is archived, at the rate at which the server has
 * written lately. PostgreSQL keeps its WAL until it is archived; when the disk is full, it stops.
 */
import { readdir, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { now } from '../base/clock.ts'
import { isAbsence } from './read-wal-file.ts'

/** A segment that is complete, and when its last byte was written. */
export interface CompletedSegment {
  readonly name: string
  readonly bytes: number
  readonly completedMs: number
}

export interface DiskOutlook {
  /** Of the file system that holds pg_wal, for its user. */
  readonly freeBytes: number
  /** Undefined: too little was written to tell. */
  readonly walBytesPerSecond: number | undefined
  /** Until it is full, if nothing is archived; undefined: nothing tells. */
  readonly secondsLeft: number | undefined
  /** Files that wait to be archived: segments, and histories and backup labels too. */
  readonly waiting: number
  /** The segments among them. */
  readonly waitingSegments: number
  readonly waitingBytes: number
}

/** Without any: `NOTHING_WAITS`. */
export type WaitingWal = Pick<DiskOutlook, 'waiting' | 'waitingSegments' | 'waitingBytes'>

export const NOTHING_WAITS: WaitingWal = { waiting: 0, waitingSegments: 0, waitingBytes: 0 }

/** Rates are told over the last hour, and over less where the segments are younger. */
const LOOK_BACK_MS = 60 * 60 * 1000
/** What was written in less counts as written in this time: a burst is no rate. */
const LEAST_MS = 60_000

/**
 * From the oldest segment of the last hour to now: what came after it, by the time since. Pure.
 * Undefined with less than two segments.
 */
export function estimateWalRate(
  segments: readonly CompletedSegment[],
  nowMs: number,
): number | undefined {
  const recent = segments
    .filter(({ completedMs }) => completedMs <= nowMs && nowMs - completedMs <= LOOK_BACK_MS)
    .sort((one, other) => one.completedMs - other.completedMs)
  const [oldest, ...later] = recent
  if (oldest === undefined || later.length === 0) return undefined
  const elapsedMs = Math.max(LEAST_MS, nowMs - oldest.completedMs)
  return (later.reduce((sum, { bytes }) => sum + bytes, 0) * 1000) / elapsedMs
}

/** Pure. */
export function judgeDiskOutlook(
  freeBytes: number,
  walBytesPerSecond: number | undefined,
  waiting: WaitingWal,
): DiskOutlook {
  const isKnown = walBytesPerSecond !== undefined && walBytesPerSecond > 0
  const secondsLeft = isKnown ? freeBytes / walBytesPerSecond : undefined
  return { freeBytes, walBytesPerSecond, secondsLeft, ...waiting }
}

/** `12 GiB are free for pg_wal, which lasts about 3 h at 1.1 MiB/s`. Pure. */
export function describeDiskOutlook(outlook: DiskOutlook): string {
  const { freeBytes, walBytesPerSecond, secondsLeft } = outlook
  const free = `${formatSize(freeBytes)} are free for pg_wal`
  if (walBytesPerSecond === undefined || secondsLeft === undefined) return free
  const rate = `${formatSize(walBytesPerSecond)}/s`
  return `${free}, which lasts about ${formatSpan(secondsLeft)} at ${rate}`
}

function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${value >= 10 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`
}

function formatSpan(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(0)} s`
  if (seconds < 2 * 3600) return `${(seconds / 60).toFixed(0)} min`
  if (seconds < 48 * 3600) return `${(seconds / 3600).toFixed(0)} h`
  return `${(seconds / 86_400).toFixed(0)} days`
}

/** Undefined where the directory cannot be looked at: another machine, another user. */
export async function readDiskOutlook(dataDirectory: string): Promise<DiskOutlook | undefined> {
  const walDirectory = join(dataDirectory, 'pg_wal')
  try {
    const { bavail, bsize } = await statfs(walDirectory)
    const statuses = await readdir(join(walDirectory, 'archive_status'))
    const segments = await readCompleted(walDirectory, statuses)
    const waiting = countWaiting(statuses, segments)
    return judgeDiskOutlook(bavail * bsize, estimateWalRate(segments, now().getTime()), waiting)
  } catch {
    return undefined
  }
}

/** All segments of a server are as large as one of them. */
function countWaiting(
  statuses: readonly string[],
  segments: readonly CompletedSegment[],
): WaitingWal {
  const ready = statuses.filter((name) => name.endsWith('.ready'))
  const waitingSegments = ready.filter((name) => /^[0-9A-F]{24}\.ready$/.test(name)).length
  const waitingBytes = waitingSegments * (segments[0]?.bytes ?? 0)
  return { waiting: ready.length, waitingSegments, waitingBytes }
}

/** At most so many, the newest: a backlog may have tens of thousands. */
const MOST_LOOKED_AT = 512

async function readCompleted(
  walDirectory: string,
  statuses: readonly string[],
): Promise<CompletedSegment[]> {
  const names = statuses
    .map((name) => /^([0-9A-F]{24})\.(ready|done)$/.exec(name)?.[1])
    .filter((name) => name !== undefined)
    .sort()
    .slice(-MOST_LOOKED_AT)
  if (names.length > 0) return await statSegments(walDirectory, names)
  // Nothing is archived by the server: a receiver streams its WAL.
  const files = (await readdir(walDirectory)).filter((name) => /^[0-9A-F]{24}$/.test(name))
  return beforeNewest(await statSegments(walDirectory, files))
}

/**
 * Without the segment that is written now, the youngest, and those of later names: they are
 * recycled, and their times say when they were written the last time. Pure.
 */
export function beforeNewest(segments: readonly CompletedSegment[]): CompletedSegment[] {
  const [newest] = segments.toSorted((one, other) => other.completedMs - one.completedMs)
  return segments.filter(({ name }) => newest !== undefined && name < newest.name)
}

async function statSegments(
  walDirectory: string,
  names: readonly string[],
): Promise<CompletedSegment[]> {
  const found: CompletedSegment[] = []
  for (const name of names) {
    try {
      const { size, mtimeMs } = await stat(join(walDirectory, name))
      found.push({ name, bytes: size, completedMs: mtimeMs })
    } catch (error) {
      // It was recycled meanwhile.
      if (!isAbsence(error)) throw error
    }
  }
  return found
}
