/**
 * Writes files that are kept as they are, frame after frame.
 *
 * Invariant: finish() answers only for a file whose SHA-256 is the one of the file list.
 */
import { createHash, type Hash } from 'node:crypto'
import { writeSync } from 'node:fs'
import { Failure } from '../../base/failure.ts'
import type { PageKernel } from '../../postgres/page-kernel.ts'
import { cannotWrite, type FileHandles } from './file-handles.ts'
import type { BatchFile } from './messages.ts'

export class ContentWriter {
  readonly #kernel: PageKernel
  readonly #handles: FileHandles
  #hash: Hash = createHash('sha256')
  #crc = 0
  #position = 0

  constructor(kernel: PageKernel, handles: FileHandles) {
    this.#kernel = kernel
    this.#handles = handles
  }

  begin(file: BatchFile): void {
    this.#handles.handle(file)
    this.#hash = createHash('sha256')
    this.#crc = 0
    this.#position = 0
  }

  add(file: BatchFile, raw: Uint8Array): void {
    this.#hash.update(raw)
    this.#crc = this.#checksum(raw)
    this.#write(file, raw)
    this.#position += raw.length
  }

  /** The CRC-32C of the file; TM1218 when it is not the one that was backed up. */
  finish(file: BatchFile): number {
    if (this.#position === file.size && this.#hash.digest('hex') === file.sha256) return this.#crc
    throw new Failure('TM1218', {
      message: `${file.path} is not as it was backed up`,
      because: 'its SHA-256 differs from the one in the file list',
      fix: 'restore from another backup or repository, and keep this one for inspection',
      details: { path: file.path },
    })
  }

  #checksum(raw: Uint8Array): number {
    const room = this.#kernel.readBuffer.length
    let crc = this.#crc
    for (let from = 0; from < raw.length; from += room) {
      const part = raw.subarray(from, from + room)
      this.#kernel.readBuffer.set(part)
      crc = this.#kernel.crc32c(0, part.length, crc)
    }
    return crc
  }

  #write(file: BatchFile, raw: Uint8Array): void {
    const fd = this.#handles.handle(file)
    try {
      let written = 0
      while (written < raw.length) {
        const rest = raw.length - written
        written += writeSync(fd, raw, written, rest, this.#position + written)
      }
    } catch (error) {
      throw cannotWrite(file.path, error)
    }
  }
}
