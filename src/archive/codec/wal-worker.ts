/**
 * A thread that reads and encodes segments, or decodes and writes them, one after the other, with
 * synchronous calls on buffers that it keeps. It knows no storage.
 *
 * Invariant: what it writes has passed both hashes, and is synced when it says so.
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { basename } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { describeSystemError, Failure, toFailureMessage } from '../../base/failure.ts'
import { openCompressor, openDecompressor } from '../../repository/zstd-context.ts'
import { judgeLength, judgePages, parseFirstPage } from '../judge-segment.ts'
import { notWhole } from '../read-wal-file.ts'
import {
  type Compressor,
  type Decompressor,
  decodeWalObject,
  encodeWalObject,
  hashContent,
  WAL_COMPRESSION,
} from '../wal-object.ts'
import { cannotWrite } from '../write-destination.ts'
import type { DecodeJob, EncodedSegment, EncodeJob, FromWorker, ToWorker } from './messages.ts'

const MAX_BYTES = 1024 * 1024 * 1024

/** Contexts for contents of up to so many bytes; larger ones make new ones. */
let input = Buffer.alloc(0)
let compressor: Compressor | undefined
let decompressor: Decompressor | undefined
let decompressorBytes = 0

function encode({ path }: EncodeJob): EncodedSegment {
  const content = readSegment(path)
  const page = parseFirstPage(content)
  if (page === undefined) {
    throw notWhole(path, 'it does not begin with a WAL page of PostgreSQL 13 to 18')
  }
  const problem = judgeLength(content, page)
  if (problem !== undefined) throw notWhole(path, problem)
  const name = basename(path)
  const contentHash = hashContent(content)
  const systemIdentifier = page.long.systemIdentifier.toString()
  const object = encodeWalObject(
    { systemIdentifier, name, headerTimeline: page.timeline, content },
    contentHash,
    compressor,
  )
  const pagesProblem = judgePages(name, content, page)
  return { bytes: content.length, contentHash, page, pagesProblem, object }
}

/** Into the buffer of this thread; TM1406 when it changes meanwhile. */
function readSegment(path: string): Buffer {
  let fd: number | undefined
  try {
    fd = openSync(path, 'r')
    const before = fstatSync(fd, { bigint: true })
    if (!before.isFile()) throw notWhole(path, 'it is not a regular file')
    if (before.size > MAX_BYTES) throw notWhole(path, 'it is larger than 1 GB')
    const content = bufferOf(Number(before.size))
    const filled = readAll(fd, content)
    const after = fstatSync(fd, { bigint: true })
    const same = before.size === after.size && before.mtimeNs === after.mtimeNs
    if (filled !== content.length || !same) throw notWhole(path, 'it changed while it was read')
    return content
  } catch (error) {
    if (error instanceof Failure) throw error
    throw notWhole(path, describeSystemError(error), error)
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}

function bufferOf(bytes: number): Buffer {
  if (input.length < bytes) {
    input = Buffer.allocUnsafeSlow(bytes)
    compressor = openCompressor(WAL_COMPRESSION, bytes)
  }
  return input.subarray(0, bytes)
}

function readAll(fd: number, into: Buffer): number {
  let filled = 0
  while (filled < into.length) {
    const count = readSync(fd, into, filled, into.length - filled, filled)
    if (count === 0) break
    filled += count
  }
  return filled
}

function decode({ key, object, expected, path }: DecodeJob): void {
  const { content } = decodeWalObject(key, object, expected, decompress)
  let fd: number | undefined
  try {
    fd = openSync(path, 'wx', 0o600)
    let written = 0
    while (written < content.length) {
      written += writeSync(fd, content, written, content.length - written)
    }
    fdatasyncSync(fd)
    closeSync(fd)
  } catch (error) {
    if (fd !== undefined) removeQuietly(fd, path)
    throw cannotWrite(path, error)
  }
}

const decompress: Decompressor = (stored, rawLength) => {
  if (decompressor === undefined || rawLength > decompressorBytes) {
    decompressorBytes = rawLength
    const open = openDecompressor(rawLength)
    decompressor = open === undefined ? undefined : (bytes) => open(bytes)
  }
  if (decompressor === undefined) throw new Error('zstd: no stream')
  return decompressor(stored, rawLength)
}

function removeQuietly(fd: number, path: string): void {
  try {
    closeSync(fd)
    unlinkSync(path)
  } catch {
    // The error of the write is the one to report.
  }
}

function send(message: FromWorker, transfer: readonly ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, [...transfer])
}

parentPort?.on('message', (job: ToWorker) => {
  try {
    if (job.kind === 'encode') {
      const segment = encode(job)
      send({ kind: 'encoded', segment }, [segment.object.buffer as ArrayBuffer])
    } else {
      decode(job)
      send({ kind: 'decoded' })
    }
  } catch (error) {
    if (error instanceof Failure) send({ kind: 'failed', failure: toFailureMessage(error) })
    else
      send({ kind: 'crashed', error: error instanceof Error ? (error.stack ?? '') : String(error) })
  }
})
