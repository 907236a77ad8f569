/**
 * The bytes of a WAL object (docs/design/repository-format.md, section 8). Pure.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | `TMWAL002` |
 * | 8 | 8 | system identifier |
 * | 16 | 4 | timeline of the name |
 * | 20 | 4 | timeline in the first page header (0: none) |
 * | 24 | 4 | raw length |
 * | 28 | 4 | stored length |
 * | 32 | 1 | codec: 0 raw, 1 zstd |
 * | 33 | 1 | kind: 1 segment, 2 history, 3 label, 4 partial |
 * | 34 | 2 | length of the name |
 * | 36 | 28 | first 28 bytes of the name, zero padded |
 * | 64 | 16 | GMAC of the raw content (hashContent) |
 * | 80 | 16 | zero |
 * | 96 | 32 | SHA-256 of bytes 0–95 and of everything from 128 |
 * | 128 | … | rest of the name, then the stored bytes |
 *
 * In objects that begin with `TMWAL001`, bytes 64–95 are the SHA-256 of the raw content.
 *
 * Invariant: decodeWalObject returns only content whose both hashes hold.
 */
import { createCipheriv, createHash, hash } from 'node:crypto'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { Failure } from '../base/failure.ts'
import type { Timeline } from '../postgres/lsn.ts'
import { nameHash, parseWalFileName, type WalFileKind } from './wal-file-name.ts'

export interface WalObjectContent {
  /** Decimal. */
  readonly systemIdentifier: string
  readonly name: string
  /** Timeline in the first page header; 0 for files that have none. */
  readonly headerTimeline: Timeline
  readonly content: Uint8Array
}

export interface WalObjectHeader {
  readonly systemIdentifier: string
  readonly name: string
  readonly kind: WalFileKind
  readonly timeline: Timeline
  readonly headerTimeline: Timeline
  readonly rawLength: number
  readonly storedLength: number
  readonly compressed: boolean
  /** The hash of the raw content that is stored in it, in hex; not of one kind: see isHashOf(). */
  readonly storedHash: string
}

export interface WalObject extends WalObjectHeader {
  /** hashContent(content), whatever is stored. */
  readonly contentHash: string
  readonly content: Buffer
}

/** What the reader expects; a sound object of something else is damage of the archive. */
export interface ExpectedWalObject {
  readonly systemIdentifier: string
  readonly name: string
}

const MAGIC = 'TMWAL002'
/** Written with SHA-256 of the content; read for ever. */
const OLD_MAGIC = 'TMWAL001'
/** Every object begins with it; the rest of a longer name follows. */
export const WAL_HEADER_BYTES = 128
const HEADER_BYTES = WAL_HEADER_BYTES
const INLINE_NAME_BYTES = 28
const MAX_RAW_BYTES = 1024 * 1024 * 1024
/** A history or label is text of some lines; a damaged length must not allocate more. */
const MAX_TEXT_BYTES = 16 * 1024 * 1024
/**
 * As small as level 3, in three quarters of its time: 18 ms for 1.373 MB of a segment of pgbench,
 * level 3 24 ms for 1.378 MB, level 1 as it is 15 ms for 1.540 MB. What level 1 loses on WAL it
 * loses by looking for matches of seven bytes and more only.
 */
export const WAL_COMPRESSION: Readonly<Record<number, number>> = {
  [constants.ZSTD_c_compressionLevel]: 1,
  [constants.ZSTD_c_minMatch]: 5,
  [constants.ZSTD_c_windowLog]: 21,
  [constants.ZSTD_c_hashLog]: 15,
}

const COMPRESSION = { params: WAL_COMPRESSION, chunkSize: 4 * 1024 * 1024 }

/** zstd of a whole content; threads that do it often keep a context (codec/wal-worker.ts). */
export type Compressor = (content: Uint8Array) => Uint8Array

/** Throws when the bytes are no frame, or one that is longer than it may be. */
export type Decompressor = (stored: Uint8Array, rawLength: number) => Uint8Array
const KINDS: readonly WalFileKind[] = ['segment', 'history', 'label', 'partial']

const NO_KEY = Buffer.alloc(16)
const NO_NONCE = Buffer.alloc(12)

/**
 * 32 hex digits: the GMAC (NIST SP 800-38D) with AES-128, a key of zeros and a nonce of zeros.
 * A code of 128 bits against errors, not against forgery: whoever may write an archive could forge
 * a SHA-256 in it as well. 0.9 ms for a segment of 16 MB, SHA-256 10 ms, half as much as zstd.
 */
export function hashContent(content: Uint8Array): string {
  const code = createCipheriv('aes-128-gcm', NO_KEY, NO_NONCE)
  code.setAAD(content)
  code.final()
  return code.getAuthTag().toString('hex')
}

/** `stored`: of an object of either kind (WalObjectHeader.storedHash, peekContentHash). */
export function isHashOf(content: Uint8Array, stored: string): boolean {
  const isOld = stored.length === 64
  return stored === (isOld ? hash('sha256', content) : hashContent(content))
}

/** `contentHash`: hashContent(content), where the caller has it already. */
export function encodeWalObject(
  object: WalObjectContent,
  contentHash = hashContent(object.content),
  compressor: Compressor = compressOnce,
): Uint8Array {
  return assembleWalObject(object, contentHash, compressor(object.content))
}

/** `hash16`: of the name of a partial, or in quarantine; once it was cut from a SHA-256. */
export function isNamedAfter(content: Uint8Array, hash16: string): boolean {
  return nameHash(hashContent(content)) === hash16 || hash('sha256', content).startsWith(hash16)
}

/** `compressed`: zstd of the content, in one frame or more; left out where it is not smaller. */
export function assembleWalObject(
  object: WalObjectContent,
  contentHash: string,
  compressed: Uint8Array,
): Uint8Array {
  const file = parseWalFileName(object.name)
  if (file === undefined) throw new Error(`not a WAL file name: ${object.name}`)
  const isSmaller = compressed.length < object.content.length
  const stored = isSmaller ? compressed : object.content
  const codec = isSmaller ? 1 : 0
  const name = Buffer.from(object.name, 'latin1')
  const tail = name.subarray(INLINE_NAME_BYTES)
  const bytes = Buffer.alloc(HEADER_BYTES + tail.length + stored.length)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeBigUInt64LE(BigInt(object.systemIdentifier), 8)
  bytes.writeUInt32LE(file.timeline, 16)
  bytes.writeUInt32LE(object.headerTimeline, 20)
  bytes.writeUInt32LE(object.content.length, 24)
  bytes.writeUInt32LE(stored.length, 28)
  bytes.writeUInt8(codec, 32)
  bytes.writeUInt8(KINDS.indexOf(file.kind) + 1, 33)
  bytes.writeUInt16LE(name.length, 34)
  name.copy(bytes, 36, 0, INLINE_NAME_BYTES)
  bytes.write(contentHash, 64, 'hex')
  tail.copy(bytes, HEADER_BYTES)
  bytes.set(stored, HEADER_BYTES + tail.length)
  objectHash(bytes).copy(bytes, 96)
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}

function compressOnce(content: Uint8Array): Uint8Array {
  return zstdCompressSync(content, COMPRESSION)
}

/**
 * What the first WAL_HEADER_BYTES say of the content, not proved: only to be compared with the
 * hash of bytes at hand. Undefined: these begin no WAL object.
 */
export function peekContentHash(header: Uint8Array): string | undefined {
  const object = asBuffer(header)
  return object.length < HEADER_BYTES ? undefined : readStoredHash(object)
}

/** Undefined: it begins no WAL object. */
function readStoredHash(object: Buffer): string | undefined {
  const magic = object.toString('latin1', 0, 8)
  if (magic === OLD_MAGIC) return object.toString('hex', 64, 96)
  return magic === MAGIC ? object.toString('hex', 64, 80) : undefined
}

function objectHash(bytes: Buffer): Buffer {
  return createHash('sha256')
    .update(bytes.subarray(0, 96))
    .update(bytes.subarray(HEADER_BYTES))
    .digest()
}

/**
 * Checks every field and the hash of the stored bytes, without decompressing. TM1601
 * naming `key` and what does not hold.
 */
export function checkWalObject(
  key: string,
  bytes: Uint8Array,
  expected?: ExpectedWalObject,
): WalObjectHeader {
  const object = asBuffer(bytes)
  const header = parseHeader(key, object)
  if (!objectHash(object).equals(object.subarray(96, 128))) {
    throw damagedWalObject(key, 'the SHA-256 of its stored bytes is not the one that was written')
  }
  requireExpected(key, header, expected)
  return header
}

/** The verified content; TM1601 naming `key` and what does not hold. */
export function decodeWalObject(
  key: string,
  bytes: Uint8Array,
  expected?: ExpectedWalObject,
  decompressor: Decompressor = decompressOnce,
): WalObject {
  const header = checkWalObject(key, bytes, expected)
  const stored = asBuffer(bytes).subarray(bytes.length - header.storedLength)
  const content = header.compressed
    ? decompress(key, stored, header.rawLength, decompressor)
    : stored
  if (!isHashOf(content, header.storedHash)) {
    throw damagedWalObject(key, 'the hash of its content is not the one that was written')
  }
  return { ...header, content, contentHash: contentHashOf(header, content) }
}

function contentHashOf({ storedHash }: WalObjectHeader, content: Uint8Array): string {
  return storedHash.length === 32 ? storedHash : hashContent(content)
}

function parseHeader(key: string, object: Buffer): WalObjectHeader {
  const storedHash = peekContentHash(object)
  if (storedHash === undefined) {
    throw damagedWalObject(key, 'it does not begin as a WAL object does')
  }
  const codec = object.readUInt8(32)
  const kind = KINDS[object.readUInt8(33) - 1]
  const name = readName(object)
  const file = parseWalFileName(name)
  if (kind === undefined || codec > 1) {
    throw damagedWalObject(key, 'its kind or codec is not one of the format')
  }
  if (file === undefined || file.kind !== kind || file.timeline !== object.readUInt32LE(16)) {
    throw damagedWalObject(key, 'its name, kind and timeline do not agree')
  }
  const header = {
    systemIdentifier: object.readBigUInt64LE(8).toString(),
    name,
    kind,
    timeline: file.timeline,
    headerTimeline: object.readUInt32LE(20),
    rawLength: object.readUInt32LE(24),
    storedLength: object.readUInt32LE(28),
    compressed: codec === 1,
    storedHash,
  }
  requireLengths(key, object, header)
  return header
}

function readName(object: Buffer): string {
  const length = object.readUInt16LE(34)
  const inline = Math.min(length, INLINE_NAME_BYTES)
  const tail = Math.max(0, length - INLINE_NAME_BYTES)
  return (
    object.toString('latin1', 36, 36 + inline) +
    object.toString('latin1', HEADER_BYTES, HEADER_BYTES + tail)
  )
}

function requireLengths(key: string, object: Buffer, header: WalObjectHeader): void {
  const tail = Math.max(0, header.name.length - INLINE_NAME_BYTES)
  if (object.length !== HEADER_BYTES + tail + header.storedLength) {
    throw damagedWalObject(key, 'it is not as long as it says')
  }
  const isText = header.kind === 'history' || header.kind === 'label'
  if (header.rawLength > (isText ? MAX_TEXT_BYTES : MAX_RAW_BYTES)) {
    throw damagedWalObject(key, 'its raw length is not plausible')
  }
  if (!header.compressed && header.rawLength !== header.storedLength) {
    throw damagedWalObject(key, 'its raw and stored lengths do not agree')
  }
}

function requireExpected(
  key: string,
  header: WalObjectHeader,
  expected: ExpectedWalObject | undefined,
): void {
  if (expected === undefined) return
  if (header.name !== expected.name) {
    throw damagedWalObject(key, `it holds the file ${header.name}`)
  }
  if (header.systemIdentifier !== expected.systemIdentifier) {
    throw damagedWalObject(key, `it holds WAL of the server ${header.systemIdentifier}`)
  }
}

function decompressOnce(stored: Uint8Array, rawLength: number): Uint8Array {
  return zstdDecompressSync(stored, {
    maxOutputLength: Math.max(rawLength, 1),
    chunkSize: Math.min(Math.max(rawLength, 64), 16 * 1024 * 1024),
  })
}

function decompress(
  key: string,
  stored: Buffer,
  rawLength: number,
  decompressor: Decompressor,
): Buffer {
  try {
    const raw = decompressor(stored, rawLength)
    if (raw.length === rawLength) return asBuffer(raw)
  } catch (cause) {
    throw damagedWalObject(key, 'its content does not decompress', cause)
  }
  throw damagedWalObject(key, 'its content is not as long as it says')
}

export function damagedWalObject(key: string, because: string, cause?: unknown): Failure {
  return new Failure('TM1601', {
    message: `the WAL object ${key} is damaged`,
    because,
    fix:
      'bring the file from another repository, or from the pg_wal of the server or of a ' +
      'standby, and push it again: tidemark wal push FILE',
    details: { key },
    ...(cause === undefined ? {} : { cause }),
  })
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
