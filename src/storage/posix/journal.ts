/**
 * A journal as a file that is extended by zeros ahead of what is written.
 *
 * Invariants: a chunk is on the disk before append() returns, and the file still had a name
 * then. After a failed write or sync nothing is written any more: the kernel may have dropped
 * dirty pages, so a second sync would prove nothing.
 */
import { accessSync, closeSync, fdatasyncSync, writeSync } from 'node:fs'
import { JournalEncoder } from '../journal.ts'
import { removedJournal } from '../journal-failure.ts'
import type { Journal } from '../storage.ts'
import { closeFile, syncFile } from './files.ts'
import { createIncomingFile } from './incoming.ts'
import { publish } from './publish.ts'
import { translateSystemError } from './system-failure.ts'
import { isAbsence, type RepositoryTree } from './tree.ts'
import { discardQuietly } from './writer.ts'

/**
 * Zeros are written so far ahead: a sync that changes no size costs one write of the disk. More
 * at once would cost room for segments that are hardly begun.
 */
const STEP_BYTES = 1024 * 1024

/** Crash windows: before publish() there is a file in `.incoming/`; then a durable head. */
export async function openPosixJournal(
  tree: RepositoryTree,
  key: string,
  head: Uint8Array,
): Promise<Journal> {
  const file = await createIncomingFile(tree)
  const journal = new PosixJournal(tree, key, file.fd)
  try {
    journal.begin(head)
    await syncFile(file.fd)
    await publish(tree, file.path, key, true)
    return journal
  } catch (error) {
    await journal.close()
    await discardQuietly(file.path)
    throw error
  }
}

class PosixJournal implements Journal {
  readonly #tree: RepositoryTree
  readonly #key: string
  readonly #path: string
  readonly #encoder = new JournalEncoder()
  #fd: number | undefined
  #end = 0
  #extended = 0

  constructor(tree: RepositoryTree, key: string, fd: number) {
    this.#tree = tree
    this.#key = key
    this.#path = tree.path(key)
    this.#fd = fd
  }

  /** Header and first chunk; not synced yet. */
  begin(head: Uint8Array): void {
    const fd = this.#open()
    this.#write(fd, this.#encoder.header)
    this.#write(fd, this.#encoder.encode([head]))
  }

  append(payload: readonly Uint8Array[]): void {
    const fd = this.#open()
    try {
      this.#write(fd, this.#encoder.encode(payload))
      fdatasyncSync(fd)
      this.#requireName()
    } catch (error) {
      this.#give(fd)
      throw this.#translate(error, payload)
    }
  }

  /**
   * The name, which is random and given once, is looked up. fstat() would tell the same, but makes
   * the next write change the inode (kernels with fine-grained times): 50 µs of 150.
   */
  #requireName(): void {
    try {
      accessSync(this.#path)
    } catch (error) {
      if (!isAbsence(error)) throw error
      throw removedJournal(this.#key, this.#tree.url)
    }
  }

  async close(): Promise<void> {
    const fd = this.#fd
    this.#fd = undefined
    if (fd !== undefined) await closeFile(fd)
  }

  #open(): number {
    if (this.#fd === undefined) throw new Error(`the journal ${this.#key} is finished`)
    return this.#fd
  }

  #give(fd: number): void {
    this.#fd = undefined
    try {
      closeSync(fd)
    } catch {
      // The error that ends the journal is the one to report.
    }
  }

  /** The zeros come first: the chunk lies within the file when it is written. */
  #write(fd: number, bytes: Buffer): void {
    const { length } = bytes
    if (this.#end + length > this.#extended) this.#extend(fd, this.#end + length)
    for (let done = 0; done < length; ) {
      done += writeSync(fd, bytes, done, length - done, this.#end + done)
    }
    this.#end += length
  }

  #extend(fd: number, needed: number): void {
    const target = Math.ceil(needed / STEP_BYTES) * STEP_BYTES
    const zeros = Buffer.alloc(target - this.#extended)
    for (let done = 0; done < zeros.length; ) {
      done += writeSync(fd, zeros, done, zeros.length - done, this.#extended + done)
    }
    this.#extended = target
  }

  #translate(error: unknown, payload: readonly Uint8Array[]): unknown {
    return translateSystemError(error, {
      doing: `write ${this.#key}`,
      path: (error as NodeJS.ErrnoException).path ?? this.#path,
      root: this.#tree.root,
      url: this.#tree.url,
      neededBytes: payload.reduce((sum, piece) => sum + piece.length, 0),
    })
  }
}
