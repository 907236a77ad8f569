/**
 * What the main thread and the copy workers say to each other. Values only: they cross
 * threads by structured clone.
 */
import type { FailureMessage } from '../../base/failure.ts'
import type { FrameReference, LeafReference } from '../../repository/backup-record.ts'
import type { PackSummary } from '../../repository/pack-writer.ts'

export interface WorkerSetup {
  readonly storageUrl: string
  readonly cluster: string
  readonly attemptId: string
  readonly firstSequence: number
  readonly sequenceStep: number
  readonly compressionLevel: number
  readonly verifyChecksums: boolean
  /** Pages with an LSN at or above it are written again by replay. */
  readonly startLsn: bigint
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
  /** A relation map is read until its CRC holds. */
  readonly isRelationMap: boolean
  readonly base: { readonly sha256: string; readonly chunks: readonly FrameReference[] } | undefined
}

export type CopyPiece = PagesPiece | ContentPiece

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
  /** Blocks (within the relation fork) with a wrong checksum that replay will not mend. */
  readonly damagedBlocks: readonly number[]
  readonly storedPages: number
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
  | { readonly type: 'copy'; readonly pieces: readonly CopyPiece[] }
  | { readonly type: 'finish' }
  | { readonly type: 'abort' }

export type FromWorker =
  | { readonly type: 'copied'; readonly bytes: number }
  | { readonly type: 'results'; readonly results: readonly CopyResult[] }
  | { readonly type: 'finished'; readonly packs: readonly PackSummary[] }
  | { readonly type: 'aborted' }
  | { readonly type: 'failed'; readonly failure: FailureMessage | undefined; readonly text: string }
