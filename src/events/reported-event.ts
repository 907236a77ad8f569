/**
 * What is shown of the WAL to a person: one thing that happened, with its kinds and where it
 * lies. Values only.
 */
import type { Lsn, Timeline } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import type { ClassifiedTransaction } from './classify-transaction.ts'

/** In the order in which they are shown. */
export const EVENT_KINDS = [
  'drop-database',
  'drop-tablespace',
  'drop',
  'truncate',
  'delete',
  'update',
  'rewrite',
  'index',
  'insert',
  'commit',
  'prepare',
  'abort',
  'create-database',
  'create-tablespace',
  'restore-point',
  'timeline',
  'restart',
  'settings',
  'backup',
  'reset',
  'gap',
] as const

export type EventKind = (typeof EVENT_KINDS)[number]

export interface NamedDatabase {
  readonly oid: number
  readonly name: string | undefined
}

export interface ReportedEvent {
  /** The gravest first. */
  readonly kinds: readonly EventKind[]
  /** Undefined where nothing in the WAL tells. */
  readonly time: Microseconds | undefined
  /** The last time that something before it has, where it has none. */
  readonly after: Microseconds | undefined
  readonly timeline: Timeline
  /** Of the record that makes it so. */
  readonly lsn: Lsn
  /** Recovery up to here, this record not included, brings back what was before it. */
  readonly beforeLsn: Lsn
  /** 0: of no transaction. */
  readonly xid: number
  readonly subxids: readonly number[]
  readonly database: NamedDatabase | undefined
  readonly transaction: ReportedTransaction | undefined
  /** Of what is no transaction: a sentence without a full stop. */
  readonly text: string
  /** The WAL before it was not there: it may have done more. */
  readonly isIncomplete: boolean
}

export interface ReportedTransaction extends ClassifiedTransaction {
  readonly outcome: 'committed' | 'aborted' | 'lost'
  /** Ended by COMMIT PREPARED or ROLLBACK PREPARED. */
  readonly isPrepared: boolean
}
