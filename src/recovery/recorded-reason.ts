/** What a gap record says of a hole in the WAL (docs/design/receive.md). */
import { parseGap } from '../archive/gap-record.ts'
import type { WalListing } from '../archive/list-wal.ts'
import { isFailure } from '../base/failure.ts'
import { formatLsn, parseSegmentName, segmentStart } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'

export interface RecordedReason {
  readonly because: string
  /** ISO 8601 UTC. */
  readonly foundAt: string
  /** LSNs. */
  readonly from: string
  readonly to: string
}

/** The last record of WAL that lies in the hole; undefined: none, or it cannot be read. */
export async function readReason(
  storage: Storage,
  { recordedGaps = [], walSegmentSizeBytes: size }: WalListing,
  hole: { readonly first: string; readonly last: string },
): Promise<RecordedReason | undefined> {
  const [first, last] = [parseSegmentName(hole.first, size), parseSegmentName(hole.last, size)]
  if (first === undefined || last === undefined) return undefined
  const [begin, end] = [segmentStart(first.segment, size), segmentStart(last.segment + 1n, size)]
  const found = recordedGaps.findLast(({ from, to, timeline }) => {
    return from < end && to > begin && timeline >= first.timeline
  })
  if (found === undefined) return undefined
  try {
    const bytes = await storage.read(found.key)
    if (bytes === undefined) return undefined
    const { because, foundAt, from, to } = parseGap(found.key, bytes)
    return { because, foundAt, from: formatLsn(from), to: formatLsn(to) }
  } catch (error) {
    // The hole is told without it, and verify tells of the record.
    if (isFailure(error, 'TM1601')) return undefined
    throw error
  }
}
