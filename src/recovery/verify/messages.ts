/**
 * What the main thread and the workers of verify say to each other: one answer for each
 * task. Damage is an answer; what fails is a storage that cannot be read, or a defect.
 */
import type { FailureMessage } from '../../base/failure.ts'
import type { TimelineHistory } from '../../postgres/history-file.ts'
import type { Lsn } from '../../postgres/lsn.ts'
import type { FrameReference, LeafReference } from '../../repository/backup-record.ts'
import type { StorageSpecification } from '../../storage/open-storage.ts'
import type { PackPrints } from './page-prints.ts'

export interface VerifySettings {
  readonly cluster: string
  /** Pages of a file of a relation. */
  readonly segmentBlocks: number
}

export interface VerifyWorkerData extends VerifySettings {
  readonly storage: StorageSpecification
}

export type Task = PackTask | LeavesTask | ContentTask | CheckTask | ScanTask | ObjectTask

export interface PackTask {
  readonly kind: 'pack'
  readonly pack: string
}

export interface PackAnswer {
  readonly frames: number
  readonly pages: number
  readonly bytes: number
  /** `frame` undefined: the pack as a whole. */
  readonly faults: readonly Fault[]
  /** Of its frames of kind 6. */
  readonly records: readonly RecordFrame[]
  readonly prints: PackPrints | undefined
}

export interface RecordFrame {
  readonly frame: number
  readonly backupId: string
}

/** Where something does not hold, and how. */
export interface Fault {
  readonly pack: string
  readonly frame: number | undefined
  readonly failure: FailureMessage
}

export interface LeavesTask {
  readonly kind: 'leaves'
  readonly checksums: boolean
  readonly leaves: readonly LeafToProve[]
}

export interface LeafToProve {
  readonly reference: LeafReference
  /** Of the file. */
  readonly firstPage: number
  readonly pages: number
  /** A leaf of the same pages that was proved before: what it says too is not read again. */
  readonly proved: LeafReference | undefined
}

export interface LeafAnswer {
  /** Hex SHA-256 of the fingerprints; undefined when the leaf cannot be read. */
  readonly digest: string | undefined
  /** Packs that the pages lie in. */
  readonly packs: readonly string[]
  /** Damaged or missing objects that pages of the leaf lie in, with the pages of the file. */
  readonly lost: readonly LostPages[]
  /** Where map and pages do not agree: the reason, and pages of the file. */
  readonly wrong: readonly { readonly page: number; readonly because: string }[]
  readonly badChecksums: readonly BadPage[]
  /** Pages whose fingerprint was compared. */
  readonly compared: number
  /** Stored bytes that were read for it. */
  readonly read: number
}

export interface BadPage {
  /** Of the file. */
  readonly page: number
  readonly lsn: bigint
  readonly pack: string
  readonly frame: number
}

export interface LostPages extends Fault {
  readonly pages: number
}

/** Files that are no relation forks: their chunks and their SHA-256. */
export interface ContentTask {
  readonly kind: 'content'
  readonly files: readonly {
    readonly size: number
    readonly chunks: readonly FrameReference[]
    readonly sha256: string
  }[]
}

export interface ContentAnswer {
  readonly lost: readonly Fault[]
  readonly wrong: string | undefined
}

export interface WalRange {
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  readonly path: TimelineHistory
  readonly first: bigint
  readonly last: bigint
}

/** Segments by their hashes and headers. */
export interface CheckTask extends WalRange {
  readonly kind: 'check'
}

export interface CheckAnswer {
  readonly problems: readonly { readonly name: string; readonly failure: FailureMessage }[]
}

/** Segments by their hashes and records: up to the first record behind `last`. */
export interface ScanTask extends WalRange {
  readonly kind: 'scan'
  readonly start: { readonly at: Lsn } | { readonly from: Lsn }
}

export interface ScanAnswer {
  /** Names of the segments whose bytes were proved. */
  readonly segments: readonly string[]
  readonly fault:
    | { readonly first: string; readonly last: string; readonly failure: FailureMessage }
    | undefined
  /** The latest moment that a record tells; ISO 8601. */
  readonly lastTime: string | undefined
}

/** A WAL object beside the segments: by its hashes, name and, where it has one, key's hash. */
export interface ObjectTask {
  readonly kind: 'object'
  readonly key: string
  readonly systemIdentifier: string
}

export interface ObjectAnswer {
  readonly failure: FailureMessage | undefined
}

export type Answer<T extends Task> = T extends PackTask
  ? PackAnswer
  : T extends LeavesTask
    ? readonly LeafAnswer[]
    : T extends ContentTask
      ? readonly ContentAnswer[]
      : T extends CheckTask
        ? CheckAnswer
        : T extends ScanTask
          ? ScanAnswer
          : ObjectAnswer

/** Told to every worker between packs and maps. */
export interface Knowledge {
  readonly prints: ReadonlyMap<string, PackPrints>
  /** Frames that do not hold, by pack; an empty list: the whole pack. */
  readonly damaged: ReadonlyMap<string, readonly number[]>
}

export type ToWorker =
  | { readonly kind: 'task'; readonly number: number; readonly task: Task }
  | { readonly kind: 'knowledge'; readonly knowledge: Knowledge }

export type FromWorker =
  | { readonly kind: 'answer'; readonly number: number; readonly answer: unknown }
  | { readonly kind: 'failed'; readonly failure: FailureMessage }
  | { readonly kind: 'crashed'; readonly error: string }
