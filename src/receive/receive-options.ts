/**
 * What a receiver is told, and what it tells: plain values.
 */
import type { WalGap } from '../archive/gap-record.ts'
import type { Failure } from '../base/failure.ts'
import type { ConnectionDefaults } from '../postgres/connection-url.ts'
import type { Lsn, Timeline } from '../postgres/lsn.ts'
import type { SlotOutcome } from '../postgres/replication-slot.ts'
import type { Storage } from '../storage/storage.ts'
import type { StreamPosition } from './stream-wal.ts'

export interface ReceiveOptions {
  readonly cluster: string
  /** Connection URLs: that of the cluster, then those of its standbys. */
  readonly connections: readonly [string, ...string[]]
  readonly defaults?: ConnectionDefaults
  readonly slot: string
  /** What synchronous_standby_names knows the receiver by. */
  readonly applicationName: string
  /** Must have what is acknowledged. */
  readonly required: readonly Storage[]
  readonly others: readonly Storage[]
  readonly synchronous: boolean
  /** On object stores: the shortest time between two pieces of a tail. */
  readonly flushEveryMs?: number
  /** Ends once this is durable; `end`: what the server has flushed when first connected. */
  readonly until?: Lsn | 'end'
  readonly timing?: Partial<ReceiveTiming>
  /** Ends the receiver: what came is flushed first. */
  readonly signal: AbortSignal
  readonly onEvent: (event: ReceiveEvent) => void
}

export interface ReceiveTiming {
  /** After so much silence the server is asked, after as much again it is given up. */
  readonly silenceMs: number
  /** Between two status updates, at most. */
  readonly statusEveryMs: number
  /** Between two attempts to connect: the first, and the longest. */
  readonly retryMs: readonly [number, number]
  /** How often the slots of standbys are moved. */
  readonly standbysEveryMs: number
}

export const DEFAULT_TIMING: ReceiveTiming = {
  silenceMs: 30_000,
  statusEveryMs: 10_000,
  retryMs: [250, 5000],
  standbysEveryMs: 60_000,
}

export type ReceiveEvent =
  | {
      readonly kind: 'connected'
      readonly address: string
      readonly timeline: Timeline
      readonly serverEnd: Lsn
      readonly isInRecovery: boolean
    }
  | {
      readonly kind: 'slot'
      readonly slot: string
      readonly outcome: SlotOutcome
      readonly restartLsn: Lsn
    }
  | { readonly kind: 'streaming'; readonly timeline: Timeline; readonly from: Lsn }
  | { readonly kind: 'position'; readonly position: StreamPosition }
  | { readonly kind: 'segment'; readonly name: string; readonly storedBytes: number }
  | { readonly kind: 'history'; readonly timeline: Timeline }
  | {
      readonly kind: 'switched'
      readonly from: Timeline
      readonly end: Lsn
      readonly to: Timeline
      readonly isBeyondFork: boolean
    }
  /** WAL that is missing for ever; recorded in the repositories. */
  | { readonly kind: 'gap'; readonly gap: WalGap; readonly failure: Failure }
  /** Heals by itself, or is no loss: said once. */
  | { readonly kind: 'warning'; readonly failure: Failure }
  | { readonly kind: 'waiting'; readonly because: string; readonly pauseMs: number }
  | { readonly kind: 'disconnected'; readonly failure: Failure; readonly pauseMs: number }

export interface ReceiveResult {
  readonly timeline: Timeline | undefined
  /** Durable up to here; undefined: nothing ever was. */
  readonly flushed: Lsn | undefined
}
