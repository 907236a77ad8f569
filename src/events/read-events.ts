/**
 * Reads what the WAL did along a path of timelines, from the event index
 * (docs/design/event-index.md, section 7).
 *
 * Invariant: what is given is in the order of LSNs, each transaction once and whole, or marked
 * incomplete; memory is bounded by the transactions that are open at one moment.
 */
import { rangesAlong, listWal } from '../archive/list-wal.ts'
import { findLaterSegment, type WalPath } from '../archive/load-segment.ts'
import type { SegmentRange } from '../archive/find-gaps.ts'
import { type Failure, isFailure } from '../base/failure.ts'
import { timelineAt } from '../postgres/history-file.ts'
import { type Lsn, lsn, parseSegmentName, segmentNumber, segmentStart } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import type { EventGap, FoldedEvent } from './folded-event.ts'
import { CrossingRecords } from './reading/crossing-record.ts'
import { findReadStart, findSegmentOfTime, type ReadStart } from './reading/find-start.ts'
import { IndexSource, type IndexOfSegment } from './reading/index-source.ts'
import { TransactionFolder } from './reading/transaction-folder.ts'
import { POSTGRES_EPOCH_MICROS } from './segment-index.ts'

export interface ReadEventsOptions extends WalPath {
  /** The first that is given ends, or lies, at or behind it. */
  readonly from: EventBound | 'start'
  /** What ends, or lies, at or behind it is not given. */
  readonly to: EventBound | 'end'
  /** Called for each segment of which the index was read or, where it is missing, computed. */
  readonly onSegment?: (name: string, how: 'read' | 'computed') => void
  /** Hears of an index that could not be read, and that the segment made good. */
  readonly onWarning?: (failure: Failure) => void
}

export type EventBound = { readonly lsn: Lsn } | { readonly time: Microseconds }

/** Break out of the loop to stop early. TM1601 never: damaged WAL is a gap. */
export async function* readEvents(options: ReadEventsOptions): AsyncGenerator<FoldedEvent> {
  const source = new IndexSource(options)
  const start = await findStart(options, source)
  if (start === undefined) return
  const reading = new Reading(options, source, start)
  yield* reading.run()
}

/** Undefined: nothing is archived on the path. */
async function findStart(
  options: ReadEventsOptions,
  source: IndexSource,
): Promise<ReadStart | undefined> {
  const ranges = await archivedRanges(options)
  const first = ranges[0]?.first
  const last = ranges.at(-1)?.last
  if (first === undefined || last === undefined) return undefined
  const { from } = options
  if (from === 'start') return { segment: first, isProved: false }
  const header = async (segment: bigint) =>
    segment < first ? undefined : await orDamaged(source.header(segment))
  const wanted =
    'lsn' in from
      ? segmentNumber(from.lsn, options.walSegmentSizeBytes)
      : await findSegmentOfTime(ranges, Number(from.time - POSTGRES_EPOCH_MICROS), header)
  if (wanted === undefined) return undefined
  return await findReadStart(wanted < first ? first : wanted, header)
}

/** A damaged segment is as good as a missing one. */
async function orDamaged<T>(found: Promise<T | undefined>): Promise<T | undefined> {
  try {
    return await found
  } catch (error) {
    if (isFailure(error, 'TM1601')) return undefined
    throw error
  }
}

/** Of all repositories together; one that cannot be listed is passed over if another can. */
async function archivedRanges(options: WalPath): Promise<SegmentRange[]> {
  const results = await Promise.allSettled(
    options.storages.map(async (storage) => {
      const archive = await listWal(storage, options.cluster, options.systemIdentifier)
      return rangesAlong(archive, options.path)
    }),
  )
  const found = results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  const failed = results.find((one) => one.status === 'rejected')
  if (found.length === 0 && failed !== undefined) throw failed.reason
  return joinRanges(found.flat())
}

function joinRanges(ranges: readonly SegmentRange[]): SegmentRange[] {
  const joined: SegmentRange[] = []
  for (const range of ranges.toSorted((a, b) => (a.first < b.first ? -1 : 1))) {
    const before = joined.at(-1)
    if (before === undefined || range.first > before.last + 1n) joined.push(range)
    else if (range.last > before.last) {
      joined[joined.length - 1] = { first: before.first, last: range.last }
    }
  }
  return joined
}

type Loaded = IndexOfSegment | 'damaged' | undefined

class Reading {
  readonly #options: ReadEventsOptions
  readonly #source: IndexSource
  readonly #folder: TransactionFolder
  readonly #crossing = new CrossingRecords()
  #segment: bigint
  /** The latest time that was seen: what has no time of its own lies there. */
  #now: Microseconds | undefined
  #isDone = false

  constructor(options: ReadEventsOptions, source: IndexSource, start: ReadStart) {
    this.#options = options
    this.#source = source
    this.#segment = start.segment
    this.#folder = new TransactionFolder(options.path, start.isProved ? 'all' : undefined)
  }

  async *run(): AsyncGenerator<FoldedEvent> {
    let next = this.#load(this.#segment)
    while (!this.#isDone) {
      const loaded = await next
      if (loaded === undefined || loaded === 'damaged') {
        const later = await this.#findLater(loaded === 'damaged')
        if (later === undefined) return
        yield* this.#gapUpTo(later, loaded)
        next = this.#load(this.#segment)
        continue
      }
      this.#segment += 1n
      next = this.#load(this.#segment)
      if (this.#isBehindEnd(loaded)) return
      yield* this.#take(loaded)
      const { end, segmentStart: start, endOffset } = loaded.header
      if (end === 'whole') continue
      if (!(await this.#hasLater(loaded))) return
      if (end === 'no-record') yield* this.#damageAt(lsn(start + BigInt(endOffset)))
    }
  }

  /** A failure is met when the segment is needed, or never when it is not. */
  #load(segment: bigint): Promise<Loaded> {
    const loading = this.#source.events(segment).catch((error: unknown) => {
      if (isFailure(error, 'TM1601')) return 'damaged' as const
      throw error
    })
    loading.catch(() => {})
    return loading
  }

  #isBehindEnd({ header }: IndexOfSegment): boolean {
    const { to } = this.#options
    if (to === 'end') return false
    if ('lsn' in to) return header.segmentStart >= to.lsn
    if (header.times === undefined) return false
    return BigInt(header.times.earliest) + POSTGRES_EPOCH_MICROS >= to.time
  }

  *#take({ header, events }: IndexOfSegment): Generator<FoldedEvent> {
    const crossing = this.#crossing.take(header, events)
    if (crossing.kind === 'broken') yield* this.#damageAt(crossing.lsn)
    if (crossing.kind === 'record') {
      yield* this.#wanted(this.#folder.take(crossing.lsn, crossing.events))
    }
    yield* this.#wanted(this.#folder.take(header.segmentStart, events))
    if (header.end === 'damage') {
      yield* this.#damageAt(lsn(header.segmentStart + BigInt(header.endOffset)))
    }
  }

  *#wanted(events: Iterable<FoldedEvent>): Generator<FoldedEvent> {
    const { from, to } = this.#options
    for (const event of events) {
      const time = 'time' in event ? event.time : undefined
      if (time !== undefined && event.kind !== 'checkpoint') this.#now = time
      if (to !== 'end' && this.#isAtOrBehind(event, to)) {
        // Times of neighbours may be in another order: only a place ends the reading.
        if ('lsn' in to) this.#isDone = true
        continue
      }
      if (from === 'start' || this.#isAtOrBehind(event, from)) yield event
    }
  }

  #isAtOrBehind(event: FoldedEvent, bound: EventBound): boolean {
    if ('lsn' in bound) return event.lsn >= bound.lsn
    const own = 'time' in event && event.kind !== 'checkpoint' ? event.time : undefined
    const time = own ?? this.#now
    return time !== undefined && time >= bound.time
  }

  *#damageAt(at: Lsn): Generator<FoldedEvent> {
    const size = this.#options.walSegmentSizeBytes
    const name = this.#source.nameOf(segmentNumber(at, size))
    this.#folder.forgetWhatIsKnown()
    const timeline = timelineAt(this.#options.path, at)
    const gap: EventGap = {
      kind: 'gap',
      timeline,
      lsn: at,
      firstSegment: name,
      lastSegment: name,
      reason: 'damaged',
    }
    yield* this.#wanted([gap])
  }

  /** The number of the first segment behind the one that is not there. */
  async #findLater(isDamaged: boolean): Promise<bigint | undefined> {
    if (isDamaged) return this.#segment + 1n
    const name = await findLaterSegment(this.#options, this.#segment)
    if (name === undefined) return undefined
    return parseSegmentName(name, this.#options.walSegmentSizeBytes)?.segment
  }

  async #hasLater({ header }: IndexOfSegment): Promise<boolean> {
    const number = segmentNumber(header.segmentStart, header.walSegmentSizeBytes)
    return (await findLaterSegment(this.#options, number)) !== undefined
  }

  *#gapUpTo(later: bigint, loaded: Loaded): Generator<FoldedEvent> {
    const at = segmentStart(this.#segment, this.#options.walSegmentSizeBytes)
    const gap: EventGap = {
      kind: 'gap',
      timeline: timelineAt(this.#options.path, at),
      lsn: at,
      firstSegment: this.#source.nameOf(this.#segment),
      lastSegment: this.#source.nameOf(later - 1n),
      reason: loaded === 'damaged' ? 'damaged' : 'missing',
    }
    this.#segment = later
    this.#crossing.drop()
    this.#folder.forgetWhatIsKnown()
    yield* this.#wanted([gap])
  }
}
