/**
 * An object that is written in pieces. append() blocks its thread (it belongs to a
 * worker); commit() syncs in libuv's thread pool, so that the worker may go on meanwhile.
 *
 * A failed append or commit ends the writer and leaves nothing: after a failed fsync the
 * kernel may have dropped the dirty pages, so trying again would prove nothing.
 */
import { closeSync, unlinkSync } from 'node:fs'
import type { ObjectWriter } from '../storage.ts'
import { closeFile, syncFile, writePiecesFully } from './files.ts'
import { createIncomingFile, type IncomingFile, removeFile } from './incoming.ts'
import { publish } from './publish.ts'
import { translateSystemError } from './system-failure.ts'
import { isAbsence, type RepositoryTree } from './tree.ts'

export class PosixObjectWriter implements ObjectWriter {
  readonly #tree: RepositoryTree
  readonly #key: string
  readonly #file: IncomingFile
  #open = true

  constructor(tree: RepositoryTree, key: string, file: IncomingFile) {
    this.#tree = tree
    this.#key = key
    this.#file = file
  }

  append(pieces: readonly Uint8Array[]): void {
    this.#assertOpen()
    try {
      writePiecesFully(this.#file.fd, pieces)
    } catch (error) {
      this.#discard()
      throw this.#translate(error, pieces)
    }
  }

  async commit(): Promise<void> {
    this.#assertOpen()
    this.#open = false
    try {
      await syncAndClose(this.#file.fd)
      await publish(this.#tree, this.#file.path, this.#key, false)
    } catch (error) {
      await discardQuietly(this.#file.path)
      throw this.#translate(error)
    }
  }

  async abort(): Promise<void> {
    if (!this.#open) return
    this.#open = false
    try {
      await closeFile(this.#file.fd)
      await removeFile(this.#file.path)
    } catch (error) {
      throw this.#translate(error)
    }
  }

  #assertOpen(): void {
    if (!this.#open) throw new Error(`the writer of ${this.#key} is finished`)
  }

  #discard(): void {
    this.#open = false
    try {
      closeSync(this.#file.fd)
      unlinkSync(this.#file.path)
    } catch {
      // The write's own error is the one to report; removeLeftovers() finds the file.
    }
  }

  #translate(error: unknown, pieces?: readonly Uint8Array[]): unknown {
    const neededBytes = pieces?.reduce((sum, piece) => sum + piece.length, 0)
    return translateSystemError(error, {
      doing: `write ${this.#key}`,
      path: (error as NodeJS.ErrnoException).path ?? this.#file.path,
      root: this.#tree.root,
      url: this.#tree.url,
      ...(neededBytes === undefined ? {} : { neededBytes }),
    })
  }
}

export async function openIncomingWriter(
  tree: RepositoryTree,
  key: string,
): Promise<PosixObjectWriter> {
  return new PosixObjectWriter(tree, key, await createIncomingFile(tree))
}

/** Closing is checked as well: NFS and quotas may report a full disk only there. */
export async function syncAndClose(fd: number): Promise<void> {
  try {
    await syncFile(fd)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  await closeFile(fd)
}

/** For the way out of a failure, whose own error is the one to report. */
export async function discardQuietly(path: string): Promise<void> {
  try {
    await removeFile(path)
  } catch (error) {
    if (!isAbsence(error)) return
  }
}
