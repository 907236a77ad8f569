/**
 * The moments at which an interval of the window ends, and at which the WAL behind a hole goes
 * on. The last segments of the interval are read, and the first behind the hole.
 */
import type { WalListing } from '../archive/list-wal.ts'
import type { Progress } from '../base/progress.ts'
import { type Lsn, parseSegmentName, segmentNumber, segmentStart } from '../postgres/lsn.ts'
import type { WalEvent } from '../postgres/wal-event.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import type { Storage } from '../storage/storage.ts'
import { recordLsn } from './choose-timeline.ts'
import type { RecordPlace } from './judge-target.ts'
import { formatTime } from './parse-target.ts'
import { scanToTarget } from './scan-to-target.ts'
import type { PlannedInterval, SegmentGap } from './window.ts'

export interface WindowSource {
  readonly storage: Storage
  readonly cluster: string
  readonly archive: WalListing
  readonly progress: Progress
}

/** A segment of the interval that does not hold: no moment behind it can be recovered. */
export interface SegmentDamage {
  readonly segment: string
  readonly because: string
}

export interface IntervalEnd {
  readonly lsn: Lsn
  readonly time: bigint | undefined
  readonly damage: SegmentDamage | undefined
  /** The server went on with wal_level=minimal. */
  readonly isMinimal: boolean
}

/** So many segments are read in search of a moment before the backup's end has to do. */
const SEARCHED_SEGMENTS = 8n

export async function findEnd(
  interval: PlannedInterval,
  source: WindowSource,
): Promise<IntervalEnd> {
  const { archive, storage, cluster, progress } = source
  const size = archive.walSegmentSizeBytes
  const path = interval.path
  const first = segmentNumber(recordLsn((interval.backups[0] as BackupRecord).startLsn), size)
  let lsn: Lsn | undefined
  let damage: SegmentDamage | undefined
  let isMinimal = false
  for (let back = 0n; back < SEARCHED_SEGMENTS; back += 1n) {
    const segment = interval.lastSegment - back
    if (segment < first) break
    const end = interval.lastSegment + (interval.tail === undefined ? 1n : 2n)
    const begin = recordLsn((interval.backups[0] as BackupRecord).startLsn)
    const search = new LastMoment(begin, segmentStart(end, size))
    const walSource = { storages: [storage], cluster, archive, path, progress }
    const scan = await scanToTarget(walSource, { from: segmentStart(segment, size) }, search)
    if (scan.end.kind === 'damage') {
      damage = { segment: scan.end.segment, because: scan.end.because }
    }
    if (search.minimal !== undefined) {
      isMinimal = true
      lsn = search.minimal
    }
    lsn ??= search.lastLsn
    if (search.time !== undefined) {
      return { lsn: lsn ?? segmentStart(segment, size), time: search.time, damage, isMinimal }
    }
  }
  const begin = segmentStart(interval.lastSegment, size)
  return { lsn: lsn ?? begin, time: undefined, damage, isMinimal }
}

/** Of the first segment behind a gap, where it has a record with a time. */
export async function findMomentBehind(
  gap: SegmentGap,
  interval: PlannedInterval,
  source: WindowSource,
): Promise<string | undefined> {
  const { archive, storage, cluster, progress } = source
  const size = archive.walSegmentSizeBytes
  const last = parseSegmentName(gap.last, size)?.segment
  if (last === undefined) return undefined
  const walSource = { storages: [storage], cluster, archive, path: interval.path, progress }
  const start = { from: segmentStart(last + 1n, size) }
  const end = segmentStart(last + 2n, size)
  let time: bigint | undefined
  await scanToTarget(walSource, start, {
    visit(record, event) {
      if (event !== undefined && 'time' in event) time = event.time
      return time !== undefined || record.lsn >= end
    },
  })
  return time === undefined ? undefined : formatTime(time)
}

/**
 * Keeps the last end of a transaction, restore point or checkpoint, up to `limit` or to
 * wal_level=minimal, which PostgreSQL does not replay (CheckRequiredParameterValues).
 */
class LastMoment {
  readonly #begin: Lsn
  readonly #limit: Lsn
  time: bigint | undefined
  lastLsn: Lsn | undefined
  /** Where the server said so. */
  minimal: Lsn | undefined

  constructor(begin: Lsn, limit: Lsn) {
    this.#begin = begin
    this.#limit = limit
  }

  visit(record: RecordPlace, event: WalEvent | undefined): boolean {
    if (record.lsn >= this.#limit) return true
    const isMinimal = event?.kind === 'parameter-change' && event.walLevel === 'minimal'
    // One before the backup is behind us.
    if (isMinimal && record.lsn >= this.#begin) {
      this.minimal = record.lsn
      return true
    }
    this.lastLsn = record.endLsn
    if (event !== undefined && 'time' in event) {
      if (this.time === undefined || event.time > this.time) this.time = event.time
    }
    return false
  }
}
