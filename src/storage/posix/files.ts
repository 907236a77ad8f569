/**
 * System calls on files and directories, with what POSIX leaves to the caller: short
 * writes, reads that a signal interrupts, directories that must be synced by hand.
 *
 * libuv starts interrupted calls again by itself, except read(2) and close(2).
 */
import * as fs from 'node:fs'
import { promisify } from 'node:util'
import { errorCode } from './system-failure.ts'

export const openFile = promisify(fs.open) as (
  path: string,
  flags: number,
  mode?: number,
) => Promise<number>
export const closeFile = promisify(fs.close)
export const syncFile = promisify(fs.fsync)
export const statFile = promisify(fs.fstat) as (fd: number) => Promise<fs.Stats>
const readInto = promisify(fs.read) as (
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ bytesRead: number }>
const writeFrom = promisify(fs.write) as (
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
) => Promise<{ bytesWritten: number }>

/** read(2) and write(2) move at most 0x7ffff000 bytes; stay well below. */
const MAX_TRANSFER_BYTES = 1 << 30

/** Fills `buffer` from `position`; returns fewer bytes only at the end of the file. */
export async function readFully(fd: number, buffer: Uint8Array, position: number): Promise<number> {
  let done = 0
  while (done < buffer.length) {
    const length = Math.min(buffer.length - done, MAX_TRANSFER_BYTES)
    const bytesRead = await readOnce(fd, buffer, done, length, position + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

async function readOnce(
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
): Promise<number> {
  for (;;) {
    try {
      return (await readInto(fd, buffer, offset, length, position)).bytesRead
    } catch (error) {
      if (errorCode(error) !== 'EINTR') throw error
    }
  }
}

/** Writes all of it at the file's position. */
export async function writeFully(fd: number, bytes: Uint8Array): Promise<void> {
  let done = 0
  while (done < bytes.length) {
    const length = Math.min(bytes.length - done, MAX_TRANSFER_BYTES)
    done += (await writeFrom(fd, bytes, done, length)).bytesWritten
  }
}

/** Appends all pieces before it returns. After a short write the rest is tried again. */
export function writePiecesFully(fd: number, pieces: readonly Uint8Array[]): void {
  let rest = pieces.filter((piece) => piece.length > 0)
  while (rest.length > 0) {
    const batch = takeBatch(rest)
    const written = fs.writevSync(fd, batch)
    rest = skipBytes(rest, written)
  }
}

/** As many pieces as one call may take (IOV_MAX is 1024); a giant piece is cut. */
function takeBatch(pieces: readonly Uint8Array[]): Uint8Array[] {
  const batch: Uint8Array[] = []
  let bytes = 0
  for (const piece of pieces.slice(0, 1024)) {
    if (bytes + piece.length > MAX_TRANSFER_BYTES) {
      if (batch.length === 0) batch.push(piece.subarray(0, MAX_TRANSFER_BYTES))
      break
    }
    batch.push(piece)
    bytes += piece.length
  }
  return batch
}

function skipBytes(pieces: readonly Uint8Array[], count: number): Uint8Array[] {
  let index = 0
  let left = count
  while (index < pieces.length && left >= (pieces[index] as Uint8Array).length) {
    left -= (pieces[index] as Uint8Array).length
    index += 1
  }
  const rest = pieces.slice(index)
  if (left > 0) rest[0] = (rest[0] as Uint8Array).subarray(left)
  return rest
}

/**
 * Makes the entries of a directory durable. File systems without that (some FUSE and CIFS
 * mounts) answer EINVAL; PostgreSQL's fsync_fname_ext passes over it as well.
 */
export async function syncDirectory(path: string): Promise<void> {
  const fd = await openFile(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  try {
    await syncFile(fd)
  } catch (error) {
    if (errorCode(error) !== 'EINVAL') throw error
  } finally {
    await closeFile(fd)
  }
}

/**
 * Directory syncs that many writers share. A sync that has begun may have missed an entry
 * made since, so whoever asks meanwhile waits for the next one, all of them for the same.
 */
export class SharedDirectorySync {
  readonly #states = new Map<string, { running: Promise<void>; next?: Promise<void> }>()
  readonly #syncDirectory: (path: string) => Promise<void>

  constructor(sync: (path: string) => Promise<void> = syncDirectory) {
    this.#syncDirectory = sync
  }

  sync(path: string): Promise<void> {
    const state = this.#states.get(path)
    if (state === undefined) return this.#start(path)
    state.next ??= state.running.then(
      () => this.#start(path),
      () => this.#start(path),
    )
    return state.next
  }

  #start(path: string): Promise<void> {
    const state: { running: Promise<void>; next?: Promise<void> } = {
      running: this.#syncDirectory(path),
    }
    this.#states.set(path, state)
    const forget = () => {
      if (state.next === undefined) this.#states.delete(path)
    }
    state.running.then(forget, forget)
    return state.running
  }
}
