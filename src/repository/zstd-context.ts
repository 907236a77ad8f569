/**
 * zstd with one context and one output buffer per thread.
 *
 * zlib's synchronous functions make a context and an output buffer for every call; on
 * frames of 128 KiB the collection of those buffers took more time than decompression
 * (0.76 s of CPU against 0.34 s for 1.3 GB, and 40 MB of memory). A stream object of zlib
 * keeps both, but its synchronous write is no public interface: what is found is tried on
 * known bytes first, and the public functions serve where it is not as expected.
 *
 * A compressor is never reset: node's reset() forgets the parameters, the level too, and every
 * frame would be one of level 3, zstd's default, whatever is asked for. That is what frames of
 * backups have in every repository: it was so before, and 3 is asked for now. A frame that ended
 * leaves the context ready for the next one; after one that failed there is a new stream. A
 * decompressor has no parameters, and is reset: a frame that is cut off ends without an error,
 * and must not run into the next one.
 *
 * Invariant: what compress() and decompress() return lies in the shared buffer and holds
 * until the next call on this thread. Frames are those of the public functions, byte by byte.
 */
import {
  constants,
  createZstdCompress,
  createZstdDecompress,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib'

export interface ZstdContext {
  compress(raw: Uint8Array): Uint8Array
  /** Throws when the bytes are not one zstd frame of at most `rawLength`. */
  decompress(stored: Uint8Array, rawLength: number): Uint8Array
}

/** Size of the pieces that the public functions put their output in: the least garbage. */
const OUTPUT_PIECE_BYTES = 32 * 1024

export function makeZstdContext(level: number, maxRawBytes: number): ZstdContext {
  const params = { [constants.ZSTD_c_compressionLevel]: level }
  const compress = openFrameCompressor(params, maxRawBytes)
  const decompress = openWriter(() => createZstdDecompress(), maxRawBytes + 1)
  const portable: ZstdContext = {
    compress: (raw) => zstdCompressSync(raw, { params, chunkSize: OUTPUT_PIECE_BYTES }),
    decompress: (stored, rawLength) =>
      zstdDecompressSync(stored, {
        chunkSize: Math.max(rawLength, 64),
        maxOutputLength: Math.max(rawLength, 1),
      }),
  }
  if (compress === undefined || decompress === undefined) return portable
  const direct: ZstdContext = {
    compress: (raw) => (raw.length > maxRawBytes ? portable.compress(raw) : compress(raw)),
    decompress: (stored, rawLength) =>
      rawLength > maxRawBytes ? portable.decompress(stored, rawLength) : decompress(stored),
  }
  return isSound(direct) ? direct : portable
}

/**
 * A compressor with parameters of its own that one thread uses again and again; undefined where the
 * handle is not as expected.
 */
export function openCompressor(
  params: Readonly<Record<number, number>>,
  maxRawBytes: number,
): ((raw: Uint8Array) => Uint8Array) | undefined {
  const compress = openFrameCompressor(params, maxRawBytes)
  if (compress === undefined) return undefined
  const sample = Buffer.from('a page of PostgreSQL has 8192 bytes. '.repeat(50))
  try {
    const isSame = (): boolean => zstdDecompressSync(compress(sample)).equals(sample)
    return isSame() && isSame() ? compress : undefined
  } catch {
    return undefined
  }
}

/** The same for frames of at most `maxRawBytes`. */
export function openDecompressor(
  maxRawBytes: number,
): ((stored: Uint8Array) => Uint8Array) | undefined {
  const decompress = openWriter(() => createZstdDecompress(), maxRawBytes + 1)
  if (decompress === undefined) return undefined
  const sample = Buffer.from('a page of PostgreSQL has 8192 bytes. '.repeat(50))
  const isSame = (): boolean => sample.equals(decompress(zstdCompressSync(sample)))
  try {
    if (!isSame()) return undefined
    decompress(Buffer.from('not zstd at all'))
    return undefined
  } catch {
    return isSame() ? decompress : undefined
  }
}

function openFrameCompressor(params: Readonly<Record<number, number>>, maxRawBytes: number) {
  const isReset = false
  return openWriter(() => createZstdCompress({ params }), boundOf(maxRawBytes), isReset)
}

/** ZSTD_COMPRESSBOUND with a margin. */
function boundOf(rawBytes: number): number {
  return rawBytes + (rawBytes >> 7) + 1024
}

interface WriteHandle {
  reset(): void
  onerror: (message: string, errno: number, code: string) => void
  writeSync(
    flush: number,
    input: Uint8Array,
    inputAt: number,
    inputLength: number,
    output: Uint8Array,
    outputAt: number,
    outputLength: number,
  ): void
}

interface OpenStream {
  readonly handle: WriteHandle
  /** [room left in the output, input left]. */
  readonly state: Uint32Array
  failed: string | undefined
}

function openHandle(stream: object): OpenStream | undefined {
  const { _handle: handle, _writeState: state } = stream as {
    _handle?: WriteHandle
    _writeState?: Uint32Array
  }
  if (typeof handle?.writeSync !== 'function' || typeof handle.reset !== 'function')
    return undefined
  if (!(state instanceof Uint32Array) || state.length < 2) return undefined
  const open: OpenStream = { handle, state, failed: undefined }
  handle.onerror = (message) => {
    open.failed = message
  }
  return open
}

/**
 * A function that puts one whole frame through a stream's handle; undefined without one.
 * A stream that has failed once stays failed: the next frame gets a new one.
 */
function openWriter(
  makeStream: () => object,
  outputBytes: number,
  isReset = true,
): ((input: Uint8Array) => Uint8Array) | undefined {
  let open = openHandle(makeStream())
  if (open === undefined) return undefined
  const output = Buffer.allocUnsafeSlow(outputBytes)
  return (input) => {
    open ??= openHandle(makeStream())
    if (open === undefined) throw new Error('zstd: no stream')
    const { handle, state } = open
    if (isReset) handle.reset()
    handle.writeSync(constants.ZSTD_e_end, input, 0, input.length, output, 0, output.length)
    const [roomLeft, inputLeft] = state
    const { failed } = open
    const isWhole = inputLeft === 0 && roomLeft !== undefined && roomLeft > 0
    if (failed !== undefined || !isWhole) open = undefined
    if (failed !== undefined) throw new Error(`zstd: ${failed}`)
    if (!isWhole) throw new Error('zstd: the frame does not fit')
    return output.subarray(0, output.length - roomLeft)
  }
}

/** Compared with the public functions in both directions, and on damaged bytes. */
function isSound(context: ZstdContext): boolean {
  const sample = Buffer.from('a page of PostgreSQL has 8192 bytes. '.repeat(50))
  try {
    const first = Buffer.from(context.compress(sample))
    const stored = Buffer.from(context.compress(sample))
    if (!first.equals(stored) || !zstdDecompressSync(stored).equals(sample)) return false
    if (!sample.equals(context.decompress(stored, sample.length))) return false
  } catch {
    return false
  }
  try {
    context.decompress(Buffer.from('not zstd at all'), 100)
    return false
  } catch {
    return sample.equals(context.decompress(zstdCompressSync(sample), sample.length))
  }
}
