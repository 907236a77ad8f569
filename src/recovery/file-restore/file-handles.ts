/**
 * Open files of one worker, the last used ones only. Files come into being on first use,
 * at their full size: a page that is never written is a zero page.
 */
import { closeSync, constants, fchmodSync, fchownSync, ftruncateSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { describeSystemError, Failure } from '../../base/failure.ts'
import type { BatchFile, Owner } from './messages.ts'

const KEPT = 64
const CREATE = constants.O_CREAT | constants.O_WRONLY | constants.O_NOFOLLOW
const PRIVATE_MODE = 0o600

export class FileHandles {
  readonly #dataDirectory: string
  readonly #owner: Owner | undefined
  readonly #open = new Map<string, number>()
  /** Until a file system refuses it. */
  #canBeDirect = true

  constructor(dataDirectory: string, owner: Owner | undefined) {
    this.#dataDirectory = dataDirectory
    this.#owner = owner
  }

  /** Two workers may open one file: every step here may be done twice. */
  handle(file: BatchFile): number {
    const known = this.#open.get(file.path)
    if (known !== undefined) return known
    const fd = this.#create(file, file.size)
    this.#open.set(file.path, fd)
    if (this.#open.size > KEPT) {
      const [path, oldest] = this.#open.entries().next().value as [string, number]
      this.#open.delete(path)
      closeSync(oldest)
    }
    return fd
  }

  /**
   * For what writes all of a file at once: nobody else will open it, and it needs no size
   * before (on a cluster of many small files that is a third of the calls).
   */
  writeWhole(file: BatchFile, write: (fd: number) => void): void {
    const fd = this.#create(file, 0)
    try {
      write(fd)
    } finally {
      closeSync(fd)
    }
  }

  /**
   * Calls `write` again for a handle without O_DIRECT where the file system accepts that
   * flag and then refuses the write.
   */
  writePart(file: BatchFile, write: (fd: number) => void): void {
    const fd = this.handle(file)
    try {
      write(fd)
    } catch (error) {
      if (!this.#refusesDirect(file, error)) throw error
      // Others were opened with the flag as well.
      this.closeAll()
      write(this.handle(file))
    }
  }

  closeAll(): void {
    for (const fd of this.#open.values()) closeSync(fd)
    this.#open.clear()
  }

  #openFile(path: string, file: BatchFile): number {
    const isDirect = file.direct === true && this.#canBeDirect
    try {
      return openSync(path, isDirect ? CREATE | constants.O_DIRECT : CREATE, PRIVATE_MODE)
    } catch (error) {
      if (!this.#refusesDirect(file, error)) throw error
      return openSync(path, CREATE, PRIVATE_MODE)
    }
  }

  /** tmpfs of older kernels, and some network file systems, say EINVAL to O_DIRECT. */
  #refusesDirect(file: BatchFile, error: unknown): boolean {
    const refuses = file.direct === true && this.#canBeDirect && isInvalid(error)
    if (refuses) this.#canBeDirect = false
    return refuses
  }

  #create(file: BatchFile, size: number): number {
    const path = join(this.#dataDirectory, file.path)
    try {
      const fd = this.#openFile(path, file)
      if (this.#owner !== undefined) fchownSync(fd, this.#owner.uid, this.#owner.gid)
      if (file.mode !== PRIVATE_MODE) fchmodSync(fd, file.mode)
      if (size > 0) ftruncateSync(fd, size)
      return fd
    } catch (error) {
      throw cannotWrite(path, error)
    }
  }
}

function isInvalid(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EINVAL'
}

export function cannotWrite(path: string, error: unknown): Failure {
  const full = ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '')
  return new Failure('TM1217', {
    message: `cannot write ${path}`,
    because: describeSystemError(error),
    fix: full
      ? 'make room on that file system, then run the same restore again'
      : 'mend what the reason names, then run the same restore again',
    details: { path },
    cause: error,
  })
}
