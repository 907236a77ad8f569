/**
 * What a reader of the event index gets, in the order of LSNs: whole transactions, folded over
 * segments and subtransactions, and everything else that the WAL tells
 * (docs/design/event-index.md). Relations are file nodes here; name-resolver.ts has their names.
 */
import type { Lsn, Timeline } from '../postgres/lsn.ts'
import type { Microseconds, WalLevel } from '../postgres/wal-event.ts'

/** A file node: where a relation's bytes lie. */
export interface RelationNode {
  readonly tablespace: number
  /** 0: shared by all databases. */
  readonly database: number
  readonly number: number
}

export interface RelationRows {
  readonly node: RelationNode
  /** Speculative insertions that were taken back are subtracted. */
  readonly inserted: number
  readonly updated: number
  readonly deleted: number
  /** Rows that an UPDATE moved to another partition; they are `inserted` there. */
  readonly movedAway: number
  /** Pages that were logged whole: how VACUUM FULL, CLUSTER and index builds fill a file. */
  readonly pagesLogged: number
  /** Rows that only a TOAST table has were seen. */
  readonly isToast: boolean
}

export interface CreatedStorage {
  readonly node: RelationNode
  readonly lsn: Lsn
  /** Its rows are not in the WAL, and recovery empties it: only its init fork is logged. */
  readonly isUnlogged: boolean
}

export interface FoldedTransaction {
  readonly kind: 'transaction'
  /** `lost`: it was open when the server crashed; its LSN is that of the record that tells so. */
  readonly outcome: 'committed' | 'aborted' | 'lost'
  /** Ended by COMMIT PREPARED or ROLLBACK PREPARED. */
  readonly isPrepared: boolean
  readonly xid: number
  /** Of a subtransaction that ended on its own (rolled back), where the WAL tells it. */
  readonly topXid: number | undefined
  readonly timeline: Timeline
  /** Of the record that ends it. */
  readonly lsn: Lsn
  readonly endLsn: Lsn
  /** Of its first record that was seen; equals `lsn` when it changed nothing. */
  readonly firstLsn: Lsn
  /** Undefined for a lost one. */
  readonly time: Microseconds | undefined
  /** Undefined where nothing tells it. */
  readonly database: number | undefined
  /** Committed with it, or aborted with it. */
  readonly subxids: readonly number[]
  /** Its own rows and those of its subxids, by relation. */
  readonly rows: readonly RelationRows[]
  /** New main forks, its own and those of its subxids. */
  readonly created: readonly CreatedStorage[]
  /** Files that went with its end. */
  readonly dropped: readonly RelationNode[]
  /** It may have done more than could be seen: before the reading began, or in a gap. */
  readonly isIncomplete: boolean
}

interface Place {
  readonly lsn: Lsn
  readonly timeline: Timeline
  /** 0: of no transaction. */
  readonly xid: number
}

export type OtherEvent = Place & OtherContent

export type OtherContent =
  | {
      readonly kind: 'storage-created'
      readonly node: RelationNode
      readonly isUnlogged: boolean
    }
  | { readonly kind: 'storage-truncated'; readonly node: RelationNode; readonly blocks: number }
  | {
      readonly kind: 'relation-truncated'
      readonly database: number
      readonly relationOids: readonly number[]
    }
  | { readonly kind: 'prepared'; readonly database: number; readonly time: Microseconds }
  | { readonly kind: 'assigned'; readonly subxids: readonly number[] }
  | { readonly kind: 'restore-point'; readonly name: string; readonly time: Microseconds }
  | {
      readonly kind: 'checkpoint'
      /** Of a server that stopped, or that has ended its crash recovery: a restart follows. */
      readonly isShutdown: boolean
      readonly redo: Lsn
      readonly timelineAfter: Timeline
      readonly timelineBefore: Timeline
      readonly fullPageWrites: boolean
      readonly nextXid: bigint
      readonly nextOid: number
      readonly time: Microseconds
      /** No record is before it: initdb or pg_resetwal. */
      readonly isFirst: boolean
    }
  | { readonly kind: 'running'; readonly nextXid: number; readonly oldestXid: number }
  | { readonly kind: 'backup-end'; readonly startLsn: Lsn }
  | {
      readonly kind: 'parameters'
      readonly walLevel: WalLevel
      readonly maxConnections: number
      readonly maxWorkerProcesses: number
      readonly maxWalSenders: number
      readonly maxPreparedTransactions: number
      readonly maxLocksPerTransaction: number
      readonly walLogHints: boolean
      readonly trackCommitTimestamp: boolean
    }
  | { readonly kind: 'full-page-writes'; readonly on: boolean }
  | {
      readonly kind: 'end-of-recovery'
      readonly timelineAfter: Timeline
      readonly timelineBefore: Timeline
      readonly time: Microseconds
    }
  | { readonly kind: 'overwritten'; readonly overwrittenLsn: Lsn; readonly time: Microseconds }
  | { readonly kind: 'switch' }
  | { readonly kind: 'tablespace-created'; readonly oid: number; readonly path: string }
  | { readonly kind: 'tablespace-dropped'; readonly oid: number }
  | {
      readonly kind: 'database-created'
      readonly database: number
      readonly tablespace: number
      readonly strategy: 'file-copy' | 'wal-log'
      readonly source: { readonly database: number; readonly tablespace: number } | undefined
    }
  | {
      readonly kind: 'database-dropped'
      readonly database: number
      readonly tablespaces: readonly number[]
    }
  | { readonly kind: 'map-changed'; readonly tablespace: number; readonly database: number }
  | {
      readonly kind: 'relation-named'
      readonly node: RelationNode
      readonly oid: number
      readonly schemaOid: number
      readonly name: string
      /** relkind. */
      readonly relationKind: string
    }
  | {
      readonly kind: 'schema-named'
      readonly database: number
      readonly oid: number
      readonly name: string
    }

/** WAL that is missing or damaged: what happened there is not known. */
export interface EventGap {
  readonly kind: 'gap'
  readonly timeline: Timeline
  /** Where the first record lies that is missing. */
  readonly lsn: Lsn
  readonly firstSegment: string
  readonly lastSegment: string
  readonly reason: 'missing' | 'damaged'
}

export type FoldedEvent = FoldedTransaction | OtherEvent | EventGap
