/**
 * Reads what the WAL did along a path of timelines, from the event index
 * (docs/design/event-index.md, section 7).
 *
 * Invariant: what is given is in the order of LSNs, each transaction once and whole, or marked
 * incomplete; memory is bounded by the transactions that are open at one moment.
 */
import type { WalPath } from '../archive/load-segment.ts'
import type { Failure } from '../base/failure.ts'
import type { Lsn } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import type { FoldedEvent } from './folded-event.ts'

export interface ReadEventsOptions extends WalPath {
  /** The first that is given ends, or lies, at or behind it. */
  readonly from: EventBound | 'start'
  /** What ends, or lies, at or behind it is not given. */
  readonly to: EventBound | 'end'
  /** Called for each segment of which the index was read or, where it is missing, computed. */
  readonly onSegment?: (name: string, how: 'read' | 'computed') => void
  /** Hears of a damaged index that the segment made good. */
  readonly onWarning?: (failure: Failure) => void
}

export type EventBound = { readonly lsn: Lsn } | { readonly time: Microseconds }

/** Break out of the loop to stop early. */
export async function* readEvents(_options: ReadEventsOptions): AsyncGenerator<FoldedEvent> {
  throw new Error('the event index cannot be read yet')
}
