/**
 * Which WAL was let go: `wal/<sysid>/expired.mark`, so that a hole that an expiry has made is
 * told apart from a loss. It is a hint for people and checks: no recovery reads across a hole.
 * Ranges, because WAL that is kept may lie before WAL that goes: that of a pinned backup, and what
 * lies before the fork of a branch that was given up.
 *
 * Invariant: it is written before the WAL is removed that it names.
 */
import type { Timeline } from '../postgres/lsn.ts'
import { decodeSmallObject, encodeSmallObject, findReadable } from '../repository/small-object.ts'
import type { Storage } from '../storage/storage.ts'
import type { SegmentRange } from './find-gaps.ts'
import { walPrefix } from './wal-file-name.ts'

/** By timeline: the segments that were let go, as ascending ranges that do not touch. */
export type ExpiredWalMark = ReadonlyMap<Timeline, readonly SegmentRange[]>

export const EXPIRED_MARK_NAME = 'expired.mark'

export function expiredMarkKey(cluster: string, systemIdentifier: string): string {
  return walPrefix(cluster, systemIdentifier) + EXPIRED_MARK_NAME
}

interface StoredMark {
  /** First and last of each range, in decimal. */
  readonly timelines: Readonly<Record<string, readonly (readonly [string, string])[]>>
}

/** A damaged one is as good as none: holes are shown as gaps then. */
export async function readExpiredMark(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
): Promise<ExpiredWalMark> {
  const key = expiredMarkKey(cluster, systemIdentifier)
  const mark = await findReadable(storage, key, (bytes) => decodeMark(key, bytes))
  return typeof mark === 'object' ? mark : new Map()
}

function decodeMark(key: string, bytes: Uint8Array): ExpiredWalMark {
  const { timelines } = decodeSmallObject(key, 'GONE', bytes) as unknown as StoredMark
  return new Map(
    Object.entries(timelines).map(([timeline, ranges]) => [
      Number(timeline),
      ranges.map(([first, last]) => ({ first: BigInt(first), last: BigInt(last) })),
    ]),
  )
}

/** Never takes back what was noted before; of two that write at once the later one counts. */
export async function advanceExpiredMark(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  gone: ExpiredWalMark,
): Promise<void> {
  const before = await readExpiredMark(storage, cluster, systemIdentifier)
  const now = new Map(before)
  for (const [timeline, ranges] of gone) {
    now.set(timeline, joinRanges([...(now.get(timeline) ?? []), ...ranges]))
  }
  const timelines = Object.fromEntries(
    [...now].map(([one, ranges]) => [String(one), ranges.map(formatRange)]),
  )
  const bytes = encodeSmallObject('GONE', { timelines })
  await storage.write(expiredMarkKey(cluster, systemIdentifier), bytes)
}

function formatRange({ first, last }: SegmentRange): [string, string] {
  return [String(first), String(last)]
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

/** Was the segment let go, if it is not there? */
export function isLetGo(
  mark: ExpiredWalMark | undefined,
  timeline: Timeline,
  segment: bigint,
): boolean {
  const ranges = mark?.get(timeline) ?? []
  return ranges.some(({ first, last }) => first <= segment && segment <= last)
}
