/**
 * Copies files that are not relation forks: chunks of 128 KiB, one frame each, judged by
 * the SHA-256 of the whole file.
 *
 * Small files are read until two reads agree, so that one that is rewritten in place is
 * seldom stored half old and half new. That must be so only for two kinds, which replay
 * does not mend, and which prove themselves by a CRC: relation maps (relmapper.c) and
 * two-phase state files (ReadTwoPhaseFile in twophase.c). All others PostgreSQL's own base
 * backup reads just once: SLRU pages are written again by replay.
 */
import { createHash, hash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { monotonicMs, pauseThread } from '../../base/clock.ts'
import { Failure } from '../../base/failure.ts'
import { crc32c } from '../../postgres/crc32c.ts'
import type { FrameReference } from '../../repository/backup-record.ts'
import { FRAME_BYTES, FRAME_KINDS } from '../../repository/pack-format.ts'
import type { PackWriter } from '../../repository/pack-writer.ts'
import type { ContentPiece, ContentResult, VanishedResult } from './protocol.ts'

/** Files up to this size are held in memory and read until two reads agree. */
const SMALL_FILE_BYTES = 1024 * 1024
/** How long a file that must prove itself is read again, and any other one. */
const PROOF_LIMIT_MS = 10_000
const AGREEMENT_LIMIT_MS = 200
const AGREEMENT_PAUSE_MS = 10

/** Stores one open file; the caller closes it. */
export async function copyContent(
  piece: ContentPiece,
  fd: number,
  packs: PackWriter,
): Promise<ContentResult | VanishedResult> {
  const size = fstatSync(fd).size
  if (size > SMALL_FILE_BYTES) return await copyLargeFile(piece, fd, size, packs)
  const bytes = readUntilStable(piece, fd)
  if (bytes === undefined) return { form: 'vanished', file: piece.file }
  const sha256 = hash('sha256', bytes, 'hex')
  const result = { form: 'content' as const, file: piece.file, size: bytes.length, sha256 }
  if (piece.base?.sha256 === sha256) return { ...result, chunks: piece.base.chunks }
  return { ...result, chunks: await storeContent(piece.path, bytes, packs) }
}

/** Stores bytes as content frames; for files that are read by other means, too. */
export async function storeContent(
  path: string,
  bytes: Uint8Array,
  packs: PackWriter,
): Promise<FrameReference[]> {
  const chunks: FrameReference[] = []
  for (let at = 0; at < bytes.length; at += FRAME_BYTES) {
    chunks.push(await storeChunk(path, chunks.length, bytes.subarray(at, at + FRAME_BYTES), packs))
  }
  return chunks
}

async function storeChunk(path: string, number: number, bytes: Uint8Array, packs: PackWriter) {
  if (packs.needsPack) await packs.begin()
  const chunk = packs.add(FRAME_KINDS.content, bytes, 1, [{ path, first: number, count: 1 }])
  packs.closeIfFull()
  return chunk
}

type Proof = (bytes: Buffer) => boolean

/** Undefined: a two-phase file that was removed before it was whole. */
function readUntilStable(piece: ContentPiece, fd: number): Buffer | undefined {
  const proof = proofOf(piece.path)
  const limit = monotonicMs() + (proof === undefined ? AGREEMENT_LIMIT_MS : PROOF_LIMIT_MS)
  let before = readWhole(fd)
  for (;;) {
    const again = readWhole(fd)
    // A log that only grows agrees with itself.
    const agrees = again.subarray(0, before.length).equals(before)
    if (agrees && proof === undefined) return before
    if (agrees && proof?.(again) === true) return again
    before = again
    if (fstatSync(fd).nlink === 0 && proof !== undefined) return undefined
    if (monotonicMs() > limit) break
    pauseThread(AGREEMENT_PAUSE_MS)
  }
  if (proof === undefined) return before
  throw new Failure('TM1305', {
    message: `the file ${piece.location} cannot be read as a whole`,
    because: 'it changed at every read, or its CRC does not hold',
    fix: 'check the disk: the server itself stops at its next start over such a file',
    details: { path: piece.path },
  })
}

function proofOf(path: string): Proof | undefined {
  if (/(^|\/)pg_filenode\.map$/.test(path)) return isWholeRelationMap
  if (/^pg_twophase\/[0-9A-F]{8,16}$/.test(path)) return isWholeTwoPhaseFile
  return undefined
}

function readWhole(fd: number): Buffer {
  const bytes = Buffer.alloc(fstatSync(fd).size)
  let read = 0
  while (read < bytes.length) {
    const got = readSync(fd, bytes, read, bytes.length - read, read)
    if (got === 0) break
    read += got
  }
  return bytes.subarray(0, read)
}

/**
 * RelMapFile: magic, count, mappings, then the CRC-32C of all before it. Up to 15 four
 * bytes of padding follow (512 bytes in all), from 16 on none (524 bytes).
 */
function isWholeRelationMap(bytes: Buffer): boolean {
  const crcAt = bytes.length === 512 ? 504 : bytes.length - 4
  if (crcAt <= 0) return false
  return bytes.readUInt32LE(crcAt) === crc32c(bytes.subarray(0, crcAt))
}

/** TwoPhaseFileHeader: magic, total length; the last four bytes are the CRC-32C. */
function isWholeTwoPhaseFile(bytes: Buffer): boolean {
  if (bytes.length < 12 || bytes.readUInt32LE(4) !== bytes.length) return false
  const crcAt = bytes.length - 4
  return bytes.readUInt32LE(crcAt) === crc32c(bytes.subarray(0, crcAt))
}

/** A file of the base's size is hashed first: an unchanged one is not stored again. */
async function copyLargeFile(
  piece: ContentPiece,
  fd: number,
  size: number,
  packs: PackWriter,
): Promise<ContentResult> {
  const { base, file } = piece
  if (base?.size === size && hashFile(fd, size) === base.sha256) {
    return { form: 'content', file, size, sha256: base.sha256, chunks: base.chunks }
  }
  const sha256 = createHash('sha256')
  const chunks: FrameReference[] = []
  const buffer = new Uint8Array(FRAME_BYTES)
  let at = 0
  while (at < size) {
    const got = fillChunk(fd, buffer, at, Math.min(FRAME_BYTES, size - at))
    if (got === 0) break
    const chunk = buffer.subarray(0, got)
    sha256.update(chunk)
    chunks.push(await storeChunk(piece.path, chunks.length, chunk, packs))
    at += got
  }
  return { form: 'content', file, size: at, sha256: sha256.digest('hex'), chunks }
}

function hashFile(fd: number, size: number): string {
  const sha256 = createHash('sha256')
  const buffer = new Uint8Array(FRAME_BYTES)
  for (let at = 0; at < size; ) {
    const got = fillChunk(fd, buffer, at, Math.min(FRAME_BYTES, size - at))
    if (got === 0) break
    sha256.update(buffer.subarray(0, got))
    at += got
  }
  return sha256.digest('hex')
}

function fillChunk(fd: number, buffer: Uint8Array, at: number, wanted: number): number {
  let read = 0
  while (read < wanted) {
    const got = readSync(fd, buffer, read, wanted - read, at + read)
    if (got === 0) break
    read += got
  }
  return read
}

/** Opens for reading; undefined when the file is gone, TM1304 when it may not be read. */
export function openForCopy(location: string, path: string): number | undefined {
  try {
    return openSync(location, 'r')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unreadableFile(location, path, cause)
  }
}

export function unreadableFile(location: string, path: string, cause: unknown): Failure {
  const code = (cause as NodeJS.ErrnoException).code
  return new Failure('TM1304', {
    message: `the file ${location} cannot be read`,
    because: code === 'EACCES' ? 'permission denied' : String((cause as Error).message),
    fix:
      code === 'EACCES'
        ? 'run the backup as the owner of the data directory, or mend the permissions of the file'
        : 'check the disk and the kernel log; a backup without this file is not a backup',
    details: { path },
    cause,
  })
}

export function closeQuietly(fd: number): void {
  try {
    closeSync(fd)
  } catch {
    // Opened for reading only: nothing can be lost.
  }
}
