/** What the tail costs in a repository that is paid for by requests. Pure. */

const DAY_MS = 86_400_000
/** One of so many pieces repeats all, and the older ones are removed in one request. */
const PIECES_BEFORE_WHOLE = 32

export interface TailRequests {
  /** PutObject and the like: pieces, and completed segments. */
  readonly writes: number
  readonly listings: number
  readonly removals: number
}

/** At most, for a server that writes all the time; an idle one costs nothing. */
export function tailRequestsPerDay(flushEveryMs: number, segmentsPerDay: number): TailRequests {
  const pieces = flushEveryMs > 0 ? Math.floor(DAY_MS / flushEveryMs) : Number.POSITIVE_INFINITY
  return {
    writes: pieces + segmentsPerDay,
    listings: segmentsPerDay,
    removals: Math.floor(pieces / PIECES_BEFORE_WHOLE) + segmentsPerDay,
  }
}
