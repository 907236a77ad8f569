/**
 * What the main thread and the workers of a file restore say to each other.
 *
 * A batch is a part of the file list whose pages are restored together; its fingerprints
 * lie in memory that all threads share. Tasks name files by their number in the batch.
 */
import type { FailureMessage } from '../../base/failure.ts'
import type { FrameReference } from '../../repository/backup-record.ts'
import type { PassedOver } from '../../storage/fallback-storage.ts'
import type { StorageSpecification } from '../../storage/open-storage.ts'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

export interface WorkerSettings {
  readonly storage: StorageSpecification
  readonly cluster: string
  readonly backup: string
  readonly dataDirectory: string
  readonly owner: Owner | undefined
}

export interface BatchFile {
  /** Where it is written, relative to the data directory. */
  readonly path: string
  readonly mode: number
  readonly size: number
  /** Large: written past the page cache where the file system can do that. */
  readonly direct?: boolean
  /** Content files only. */
  readonly chunks?: readonly FrameReference[]
  readonly sha256?: string
}

/**
 * Runs are flat: number of the pack in the task, frame, slot, pages, file, first page, index
 * of the first fingerprint. No run goes beyond its frame.
 */
export const RUN_FIELDS = 7

export type ToWorker =
  | {
      readonly kind: 'batch'
      readonly files: readonly BatchFile[]
      readonly fingerprints: SharedArrayBuffer
    }
  | { readonly kind: 'pages'; readonly packs: readonly string[]; readonly runs: Uint32Array }
  | { readonly kind: 'content'; readonly files: readonly number[] }
  /** Files that hold nothing but zero pages, or nothing at all. */
  | { readonly kind: 'create'; readonly files: readonly number[] }
  /** Close files and answer: all that was written of the batch is in the kernel's hands. */
  | { readonly kind: 'end' }

/** Pieces are flat: file, first page, pages, CRC-32C. */
export const PIECE_FIELDS = 4

export type FromWorker =
  | {
      readonly kind: 'done'
      readonly bytes: number
      readonly pieces: Uint32Array
      /** Per content file: file, CRC-32C. */
      readonly contents: Uint32Array
    }
  | { readonly kind: 'ended' }
  /** A repository did not give what another one gave. */
  | { readonly kind: 'passed-over'; readonly event: PassedOver }
  | { readonly kind: 'failed'; readonly failure: FailureMessage }
  | { readonly kind: 'crashed'; readonly error: string }
