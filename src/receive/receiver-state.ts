/** What a receiver remembers from one connection to the next, and what a connection is. */
import type { WalGap } from '../archive/gap-record.ts'
import { type Lsn, segmentNumber, segmentStart, type Timeline } from '../postgres/lsn.ts'
import type { ReplicationSession } from '../postgres/replication-session.ts'
import type { ServerSession } from '../postgres/server-session.ts'
import type { DerivedKeeper } from './keep-derived.ts'
import { DEFAULT_TIMING, type ReceiveOptions, type ReceiveTiming } from './receive-options.ts'

export interface ReceiverState {
  readonly options: ReceiveOptions
  readonly derived: DerivedKeeper
  timeline: Timeline | undefined
  /** Durable in every required repository. */
  flushed: Lsn | undefined
  until: Lsn | undefined
  /** Something came and was stored: what fails from here on is tried again. */
  hasStreamed: boolean
  /** The last one that was found, and recorded: streaming goes on behind it. */
  gap: WalGap | undefined
  /** Aborted by the caller, or once `until` is reached. */
  readonly end: AbortController
}

export interface Connection {
  readonly connection: string
  readonly server: ServerSession
  readonly session: ReplicationSession
  /** What the server's wal_sender_timeout allows. */
  readonly statusEveryMs: number
}

export function timingOf({ options }: ReceiverState): ReceiveTiming {
  return { ...DEFAULT_TIMING, ...options.timing }
}

export function startOfSegment(position: Lsn, walSegmentSizeBytes: number): Lsn {
  return segmentStart(segmentNumber(position, walSegmentSizeBytes), walSegmentSizeBytes)
}
