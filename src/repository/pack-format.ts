/**
 * Packs as bytes: header, index and trailer (docs/design/repository-format.md, section 3).
 * Pure: nothing here reads or writes a storage.
 *
 * Invariant: the trailer's hash proves the index, the index's hashes prove every frame.
 */
import { hash } from 'node:crypto'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { Failure } from '../base/failure.ts'
import { damagedObject } from './envelope.ts'

export const PAGE_BYTES = 8192
export const PAGES_PER_FRAME = 16
export const FRAME_BYTES = PAGE_BYTES * PAGES_PER_FRAME
export const PACK_HEADER_BYTES = 64
export const PACK_TRAILER_BYTES = 64
/** A writer closes its pack once it has grown to this. */
export const PACK_TARGET_BYTES = 32 * 1024 * 1024

const MAGIC = 'TMPACK01'
const TRAILER_MAGIC = 'TMPACKND'
const FRAME_ENTRY_BYTES = 32
const EXTENT_BYTES = 12
const MAX_INDEX_BYTES = 1024 * 1024 * 1024

export const FRAME_KINDS = {
  pages: 1,
  content: 2,
  leaves: 3,
  fileList: 4,
  relationNames: 5,
  record: 6,
  chunk: 7,
  chunkList: 8,
  objectList: 9,
} as const
export type FrameKind = (typeof FRAME_KINDS)[keyof typeof FRAME_KINDS]

export const CODEC_RAW = 0
export const CODEC_ZSTD = 1
/** Of a sparse pack: the frame was there, and nothing of it is stored any more. */
export const CODEC_DROPPED = 255

/** Flag of the header: frames of the pack were dropped. */
const SPARSE = 2

/** Pages (or, for kind content, chunks of 128 KiB) of one file in a frame. */
export interface FrameExtent {
  readonly path: string
  readonly first: number
  readonly count: number
}

export interface FrameEntry {
  readonly kind: number
  readonly codec: number
  readonly slots: number
  readonly offset: number
  readonly storedLength: number
  readonly rawLength: number
  /** First 16 bytes of the SHA-256 of the stored bytes. */
  readonly hash: Uint8Array
  readonly extents: readonly FrameExtent[]
}

export function encodePackHeader(packId: string, form: 'whole' | 'sparse' = 'whole'): Buffer {
  const header = Buffer.alloc(PACK_HEADER_BYTES)
  header.write(MAGIC, 0, 'latin1')
  header.write(packId, 8, 'hex')
  header.writeUInt32LE(form === 'sparse' ? SPARSE : 0, 24)
  header.writeUInt8(PAGES_PER_FRAME, 28)
  return header
}

/** Of a header that parsePackIndex() has proved. */
export function isSparseHeader(header: Uint8Array): boolean {
  return flagsOf(header) === SPARSE
}

function flagsOf(header: Uint8Array): number {
  return Buffer.from(header.buffer, header.byteOffset, header.byteLength).readUInt32LE(24)
}

/** What stays in the index of a sparse pack of a frame that is dropped. */
export function dropFrame(entry: FrameEntry): FrameEntry {
  return { ...entry, codec: CODEC_DROPPED, storedLength: 0, extents: [] }
}

export function frameHash(stored: Uint8Array): Buffer {
  return hash('sha256', stored, 'buffer').subarray(0, 16)
}

/** Index and trailer of a pack whose frames end at `indexOffset`. */
export function encodePackEnd(
  header: Uint8Array,
  frames: readonly FrameEntry[],
  indexOffset: number,
): Buffer {
  const raw = encodeIndex(frames)
  const stored = zstdCompressSync(raw)
  const trailer = Buffer.alloc(PACK_TRAILER_BYTES)
  trailer.writeBigUInt64LE(BigInt(indexOffset), 0)
  trailer.writeUInt32LE(stored.length, 8)
  trailer.writeUInt32LE(raw.length, 12)
  indexHash(header, stored, trailer).copy(trailer, 16)
  trailer.write(TRAILER_MAGIC, 56, 'latin1')
  return Buffer.concat([stored, trailer])
}

function indexHash(header: Uint8Array, stored: Uint8Array, trailer: Uint8Array): Buffer {
  return hash('sha256', Buffer.concat([header, stored, trailer.subarray(0, 16)]), 'buffer')
}

function encodeIndex(frames: readonly FrameEntry[]): Buffer {
  const paths = new Map<string, number>()
  for (const { extents } of frames) {
    for (const { path } of extents) if (!paths.has(path)) paths.set(path, paths.size)
  }
  const head = Buffer.alloc(8)
  head.writeUInt32LE(frames.length, 0)
  head.writeUInt32LE(paths.size, 4)
  const entries = Buffer.alloc(frames.length * FRAME_ENTRY_BYTES)
  frames.forEach((frame, ordinal) => {
    writeFrameEntry(entries, ordinal * FRAME_ENTRY_BYTES, frame)
  })
  const names = [...paths.keys()].map(encodePath)
  const contents = frames.map((frame) => encodeExtents(frame.extents, paths))
  return Buffer.concat([head, entries, ...names, ...contents])
}

function writeFrameEntry(into: Buffer, at: number, frame: FrameEntry): void {
  into.writeUInt8(frame.kind, at)
  into.writeUInt8(frame.codec, at + 1)
  into.writeUInt16LE(frame.slots, at + 2)
  into.writeUInt32LE(frame.storedLength, at + 4)
  into.writeUInt32LE(frame.rawLength, at + 8)
  into.set(frame.hash, at + 16)
}

function encodePath(path: string): Buffer {
  const bytes = Buffer.from(path, 'utf8')
  const length = Buffer.alloc(2)
  length.writeUInt16LE(bytes.length)
  return Buffer.concat([length, bytes])
}

function encodeExtents(extents: readonly FrameExtent[], paths: Map<string, number>): Buffer {
  const bytes = Buffer.alloc(2 + extents.length * EXTENT_BYTES)
  bytes.writeUInt16LE(extents.length, 0)
  extents.forEach((extent, number) => {
    const at = 2 + number * EXTENT_BYTES
    bytes.writeUInt32LE(paths.get(extent.path) as number, at)
    bytes.writeUInt32LE(extent.first, at + 4)
    bytes.writeUInt32LE(extent.count, at + 8)
  })
  return bytes
}

export interface PackTrailer {
  readonly indexOffset: number
  readonly indexStoredLength: number
  readonly indexRawLength: number
}

/** Reads the last 64 bytes of a pack of `packBytes`; TM1601 when they do not hold. */
export function parsePackTrailer(key: string, bytes: Uint8Array, packBytes: number): PackTrailer {
  const trailer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (trailer.length !== PACK_TRAILER_BYTES || trailer.toString('latin1', 56) !== TRAILER_MAGIC) {
    throw damagedObject(key, 'it does not end as a pack does: it may have been cut short')
  }
  const indexOffset = Number(trailer.readBigUInt64LE(0))
  const indexStoredLength = trailer.readUInt32LE(8)
  const indexRawLength = trailer.readUInt32LE(12)
  if (indexOffset + indexStoredLength + PACK_TRAILER_BYTES !== packBytes) {
    throw damagedObject(key, `its length is ${packBytes} bytes, its trailer says otherwise`)
  }
  if (indexOffset < PACK_HEADER_BYTES || !trailer.subarray(48, 56).equals(Buffer.alloc(8))) {
    throw damagedObject(key, 'its trailer is not one that was written')
  }
  if (indexRawLength > MAX_INDEX_BYTES) throw damagedObject(key, 'its index is not plausible')
  return { indexOffset, indexStoredLength, indexRawLength }
}

/** Proves header and index by the trailer's hash and reads the frame entries. */
export function parsePackIndex(
  key: string,
  packId: string,
  header: Uint8Array,
  storedIndex: Uint8Array,
  trailerBytes: Uint8Array,
): FrameEntry[] {
  const head = Buffer.from(header)
  const proof = Buffer.from(trailerBytes).subarray(16, 48)
  if (!indexHash(header, storedIndex, trailerBytes).equals(proof)) {
    throw damagedObject(key, 'its index is not the one that was written')
  }
  if (head.toString('latin1', 0, 8) !== MAGIC || head.toString('hex', 8, 24) !== packId) {
    throw damagedObject(key, 'it is another pack than its name says')
  }
  if (![0, SPARSE].includes(flagsOf(head))) throw unknownFlags(key)
  const frames = readIndex(key, storedIndex, trailerBytes)
  for (const { codec, storedLength } of frames) {
    if (codec !== CODEC_DROPPED) continue
    if (storedLength === 0 && isSparseHeader(head)) continue
    throw damagedObject(key, 'its index says of frames that they are dropped, and still stored')
  }
  return frames
}

function readIndex(key: string, storedIndex: Uint8Array, trailerBytes: Uint8Array): FrameEntry[] {
  try {
    const rawLength = Buffer.from(trailerBytes).readUInt32LE(12)
    const raw = zstdDecompressSync(storedIndex, { maxOutputLength: Math.max(rawLength, 1) })
    return decodeIndex(raw)
  } catch (cause) {
    // The hash holds: it was written so.
    throw damagedObject(key, 'its index cannot be read', cause)
  }
}

function unknownFlags(key: string): Failure {
  return new Failure('TM1504', {
    message: `the pack ${key} is of a kind that is not known here`,
    because: 'its header has flags that this version of Tidemark does not know',
    fix: 'use the version of Tidemark that wrote it, or a later one',
    details: { key },
  })
}

function decodeIndex(raw: Buffer): FrameEntry[] {
  const frameCount = raw.readUInt32LE(0)
  const pathCount = raw.readUInt32LE(4)
  let at = 8 + frameCount * FRAME_ENTRY_BYTES
  const paths: string[] = []
  for (let number = 0; number < pathCount; number++) {
    const length = raw.readUInt16LE(at)
    paths.push(raw.toString('utf8', at + 2, at + 2 + length))
    at += 2 + length
  }
  const frames: FrameEntry[] = []
  let offset = PACK_HEADER_BYTES
  for (let ordinal = 0; ordinal < frameCount; ordinal++) {
    const extents = decodeExtents(raw, at, paths)
    at += 2 + extents.length * EXTENT_BYTES
    const frame = readFrameEntry(raw, 8 + ordinal * FRAME_ENTRY_BYTES, offset, extents)
    offset += frame.storedLength
    frames.push(frame)
  }
  return frames
}

function decodeExtents(raw: Buffer, at: number, paths: readonly string[]): FrameExtent[] {
  const extents: FrameExtent[] = []
  const count = raw.readUInt16LE(at)
  for (let number = 0; number < count; number++) {
    const from = at + 2 + number * EXTENT_BYTES
    extents.push({
      path: paths[raw.readUInt32LE(from)] as string,
      first: raw.readUInt32LE(from + 4),
      count: raw.readUInt32LE(from + 8),
    })
  }
  return extents
}

function readFrameEntry(
  raw: Buffer,
  at: number,
  offset: number,
  extents: readonly FrameExtent[],
): FrameEntry {
  return {
    kind: raw.readUInt8(at),
    codec: raw.readUInt8(at + 1),
    slots: raw.readUInt16LE(at + 2),
    offset,
    storedLength: raw.readUInt32LE(at + 4),
    rawLength: raw.readUInt32LE(at + 8),
    hash: raw.subarray(at + 16, at + 32),
    extents,
  }
}
