/** What the main thread and the WAL worker threads say to each other. */
import type { FailureMessage } from '../../base/failure.ts'
import type { FirstPage } from '../judge-segment.ts'
import type { ExpectedWalObject } from '../wal-object.ts'

export interface EncodeJob {
  readonly kind: 'encode'
  /** Of a segment. */
  readonly path: string
}

/** A segment that was read, looked at and encoded. */
export interface EncodedSegment {
  readonly bytes: number
  /** hashContent() of the raw content. */
  readonly contentHash: string
  readonly page: FirstPage
  /** What judgePages() says. */
  readonly pagesProblem: string | undefined
  /** The WAL object. */
  readonly object: Uint8Array
}

export interface DecodeJob {
  readonly kind: 'decode'
  readonly key: string
  readonly object: Uint8Array
  readonly expected: ExpectedWalObject
  /** Created, written, synced; a failure removes it. */
  readonly path: string
}

export type ToWorker = EncodeJob | DecodeJob

export type FromWorker =
  | { readonly kind: 'encoded'; readonly segment: EncodedSegment }
  | { readonly kind: 'decoded' }
  | { readonly kind: 'failed'; readonly failure: FailureMessage }
  | { readonly kind: 'crashed'; readonly error: string }
