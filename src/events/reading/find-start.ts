/**
 * Where reading begins: the segment that a moment lies in, and how much earlier, so that
 * transactions which ran at that moment are seen whole (docs/design/event-index.md, section 7).
 */
import type { SegmentRange } from '../../archive/find-gaps.ts'
import type { IndexHeader } from '../segment-index.ts'
import { precedes } from '../xid.ts'

/** Undefined: there is no such segment. */
export type ReadHeader = (segment: bigint) => Promise<IndexHeader | undefined>

/** 32 GB of WAL of the usual size; a transaction that is older is marked incomplete. */
const MAX_LOOK_BACK = 2000n

export interface ReadStart {
  readonly segment: bigint
  /** All of every transaction that ends at or behind the moment is seen. */
  readonly isProved: boolean
}

/** The last segment of a range that holds `segment`, or the next range's first. */
export async function findReadStart(segment: bigint, header: ReadHeader): Promise<ReadStart> {
  const oldest = await oldestRunningBefore(segment, header)
  if (oldest === undefined) return { segment, isProved: false }
  let at = oldest.segment
  for (let count = 0n; count < MAX_LOOK_BACK; count += 1n, at -= 1n) {
    const found = await header(at)
    if (found === undefined || found.end !== 'whole') {
      return { segment: at + 1n, isProved: false }
    }
    const snapshot = found.snapshot
    if (snapshot !== undefined && !precedes(oldest.xid, snapshot.nextXid)) {
      return { segment: at, isProved: true }
    }
  }
  return { segment: at + 1n, isProved: false }
}

/** No transaction before this xid ran when `segment` began. */
async function oldestRunningBefore(
  segment: bigint,
  header: ReadHeader,
): Promise<{ readonly xid: number; readonly segment: bigint } | undefined> {
  for (let at = segment - 1n; segment - at <= MAX_LOOK_BACK; at -= 1n) {
    const found = await header(at)
    if (found === undefined || found.end !== 'whole') return undefined
    if (found.snapshot !== undefined) return { xid: found.snapshot.oldestXid, segment: at }
  }
  return undefined
}

/**
 * The first segment of ascending ranges that has an end of a transaction at or behind `time`
 * (microseconds since 2000), by bisection, then back while the one before has one, too: a
 * server's clock may go back a little. The last segment when there is none.
 */
export async function findSegmentOfTime(
  ranges: readonly SegmentRange[],
  time: number,
  header: ReadHeader,
): Promise<bigint | undefined> {
  const places = new Places(ranges)
  if (places.count === 0) return undefined
  let [low, high] = [0, places.count - 1]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    const at = await nextWithTimes(places, middle, high, header)
    if (at === undefined) high = middle
    else if (at.latest >= time) high = Math.min(middle, at.place)
    else low = at.place + 1
  }
  while (low > 0) {
    const before = await header(places.segment(low - 1))
    if (before?.times === undefined || before.times.latest < time) break
    low -= 1
  }
  return places.segment(low)
}

/** The first from `from` on, before `to`, in which a transaction ended. */
async function nextWithTimes(
  places: Places,
  from: number,
  to: number,
  header: ReadHeader,
): Promise<{ readonly place: number; readonly latest: number } | undefined> {
  for (let place = from; place < to; place++) {
    const found = await header(places.segment(place))
    if (found?.times !== undefined) return { place, latest: found.times.latest }
  }
  return undefined
}

/** The segments of ranges as one list, without making it. */
class Places {
  readonly #ranges: readonly SegmentRange[]
  readonly count: number

  constructor(ranges: readonly SegmentRange[]) {
    this.#ranges = ranges
    this.count = ranges.reduce((sum, { first, last }) => sum + Number(last - first) + 1, 0)
  }

  segment(place: number): bigint {
    let left = BigInt(place)
    for (const { first, last } of this.#ranges) {
      const length = last - first + 1n
      if (left < length) return first + left
      left -= length
    }
    throw new Error(`no segment has place ${place}`)
  }
}
