/**
 * Shows the archived WAL of a path to a visitor, record by record, and says why it ends.
 *
 * Every segment is read whole and verified by both hashes before one of its records is
 * shown: what was judged is what `wal get` will hand to PostgreSQL.
 */
import { findWalFile } from '../archive/fetch-wal.ts'
import { timelineOfSegment } from '../archive/find-gaps.ts'
import type { WalListing } from '../archive/list-wal.ts'
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { pathOf, type TimelineHistory, timelineStart } from '../postgres/history-file.ts'
import { formatSegmentName, type Lsn, segmentNumber, type Timeline } from '../postgres/lsn.ts'
import { parseWalEvent, type WalEvent } from '../postgres/wal-event.ts'
import { createWalReader, type WalReader } from '../postgres/wal-reader.ts'
import type { Storage } from '../storage/storage.ts'
import type { RecordPlace, WalEnd } from './judge-target.ts'

export interface WalSource {
  readonly storages: readonly Storage[]
  readonly cluster: string
  readonly archive: WalListing
  readonly path: TimelineHistory
  readonly progress: Progress
}

export interface RecordVisitor {
  /** True: stop. */
  visit(record: RecordPlace, event: WalEvent | undefined): boolean
}

export interface WalScan {
  readonly end: WalEnd
  /** Names of the segments that were read, in order. */
  readonly segments: readonly string[]
}

/** `start`: exactly the start of a record, or any LSN when `exact` is false. */
export async function readWalToTarget(
  source: WalSource,
  start: Lsn,
  visitor: RecordVisitor,
  exact = true,
): Promise<WalScan> {
  return await new Scan(source, start, visitor, exact).run()
}

class Scan {
  readonly #source: WalSource
  readonly #visitor: RecordVisitor
  readonly #reader: WalReader
  readonly #segments: string[] = []

  constructor(source: WalSource, start: Lsn, visitor: RecordVisitor, exact: boolean) {
    this.#source = source
    this.#visitor = visitor
    const onPath = new Set<Timeline>(pathOf(source.path))
    this.#reader = createWalReader({
      walSegmentSizeBytes: source.archive.walSegmentSizeBytes,
      systemIdentifier: BigInt(source.archive.systemIdentifier),
      start: exact ? { at: start } : { from: start },
      isOnPath: (timeline) => onPath.has(timeline),
    })
  }

  async run(): Promise<WalScan> {
    for (;;) {
      const result = this.#reader.next()
      if (result.kind === 'record') {
        const parsed = parseWalEvent(result.record)
        const event = parsed.kind === 'event' ? parsed.event : undefined
        if (this.#visitor.visit(result.record, event)) return this.#ended({ kind: 'stopped' })
      } else if (result.kind === 'segment-needed') {
        const end = await this.#nextSegment(result.segment)
        if (end !== undefined) return this.#ended(end)
      } else {
        return this.#ended(this.#invalid(result))
      }
    }
  }

  #ended(end: WalEnd): WalScan {
    return { end, segments: this.#segments }
  }

  async #nextSegment(segment: bigint): Promise<WalEnd | undefined> {
    const { storages, cluster, archive, progress } = this.#source
    const name = this.#nameOf(segment)
    if (!this.#isArchived(segment)) return this.#missing(segment)
    const { systemIdentifier } = archive
    try {
      const found = await findWalFile({ storages, cluster, systemIdentifier, name })
      if (found === undefined) return this.#missing(segment)
      this.#reader.give(segment, found.content)
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'TM1601') throw error
      const because = `${error.message}: ${error.because ?? ''}`
      return { kind: 'damage', segment: name, because }
    }
    this.#segments.push(name)
    progress.advance(1)
    return undefined
  }

  #invalid(result: {
    readonly reason: string
    readonly isFollowedByWal: boolean
    readonly faultLsn: Lsn
  }): WalEnd {
    const size = this.#source.archive.walSegmentSizeBytes
    const segment = segmentNumber(result.faultLsn, size)
    const isLast = this.#firstArchivedAfter(segment) === undefined
    if (isLast && !result.isFollowedByWal) return { kind: 'archive-end' }
    const because = `its records do not follow from each other (${result.reason})`
    return { kind: 'damage', segment: this.#nameOf(segment), because }
  }

  #missing(segment: bigint): WalEnd {
    const next = this.#firstArchivedAfter(segment)
    if (next === undefined) return { kind: 'archive-end' }
    return { kind: 'hole', first: this.#nameOf(segment), last: this.#nameOf(next - 1n) }
  }

  #nameOf(segment: bigint): string {
    const size = this.#source.archive.walSegmentSizeBytes
    return formatSegmentName(timelineOfSegment(this.#source.path, segment, size), segment, size)
  }

  #isArchived(segment: bigint): boolean {
    const { archive, path } = this.#source
    const timeline = timelineOfSegment(path, segment, archive.walSegmentSizeBytes)
    return hasSegment(archive, timeline, segment)
  }

  /** The next segment that is archived under the timeline that the path has there. */
  #firstArchivedAfter(segment: bigint): bigint | undefined {
    const { archive, path } = this.#source
    const size = archive.walSegmentSizeBytes
    const timelines = pathOf(path)
    let first: bigint | undefined
    for (const { timeline, ranges } of archive.timelines) {
      const place = timelines.indexOf(timeline)
      if (place < 0) continue
      const begin = beginOf(path, timeline, size)
      const next = timelines[place + 1]
      const end = next === undefined ? undefined : beginOf(path, next, size) - 1n
      for (const range of ranges) {
        const candidate = maximum(range.first, segment + 1n, begin)
        const inside = candidate <= range.last && (end === undefined || candidate <= end)
        if (inside && (first === undefined || candidate < first)) first = candidate
      }
    }
    return first
  }
}

/** The first segment that the path reads under this timeline. */
function beginOf(path: TimelineHistory, timeline: Timeline, size: number): bigint {
  return segmentNumber(timelineStart(path, timeline) ?? (0n as Lsn), size)
}

function maximum(...values: readonly bigint[]): bigint {
  return values.reduce((most, value) => (value > most ? value : most))
}

export function hasSegment(archive: WalListing, timeline: Timeline, segment: bigint): boolean {
  const listed = archive.timelines.find((one) => one.timeline === timeline)
  const within = listed?.ranges.some(({ first, last }) => first <= segment && segment <= last)
  return within === true
}
