/**
 * What the main thread and the copy workers say to each other. Values only: they cross
 * threads by structured clone.
 */
import type { FailureMessage } from '../../base/failure.ts'
import type { FrameReference, LeafReference } from '../../repository/backup-record.ts'
import type { PackSummary } from '../../repository/pack-writer.ts'
import type { StorageSpecification } from '../../storage/open-storage.ts'

/** What a worker is started with, before anything is known of the backup. */
export interface WorkerStart {
  readonly targets: readonly {
    readonly storage: StorageSpecification
    readonly required: boolean
  }[]
  /** The memory of their WriteGroup. */
  readonly dropped: SharedArrayBuffer
  /** One Int32: not 0 once the workers shall stop; read between pieces. */
  readonly stop: SharedArrayBuffer
}

export interface CopySetup {
  readonly cluster: string
  readonly attemptId: string
  /** Numbers of the targets that hold the backup compared with, the nearest first. */
  readonly comparedIn: readonly number[]
  readonly compressionLevel: number
  readonly verifyChecksums: boolean
  /** Pages and leaves in these packs are stored again. */
  readonly oldPacks: ReadonlySet<string>
}

export interface WorkerSetup extends CopySetup {
  readonly firstSequence: number
  readonly sequenceStep: number
}

/** Pages [firstPage, firstPage + pages) of one relation file; firstPage begins a leaf. */
export interface PagesPiece {
  readonly form: 'pages'
  readonly file: number
  readonly location: string
  readonly path: string
  readonly firstPage: number
  readonly pages: number
  /** Block number of the file's first page within its relation fork. */
  readonly firstBlock: number
  /** The leaves of the same pages in the backup compared with. */
  readonly base: readonly LeafReference[]
}

export interface ContentPiece {
  readonly form: 'content'
  readonly file: number
  readonly location: string
  readonly path: string
  readonly base:
    | {
        readonly size: number
        readonly sha256: string
        readonly chunks: readonly FrameReference[]
      }
    | undefined
}

export type CopyPiece = PagesPiece | ContentPiece

/** A page whose checksum is wrong at every read. */
export interface BadPage {
  /** Within the relation fork. */
  readonly block: number
  /** pd_lsn as it was read: noise, where the header is what was damaged. */
  readonly lsn: bigint
  /** The backup compared with holds other bytes for this page. */
  readonly isNew: boolean
}

export interface PagesResult {
  readonly form: 'pages'
  readonly file: number
  readonly firstPage: number
  /** Fewer than asked for when the file was truncated meanwhile. */
  readonly pages: number
  readonly leaves: readonly LeafReference[]
  /** SHA-256 of the fingerprints of each leaf, hex. */
  readonly leafDigests: readonly string[]
  /** Packs that the pages lie in. */
  readonly packs: readonly string[]
  readonly badPages: readonly BadPage[]
  readonly storedPages: number
  /** Leaves of the backup compared with that are damaged or gone. */
  readonly lostBaseLeaves: number
}

export interface ContentResult {
  readonly form: 'content'
  readonly file: number
  readonly size: number
  readonly sha256: string
  readonly chunks: readonly FrameReference[]
}

export interface VanishedResult {
  readonly form: 'vanished'
  readonly file: number
}

export type CopyResult = PagesResult | ContentResult | VanishedResult

export type ToWorker =
  | { readonly type: 'begin'; readonly setup: WorkerSetup }
  | { readonly type: 'copy'; readonly pieces: readonly CopyPiece[] }
  | { readonly type: 'finish' }
  | { readonly type: 'abort' }

export type FromWorker =
  | { readonly type: 'copied'; readonly bytes: number }
  | { readonly type: 'results'; readonly results: readonly CopyResult[] }
  | { readonly type: 'finished'; readonly packs: readonly PackSummary[] }
  | { readonly type: 'aborted' }
  /** A target that is not required has failed: this worker, and all others, leave it out. */
  | { readonly type: 'dropped'; readonly target: number; readonly failure: FailureMessage }
  | { readonly type: 'failed'; readonly failure: FailureMessage | undefined; readonly text: string }
