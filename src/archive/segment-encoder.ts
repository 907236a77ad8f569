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
    const compressed = firstFrame(Buffer.concat(this.#pieces))
    return { bytes: assembleWalObject(object, contentHash, compressed), contentHash }
  }

  /** The segment will not be whole. */
  discard(): void {
    this.#compress?.destroy()
  }
}

const EMPTY_FRAME_BYTES = 9

/**
 * Node ends a frame once more where its last input or output filled a turn: frames of nothing
 * follow (nodejs/node#66078), and whoever expects one frame takes them for damage.
 */
function firstFrame(compressed: Buffer): Buffer {
  const end = findFrameEnd(compressed)
  const more = compressed.length - end
  if (more % EMPTY_FRAME_BYTES !== 0) throw new Error(`zstd: ${more} bytes behind the frame`)
  for (let at = end; at < compressed.length; at += EMPTY_FRAME_BYTES) {
    const empty = compressed.subarray(at)
    const isEmpty =
      findFrameEnd(empty) === EMPTY_FRAME_BYTES && empty.readUIntLE(6, 3) === LAST_EMPTY
    if (!isEmpty) throw new Error('zstd: a second frame')
  }
  return compressed.subarray(0, end)
}

/** A last raw block of no bytes. */
const LAST_EMPTY = 1
const RLE_BLOCK = 1

/** RFC 8878, 3.1.1: header, blocks up to the last one, a checksum if the header says so. */
function findFrameEnd(frame: Buffer): number {
  const descriptor = frame.readUInt8(4)
  const isSingle = (descriptor & 0x20) !== 0
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] as number
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number
  let at = 5 + (isSingle ? 0 : 1) + dictionaryBytes + sizeBytes
  for (;;) {
    const block = frame.readUIntLE(at, 3)
    at += 3 + (((block >> 1) & 3) === RLE_BLOCK ? 1 : block >> 3)
    if ((block & 1) === 1) return at + ((descriptor & 4) === 0 ? 0 : 4)
  }
}
