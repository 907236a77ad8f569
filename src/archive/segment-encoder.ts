/**
 * The WAL object of a segment that grows: compressed by libuv's threads while it comes, so that
 * little is left to do when it is whole. Synchronous commits wait for that.
 */
import { createZstdCompress, type ZstdCompress } from 'node:zlib'
import {
  assembleWalObject,
  hashContent,
  WAL_COMPRESSION,
  type WalObjectContent,
} from './wal-object.ts'

/** Fewer bytes at once would cost more turns than they save. */
const STEP_BYTES = 1024 * 1024
const OUTPUT_PIECE_BYTES = 256 * 1024

export interface EncodedWalObject {
  readonly bytes: Uint8Array
  readonly contentHash: string
}

export class SegmentEncoder {
  readonly #pieces: Buffer[] = []
  #compress: ZstdCompress | undefined
  #taken = 0
  #failed: Error | undefined

  /** Is it worth while to feed it, now that so many bytes are there? */
  isDue(bytes: number): boolean {
    return bytes - this.#taken >= STEP_BYTES
  }

  /** `content`: from the first byte on; what is in it must not change any more. */
  feed(content: Uint8Array): void {
    this.#stream().write(content.subarray(this.#taken))
    this.#taken = content.length
  }

  #stream(): ZstdCompress {
    if (this.#compress !== undefined) return this.#compress
    const options = { params: WAL_COMPRESSION, chunkSize: OUTPUT_PIECE_BYTES }
    const compress = createZstdCompress(options)
    compress.on('data', (piece: Buffer) => this.#pieces.push(piece))
    compress.on('error', (error) => {
      this.#failed ??= error
    })
    this.#compress = compress
    return compress
  }

  /** `object.content`: all of it, fed or not. Once. */
  async finish(object: WalObjectContent): Promise<EncodedWalObject> {
    const compress = this.#stream()
    if (this.#failed !== undefined) throw this.#failed
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    compress.once('end', () => resolve(undefined)).once('error', reject)
    this.feed(object.content)
    compress.end()
    const contentHash = hashContent(object.content)
    await promise
    const compressed = Buffer.concat(this.#pieces)
    return { bytes: assembleWalObject(object, contentHash, compressed), contentHash }
  }

  /** The segment will not be whole. */
  discard(): void {
    this.#compress?.destroy()
  }
}
