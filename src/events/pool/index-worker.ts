/**
 * A thread that computes and encodes indexes of segments, one after the other.
 */
import { parentPort } from 'node:worker_threads'
import { hashContent } from '../../archive/wal-object.ts'
import { parseSegmentName } from '../../postgres/lsn.ts'
import { buildIndex } from '../build-index.ts'
import { encodeIndex } from '../index-bytes/encode-index.ts'

export interface IndexJob {
  readonly number: number
  readonly systemIdentifier: bigint
  /** Of the segment. */
  readonly name: string
  /** The whole segment. */
  readonly bytes: Uint8Array
}

export interface IndexAnswer {
  readonly number: number
  /** Undefined: `error` says why. */
  readonly index: Uint8Array | undefined
  readonly error: string | undefined
}

export function encodeIndexOf({ systemIdentifier, name, bytes }: IndexJob): Buffer {
  const named = parseSegmentName(name, bytes.length)
  if (named === undefined) throw new Error(`${name} is no segment of ${bytes.length} bytes`)
  const contentHash = hashContent(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
  return encodeIndex(buildIndex({ systemIdentifier, ...named, bytes, contentHash }))
}

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
