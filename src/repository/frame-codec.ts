/**
 * Frames as bytes: compression and its inverse (docs/design/repository-format.md,
 * section 3). Synchronous, for worker threads.
 */
import { Failure } from '../base/failure.ts'
import { damagedObject } from './envelope.ts'
import {
  CODEC_DROPPED,
  CODEC_RAW,
  CODEC_ZSTD,
  FRAME_BYTES,
  type FrameEntry,
  frameHash,
} from './pack-format.ts'
import { makeZstdContext, type ZstdContext } from './zstd-context.ts'

/** Of those that come in numbers: pages and content 128 KiB, chunks of dumps 256 KiB. */
const LARGEST_FRAME_BYTES = 2 * FRAME_BYTES

/** One context per thread and level, made when first needed. */
const contexts = new Map<number, ZstdContext>()

function contextOf(level: number): ZstdContext {
  let context = contexts.get(level)
  if (context === undefined) {
    context = makeZstdContext(level, LARGEST_FRAME_BYTES)
    contexts.set(level, context)
  }
  return context
}

/** The level plays no part in decompression. */
const ANY_LEVEL = 1

export interface EncodedFrame {
  readonly codec: number
  readonly stored: Uint8Array
}

/**
 * Compresses `raw`. Bytes that do not shrink by a thirty-second are kept raw: restoring
 * them costs no decompression. The result holds until the next frame is encoded or decoded
 * on this thread; it is `raw` itself where that is kept.
 */
export function encodeFrame(raw: Uint8Array, level: number): EncodedFrame {
  const stored = contextOf(level).compress(raw)
  if (stored.length >= raw.length - (raw.length >> 5)) return { codec: CODEC_RAW, stored: raw }
  return { codec: CODEC_ZSTD, stored }
}

/** Proves the stored bytes and decompresses them into memory of their own. */
export function decodeFrame(
  key: string,
  ordinal: number,
  entry: FrameEntry,
  stored: Uint8Array,
): Uint8Array {
  const raw = decodeSharedFrame(key, ordinal, entry, stored)
  return raw === stored ? raw : new Uint8Array(raw)
}

/**
 * Proves the stored bytes by their hash and decompresses them; TM1601 when damaged. The
 * result holds until the next frame is encoded or decoded on this thread.
 */
export function decodeSharedFrame(
  key: string,
  ordinal: number,
  entry: FrameEntry,
  stored: Uint8Array,
): Uint8Array {
  proveFrame(key, ordinal, entry, stored)
  return decodeUnprovedFrame(key, ordinal, entry, stored)
}

/** TM1602 for a dropped frame, TM1601 unless the stored bytes are those that the index knows. */
export function proveFrame(
  key: string,
  ordinal: number,
  entry: FrameEntry,
  stored: Uint8Array,
): void {
  if (entry.codec === CODEC_DROPPED) throw droppedFrame(key, ordinal)
  if (stored.length === entry.storedLength && frameHash(stored).equals(entry.hash)) return
  throw damagedObject(key, `frame ${ordinal} is not the one that was written`)
}

/** decodeSharedFrame() without the hash: the caller proves what comes out. */
export function decodeUnprovedFrame(
  key: string,
  ordinal: number,
  entry: FrameEntry,
  stored: Uint8Array,
): Uint8Array {
  if (entry.codec === CODEC_DROPPED) throw droppedFrame(key, ordinal)
  if (entry.codec === CODEC_RAW) return stored
  if (entry.codec !== CODEC_ZSTD) throw damagedObject(key, `frame ${ordinal}: unknown codec`)
  const raw = decompress(key, ordinal, entry, stored)
  if (raw.length !== entry.rawLength) {
    throw damagedObject(key, `frame ${ordinal} is not as long as its index says`)
  }
  return raw
}

function decompress(
  key: string,
  ordinal: number,
  entry: FrameEntry,
  stored: Uint8Array,
): Uint8Array {
  try {
    return contextOf(ANY_LEVEL).decompress(stored, entry.rawLength)
  } catch (cause) {
    throw damagedObject(key, `frame ${ordinal} does not decompress`, cause)
  }
}

/** Whoever asks for it has a reference to it, so it is missing. */
export function droppedFrame(key: string, ordinal: number): Failure {
  return new Failure('TM1602', {
    message: `frame ${ordinal} of ${key} is missing`,
    because: 'the pack was repacked without it, because no backup seemed to need it any more',
    fix: 'restore from another backup or repository, heal it (tidemark sync), and report this',
    details: { key, frame: ordinal },
  })
}
