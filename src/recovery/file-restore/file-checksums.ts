/**
 * CRC-32C of whole files out of the pieces that workers wrote. Pure.
 *
 * Invariant: a file has a checksum only when its pieces and its zero pages make up its size.
 */
import { combineCrc32c, crc32cOfZeros } from '../../postgres/crc32c.ts'
import { PAGE_BYTES } from '../../repository/pack-format.ts'
import type { Batch } from './batch.ts'
import { PIECE_FIELDS } from './messages.ts'

interface Piece {
  readonly page: number
  readonly pages: number
  readonly crc: number
}

export class FileChecksums {
  readonly #batch: Batch
  readonly #pieces = new Map<number, Piece[]>()
  readonly #contents = new Map<number, number>()

  constructor(batch: Batch) {
    this.#batch = batch
  }

  add(pieces: Uint32Array, contents: Uint32Array): void {
    for (let at = 0; at < pieces.length; at += PIECE_FIELDS) {
      const [file, page, pages, crc] = [...pieces.subarray(at, at + PIECE_FIELDS)] as [
        number,
        number,
        number,
        number,
      ]
      const known = this.#pieces.get(file)
      if (known === undefined) this.#pieces.set(file, [{ page, pages, crc }])
      else known.push({ page, pages, crc })
    }
    for (let at = 0; at < contents.length; at += 2) {
      this.#contents.set(contents[at] as number, contents[at + 1] as number)
    }
  }

  /** The checksum of file `number`. */
  of(number: number): number {
    const { path, size, chunks } = this.#batch.files[number] as Batch['files'][number]
    if (chunks !== undefined) {
      const crc = this.#contents.get(number)
      if (crc === undefined) throw new Error(`${path} was not written`)
      return crc
    }
    const total = size / PAGE_BYTES
    const pieces = (this.#pieces.get(number) ?? []).sort((a, b) => a.page - b.page)
    let crc = 0
    let at = 0
    let zeroPages = 0
    for (const piece of pieces) {
      if (piece.page < at) throw new Error(`page ${piece.page} of ${path} was written twice`)
      crc = appendZeros(crc, piece.page - at)
      zeroPages += piece.page - at
      crc = combineCrc32c(crc, piece.crc, piece.pages * PAGE_BYTES)
      at = piece.page + piece.pages
    }
    zeroPages += total - at
    if (zeroPages !== this.#batch.zeroPages[number]) {
      throw new Error(
        `${path}: ${zeroPages} pages were not written, ${this.#batch.zeroPages[number]} are zero`,
      )
    }
    return appendZeros(crc, total - at)
  }
}

function appendZeros(crc: number, pages: number): number {
  if (pages === 0) return crc
  const length = pages * PAGE_BYTES
  return combineCrc32c(crc, crc32cOfZeros(length), length)
}
