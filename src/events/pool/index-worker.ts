/**
 * A thread that computes and encodes indexes of segments, one after the other.
 */
import { readlinkSync } from 'node:fs'
import { setPriority } from 'node:os'
import { basename } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import type { WalBreak } from '../../archive/break-mark.ts'
import { hashContent } from '../../archive/wal-object.ts'
import { parseSegmentName } from '../../postgres/lsn.ts'
import { buildIndex } from '../build-index.ts'
import { findBreaks, findEdges, type SegmentEdges } from '../find-breaks.ts'
import { encodeIndex } from '../index-bytes/encode-index.ts'

const NICENESS = 10

export interface IndexWorkerData {
  readonly isNice: boolean
}

export interface IndexJob {
  readonly number: number
  readonly systemIdentifier: bigint
  /** Of the segment. */
  readonly name: string
  /** The whole segment. */
  readonly bytes: Uint8Array
}

/** What is derived from a segment and stored beside it. */
export interface EncodedIndex {
  readonly bytes: Uint8Array
  readonly breaks: readonly WalBreak[]
  readonly edges: SegmentEdges
}

export interface IndexAnswer {
  readonly number: number
  /** Undefined: `error` says why. */
  readonly index: EncodedIndex | undefined
  readonly error: string | undefined
}

export function encodeIndexOf({ systemIdentifier, name, bytes }: IndexJob): EncodedIndex {
  const named = parseSegmentName(name, bytes.length)
  if (named === undefined) throw new Error(`${name} is no segment of ${bytes.length} bytes`)
  const contentHash = hashContent(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
  const index = buildIndex({ systemIdentifier, ...named, bytes, contentHash })
  return { bytes: encodeIndex(index), breaks: findBreaks(index), edges: findEdges(index) }
}

/**
 * This thread alone: whoever receives WAL is in the same process. Elsewhere than on Linux threads
 * have no priority of their own, and it stays as it is.
 */
function makeNice(): void {
  try {
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), NICENESS)
  } catch {
    // Only speed is lost.
  }
}

if ((workerData as IndexWorkerData | null)?.isNice === true) makeNice()

parentPort?.on('message', (job: IndexJob) => {
  const { number } = job
  const answer = ((): IndexAnswer => {
    try {
      return { number, index: encodeIndexOf(job), error: undefined }
    } catch (error) {
      return { number, index: undefined, error: error instanceof Error ? String(error.stack) : '' }
    }
  })()
  parentPort?.postMessage(answer)
})
