/**
 * Reads what PostgreSQL hands over, from its own file system.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'

const MAX_BYTES = 1024 * 1024 * 1024

/** Does the error prove that the file is not there? */
export function isAbsence(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** The whole file; TM1406 when it cannot be read or changed meanwhile. */
export async function readWalFile(path: string): Promise<Buffer> {
  let file: FileHandle | undefined
  try {
    file = await open(path, 'r')
    const before = await file.stat({ bigint: true })
    if (!before.isFile()) throw notWhole(path, 'it is not a regular file')
    if (before.size > MAX_BYTES) throw notWhole(path, 'it is larger than 1 GB')
    const content = await readBytes(file, Number(before.size))
    const after = await file.stat({ bigint: true })
    const same = before.size === after.size && before.mtimeNs === after.mtimeNs
    if (content === undefined || !same) throw notWhole(path, 'it changed while it was read')
    return content
  } catch (error) {
    if (error instanceof Failure) throw error
    throw notWhole(path, describeSystemError(error), error)
  } finally {
    await file?.close()
  }
}

/** Exactly `length` bytes; undefined when the file is shorter. */
async function readBytes(file: FileHandle, length: number): Promise<Buffer | undefined> {
  const content = Buffer.allocUnsafe(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await file.read(content, filled, length - filled, filled)
    if (bytesRead === 0) return undefined
    filled += bytesRead
  }
  return content
}

export function notWhole(path: string, because: string, cause?: unknown): Failure {
  return new Failure('TM1406', {
    message: `the WAL file ${path} is not archived`,
    because,
    fix: 'PostgreSQL keeps the file and tries again; check the path and who may read it',
    details: { path },
    ...(cause === undefined ? {} : { cause }),
  })
}

/**
 * The system identifier of a data directory in decimal; undefined when there is no
 * control file. The first 8 bytes of pg_control never change in a cluster's life, so a
 * read during a write of the file is no danger (catalog/pg_control.h).
 */
export async function findSystemIdentifier(dataDirectory: string): Promise<string | undefined> {
  const path = join(dataDirectory, 'global', 'pg_control')
  let file: FileHandle | undefined
  try {
    file = await open(path, 'r')
    const bytes = await readBytes(file, 8)
    return bytes?.readBigUInt64LE(0).toString()
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw notWhole(path, describeSystemError(error), error)
  } finally {
    await file?.close()
  }
}
