/**
 * Writes pages where they belong, proved first. Pages that follow each other in a file are
 * gathered in the kernel's memory, so that one proof and one write serve many frames.
 *
 * Invariant: a page is written only after its fingerprint was found equal to the map's.
 */
import { writeSync } from 'node:fs'
import { Failure } from '../../base/failure.ts'
import { combineCrc32c } from '../../postgres/crc32c.ts'
import type { PageKernel } from '../../postgres/page-kernel.ts'
import { PAGE_BYTES } from '../../repository/pack-format.ts'
import { cannotWrite, type FileHandles } from './file-handles.ts'
import { type BatchFile, PIECE_FIELDS } from './messages.ts'

/** 512 KiB: what was measured fastest lies between 256 KiB and 1 MiB. */
export const STAGE_PAGES = 64

export interface Mark {
  readonly length: number
  /** The last piece, which may have grown since. */
  readonly last: readonly number[]
}

export class PageWriter {
  readonly #kernel: PageKernel
  readonly #handles: FileHandles
  readonly #found = new Uint8Array(STAGE_PAGES * 8)
  readonly #foundWords = new BigUint64Array(this.#found.buffer)
  #files: readonly BatchFile[] = []
  #expected: BigUint64Array = new BigUint64Array(0)
  #pieces: number[] = []
  #file = -1
  #firstPage = 0
  #firstFingerprint = 0
  #pages = 0

  constructor(kernel: PageKernel, handles: FileHandles) {
    this.#kernel = kernel
    this.#handles = handles
  }

  beginBatch(files: readonly BatchFile[], fingerprints: SharedArrayBuffer): void {
    this.#files = files
    this.#expected = new BigUint64Array(fingerprints)
  }

  /** Takes pages out of a decoded frame. `bytes` may be reused on return. */
  add(file: number, page: number, fingerprint: number, bytes: Uint8Array): void {
    const pages = bytes.length / PAGE_BYTES
    const continues =
      file === this.#file &&
      page === this.#firstPage + this.#pages &&
      fingerprint === this.#firstFingerprint + this.#pages &&
      this.#pages + pages <= STAGE_PAGES
    if (!continues) {
      this.flush()
      this.#file = file
      this.#firstPage = page
      this.#firstFingerprint = fingerprint
    }
    this.#kernel.readBuffer.set(bytes, this.#pages * PAGE_BYTES)
    this.#pages += pages
  }

  flush(): void {
    const pages = this.#pages
    if (pages === 0) return
    this.#prove(pages)
    const length = pages * PAGE_BYTES
    const crc = this.#kernel.crc32c(0, length)
    this.#write(length)
    this.#addPiece(crc, pages)
    this.#pages = 0
  }

  /** Where rewind() leads back to: what was flushed up to here. */
  mark(): Mark {
    const { length } = this.#pieces
    return { length, last: this.#pieces.slice(-PIECE_FIELDS) }
  }

  /** Forgets what was added since; the same pages are added once more. */
  rewind({ length, last }: Mark): void {
    this.#pages = 0
    this.#pieces.length = length
    this.#pieces.splice(length - last.length, last.length, ...last)
  }

  /** The pieces written since the last call: file, first page, pages, CRC-32C. */
  takePieces(): Uint32Array {
    const pieces = Uint32Array.from(this.#pieces)
    this.#pieces = []
    return pieces
  }

  #prove(pages: number): void {
    this.#kernel.fingerprint(0, pages, this.#found)
    for (let page = 0; page < pages; page++) {
      if (this.#foundWords[page] === this.#expected[this.#firstFingerprint + page]) continue
      const path = (this.#files[this.#file] as BatchFile).path
      throw new Failure('TM1218', {
        message: `page ${this.#firstPage + page} of ${path} is not the one that was backed up`,
        because: 'its fingerprint differs from the one in the page map',
        fix: 'restore from another backup or repository, and keep this one for inspection',
        details: { path, page: this.#firstPage + page },
      })
    }
  }

  #write(length: number): void {
    const file = this.#files[this.#file] as BatchFile
    const write = (fd: number): void => {
      this.#writeTo(fd, length)
    }
    try {
      if (length === file.size) this.#handles.writeWhole(file, write)
      else this.#handles.writePart(file, write)
    } catch (error) {
      throw error instanceof Failure ? error : cannotWrite(file.path, error)
    }
  }

  #writeTo(fd: number, length: number): void {
    const from = this.#firstPage * PAGE_BYTES
    let written = 0
    while (written < length) {
      const rest = length - written
      written += writeSync(fd, this.#kernel.readBuffer, written, rest, from + written)
    }
  }

  #addPiece(crc: number, pages: number): void {
    const pieces = this.#pieces
    const last = pieces.length - PIECE_FIELDS
    const follows =
      last >= 0 &&
      pieces[last] === this.#file &&
      (pieces[last + 1] as number) + (pieces[last + 2] as number) === this.#firstPage
    if (!follows) {
      pieces.push(this.#file, this.#firstPage, pages, crc)
      return
    }
    pieces[last + 2] = (pieces[last + 2] as number) + pages
    pieces[last + 3] = combineCrc32c(pieces[last + 3] as number, crc, pages * PAGE_BYTES)
  }
}
