/**
 * The bytes of a file that others have written: out of one file, its parts or a pipe, decompressed.
 *
 * Invariant: they end only where the file does and its compression checks; anything else throws.
 */
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { describeSystemError, Failure, isFailure } from '../base/failure.ts'
import { parsePartName, partName } from './output-file.ts'

export interface ImportFile {
  /** For people. */
  readonly label: string
  /** As they lie there. */
  readonly bytes: number | undefined
  /** Can it be read more than once? */
  readonly isFile: boolean
  /** Decompressed. */
  read(): AsyncGenerator<Uint8Array>
}

/** TM2110, TM2111 */
export async function openImportFile(path: string): Promise<ImportFile> {
  const parts = await findParts(resolve(path))
  const sizes = await Promise.all(parts.map(async (part) => (await stat(part)).size))
  judgeSizes(parts, sizes)
  const label = parts.length === 1 ? path : `${path} (${parts.length} parts)`
  return {
    label,
    bytes: sizes.reduce((sum, size) => sum + size, 0),
    isFile: true,
    read: () => decompress(readAll(parts), path),
  }
}

export function openImportStream(stream: Readable): ImportFile {
  return {
    label: 'standard input',
    bytes: undefined,
    isFile: false,
    read: () => decompress(stream, 'standard input'),
  }
}

async function findParts(path: string): Promise<string[]> {
  const first = parsePartName(path)
  if (first === undefined || first.number !== 0) {
    if (await isThere(path)) return [path]
    if (!(await isThere(partName(path, 0)))) throw notThere(path)
    return await listParts(path)
  }
  return await listParts(first.base)
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}

async function listParts(path: string): Promise<string[]> {
  const directory = dirname(path)
  const names = await readdir(directory)
  const numbers = names.flatMap((name) => {
    const part = parsePartName(name)
    return part?.base === basename(path) ? [part.number] : []
  })
  const last = Math.max(...numbers)
  const missing = Array.from({ length: last + 1 }, (_, n) => n).find((n) => !numbers.includes(n))
  if (missing === undefined) {
    return Array.from({ length: last + 1 }, (_, n) => join(directory, basename(partName(path, n))))
  }
  throw new Failure('TM2111', {
    message: `${partName(path, missing)} is missing`,
    because: `${partName(path, last)} is there`,
    fix: 'bring all parts together in one directory',
  })
}

function judgeSizes(parts: readonly string[], sizes: readonly number[]): void {
  const odd = sizes.slice(0, -1).findIndex((size) => size !== sizes[0])
  if (odd < 0) return
  throw new Failure('TM2111', {
    message: `${parts[odd]} is not whole`,
    because: `it has ${sizes[odd]} bytes, and the first part ${sizes[0]}`,
    fix: 'copy it again from where the parts were written',
  })
}

function notThere(path: string): Failure {
  return new Failure('TM2110', {
    message: `${path} is not there`,
    because: `and neither is ${partName(path, 0)}`,
    fix: 'name a file or directory of pg_dump, or - for standard input',
  })
}

async function* readAll(parts: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    try {
      for await (const bytes of createReadStream(part, { highWaterMark: READ_BYTES })) {
        yield bytes as Buffer
      }
    } catch (error) {
      throw damagedImport(part, describeSystemError(error), error)
    }
  }
}

const READ_BYTES = 256 * 1024
const MAGIC_BYTES = 8

const MAGICS: readonly (readonly [string, string])[] = [
  ['1f8b', 'gzip'],
  ['28b52ffd', 'zstd'],
  ['425a68', 'bzip2'],
  ['fd377a585a00', 'xz'],
  ['04224d18', 'lz4'],
]

async function* decompress(
  bytes: AsyncIterable<Uint8Array>,
  path: string,
): AsyncGenerator<Uint8Array> {
  const iterator = bytes[Symbol.asyncIterator]()
  const head = await readHead(iterator, MAGIC_BYTES)
  const method = MAGICS.find(([magic]) => head.toString('hex').startsWith(magic))?.[1]
  const whole = putBack(head, iterator)
  if (method === undefined) yield* whole
  else if (method === 'gzip' || method === 'zstd') yield* unpack(whole, method, path)
  else {
    await iterator.return?.()
    throw new Failure('TM2110', {
      message: `${path} is compressed with ${method}`,
      because: 'gzip and zstd are understood',
      fix: `${method} -dc FILE | tidemark load --import - …`,
    })
  }
}

/** At least so many bytes, unless it ends before. */
export async function readHead(
  iterator: AsyncIterator<Uint8Array>,
  length: number,
): Promise<Buffer> {
  let head = Buffer.alloc(0)
  while (head.length < length) {
    const { done, value } = await iterator.next()
    if (done === true) break
    head = Buffer.concat([head, value])
  }
  return head
}

export async function* putBack(
  head: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield head
    for (;;) {
      const { done, value } = await rest.next()
      if (done === true) return
      yield value
    }
  } finally {
    await rest.return?.()
  }
}

async function* unpack(
  bytes: AsyncIterable<Uint8Array>,
  method: 'gzip' | 'zstd',
  path: string,
): AsyncGenerator<Uint8Array> {
  const unpacker = method === 'gzip' ? createGunzip() : createZstdDecompress()
  // What goes wrong on the way destroys the unpacker, and is thrown out of it.
  const pumping = pipeline(Readable.from(bytes), unpacker).catch(() => undefined)
  try {
    for await (const piece of unpacker) yield piece as Buffer
  } catch (error) {
    throw isFailure(error) ? error : damagedImport(path, describeSystemError(error), error)
  } finally {
    unpacker.destroy()
    await pumping
  }
}

export function damagedImport(path: string, because: string, cause?: unknown): Failure {
  return new Failure('TM2112', {
    message: `${path} is damaged or not whole`,
    because,
    fix: 'copy it again from where it was written, or take another dump',
    cause,
  })
}
