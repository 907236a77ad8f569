/**
 * The event index of one segment in memory: what the builder makes, what is written, and what
 * the reader folds (docs/design/event-index.md, section 3). Offsets are from the segment's start.
 */
import type { Lsn, Timeline } from '../postgres/lsn.ts'
import type { OtherContent, RelationNode } from './folded-event.ts'

/** Microseconds from 1970 to 2000, where PostgreSQL's timestamps begin. */
export const POSTGRES_EPOCH_MICROS = 946_684_800_000_000n

export interface IndexHeader {
  readonly systemIdentifier: bigint
  readonly segmentStart: Lsn
  readonly timeline: Timeline
  readonly walSegmentSizeBytes: number
  /** hashContent() of the raw segment; in indexes of old its SHA-256. */
  readonly contentHash: string
  readonly major: number
  /** Microseconds since 2000: of ends of transactions and restore points. */
  readonly times: { readonly earliest: number; readonly latest: number } | undefined
  readonly snapshot: RunningSnapshot | undefined
  /** Behind the last record that is folded. */
  readonly endOffset: number
  /** Why nothing is folded from there on, where the segment goes on. */
  readonly end: 'whole' | 'no-record' | 'damage'
  readonly endCount: number
}

/** The first record of a segment that tells which transactions run. */
export interface RunningSnapshot {
  readonly offset: number
  readonly nextXid: number
  readonly oldestXid: number
}

export interface IndexedRelation extends RelationNode {
  readonly isToast: boolean
}

/** Counts of one relation: see COUNTS for their order. */
export const COUNTS = [
  'inserted',
  'updated',
  'deleted',
  'movedAway',
  'takenBack',
  'pagesLogged',
] as const
export const COUNT_KINDS = COUNTS.length
export const INSERTED = 0
export const UPDATED = 1
export const DELETED = 2
export const MOVED_AWAY = 3
export const TAKEN_BACK = 4
export const PAGES_LOGGED = 5

/** What a transaction did in a segment: for each relation its number, then COUNT_KINDS counts. */
export type Shape = readonly number[]
export const SHAPE_STRIDE = 1 + COUNT_KINDS

export const NO_SHAPE = -1
export const END_COMMIT = 1
export const END_ABORT = 2
export const END_KIND_MASK = 3
export const END_PREPARED = 4
export const END_HAS_EXTRA = 8

/** Ends of transactions in the order of the WAL, as columns: one may hold 150,000 of them. */
export interface EndColumns {
  readonly kinds: readonly number[]
  readonly xids: readonly number[]
  readonly offsets: readonly number[]
  readonly endOffsets: readonly number[]
  /** Microseconds since 2000. */
  readonly times: readonly number[]
  /** NO_SHAPE, or a number in `shapes`. */
  readonly shapes: readonly number[]
  /** Offset of the first record that counts; its own offset without a shape. */
  readonly begins: readonly number[]
  /** By the number of the end. */
  readonly extras: ReadonlyMap<number, EndExtra>
}

export interface EndExtra {
  /** 0: not told. */
  readonly database: number
  readonly subxids: readonly number[]
  /** Numbers in `relations`. */
  readonly dropped: readonly number[]
}

/** A transaction, or subtransaction, that did something here and does not end here. */
export interface OpenPart {
  readonly xid: number
  /** 0: not told. */
  readonly topXid: number
  readonly shape: number
  readonly first: number
  readonly last: number
}

export interface PlacedOther {
  readonly offset: number
  readonly xid: number
  readonly content: OtherContent
}

/** The first bytes of a record that goes on in the next segment, without page headers. */
export interface RecordHead {
  readonly offset: number
  readonly bytes: Uint8Array
}

/** What continues the record that began in an earlier segment. */
export interface RecordRest {
  /** The server gave that record up. */
  readonly isOverwritten: boolean
  /** Where the first record begins; the segment's size when none does. */
  readonly firstOffset: number
  readonly bytes: Uint8Array
}

export interface SegmentEvents {
  readonly relations: readonly IndexedRelation[]
  readonly shapes: readonly Shape[]
  readonly ends: EndColumns
  readonly open: readonly OpenPart[]
  readonly others: readonly PlacedOther[]
  readonly head: RecordHead | undefined
  readonly rest: RecordRest
}

/** Ascending blocks of one fork. */
export interface ChangedFork {
  readonly node: RelationNode
  readonly fork: number
  readonly blocks: Uint32Array
}

export interface SegmentIndex {
  readonly header: IndexHeader
  readonly events: SegmentEvents
  readonly pages: readonly ChangedFork[]
}
