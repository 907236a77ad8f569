/** Ranges of WAL segments that must stay, by timeline. Pure. */
import { pathOf, type TimelineHistory, timelineEnd } from '../postgres/history-file.ts'
import { segmentNumber, type Timeline } from '../postgres/lsn.ts'

/** Segment numbers, both ends included. */
interface NeededRange {
  readonly first: number
  readonly last: number
}

export class WalNeeds {
  readonly #ranges = new Map<Timeline, NeededRange[]>()
  /** On every timeline. */
  #everythingFrom = Number.POSITIVE_INFINITY

  add(timeline: Timeline, first: number, last: number): void {
    const ranges = [...(this.#ranges.get(timeline) ?? []), { first, last }]
    this.#ranges.set(timeline, merge(ranges))
  }

  addEverythingFrom(segment: number): void {
    this.#everythingFrom = Math.min(this.#everythingFrom, segment)
  }

  /**
   * From a segment on along a path to its end. The segment of a fork is kept under both
   * timelines: the first of a timeline repeats what its parent wrote (XLogInitNewTimeline),
   * and may not have been archived yet.
   */
  addPath(path: TimelineHistory, first: number, walSegmentSizeBytes: number): void {
    for (const timeline of pathOf(path)) {
      const end = timelineEnd(path, timeline)
      const last =
        end === undefined
          ? Number.POSITIVE_INFINITY
          : Number(segmentNumber(end, walSegmentSizeBytes))
      if (last >= first) this.add(timeline, first, last)
    }
  }

  has(timeline: Timeline, segment: number): boolean {
    if (segment >= this.#everythingFrom) return true
    return isWithin(this.#ranges.get(timeline) ?? [], segment)
  }

  /** On any timeline? For what is only kept beside segments. */
  hasAnywhere(segment: number): boolean {
    if (segment >= this.#everythingFrom) return true
    return [...this.#ranges.values()].some((ranges) => isWithin(ranges, segment))
  }
}

function isWithin(ranges: readonly NeededRange[], segment: number): boolean {
  return ranges.some(({ first, last }) => first <= segment && segment <= last)
}

/** Overlapping ranges and neighbours become one: most often there are few left. */
function merge(ranges: NeededRange[]): NeededRange[] {
  const merged: NeededRange[] = []
  for (const range of ranges.sort((a, b) => a.first - b.first)) {
    const before = merged.at(-1)
    if (before === undefined || range.first > before.last + 1) merged.push(range)
    else if (range.last > before.last) {
      merged[merged.length - 1] = { first: before.first, last: range.last }
    }
  }
  return merged
}
