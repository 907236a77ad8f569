/**
 * Frames as bytes: compression and its inverse (docs/design/repository-format.md,
 * section 3). Synchronous, for worker threads.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { damagedObject } from './envelope.ts'
import { CODEC_RAW, CODEC_ZSTD, type FrameEntry, frameHash } from './pack-format.ts'

/**
 * Size of the pieces that zlib puts its output in. Most frames of a database fit into one;
 * pieces of the whole bound held 40 MB more of garbage, smaller ones cost time.
 */
const OUTPUT_PIECE_BYTES = 32 * 1024

export interface EncodedFrame {
  readonly codec: number
  readonly stored: Uint8Array
}

/**
 * Compresses `raw`. Bytes that do not shrink by a thirty-second are kept raw: restoring
 * them costs no decompression. The result never aliases `raw` when it is compressed, and
 * is `raw` itself when it is not.
 */
export function encodeFrame(raw: Uint8Array, level: number): EncodedFrame {
  const stored = zstdCompressSync(raw, {
    chunkSize: OUTPUT_PIECE_BYTES,
    params: { [constants.ZSTD_c_compressionLevel]: level },
  })
  if (stored.length >= raw.length - (raw.length >> 5)) return { codec: CODEC_RAW, stored: raw }
  return { codec: CODEC_ZSTD, stored }
}

/** Proves the stored bytes by their hash and decompresses them; TM1601 when damaged. */
export function decodeFrame(
  key: string,
  ordinal: number,
  entry: FrameEntry,
  stored: Uint8Array,
): Uint8Array {
  if (stored.length !== entry.storedLength || !frameHash(stored).equals(entry.hash)) {
    throw damagedObject(key, `frame ${ordinal} is not the one that was written`)
  }
  if (entry.codec === CODEC_RAW) return stored
  if (entry.codec !== CODEC_ZSTD) throw damagedObject(key, `frame ${ordinal}: unknown codec`)
  const raw = zstdDecompressSync(stored, {
    chunkSize: Math.max(entry.rawLength, 64),
    maxOutputLength: Math.max(entry.rawLength, 1),
  })
  if (raw.length !== entry.rawLength) {
    throw damagedObject(key, `frame ${ordinal} is not as long as its index says`)
  }
  return raw
}
