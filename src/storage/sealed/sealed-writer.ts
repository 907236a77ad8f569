/**
 * Seals an object that is written in pieces. The last block says that it is the last, so
 * one block of plain bytes is kept back until more comes or the object ends.
 */
import type { ObjectWriter } from '../storage.ts'
import { BLOCK_BYTES, type ObjectSeal, sealBlock } from './sealed-format.ts'

export class SealedWriter implements ObjectWriter {
  readonly #seal: ObjectSeal
  readonly #inner: ObjectWriter
  readonly #block = Buffer.allocUnsafeSlow(BLOCK_BYTES)
  #filled = 0
  #ordinal = 0
  #isEnded = false

  /** Writes the header. */
  constructor(seal: ObjectSeal, inner: ObjectWriter) {
    this.#seal = seal
    this.#inner = inner
    inner.append([seal.header])
  }

  append(pieces: readonly Uint8Array[]): void {
    const sealed: Uint8Array[] = []
    for (const piece of pieces) this.#add(piece, sealed)
    // Also when there is nothing yet: a writer that is finished says so.
    this.#inner.append(sealed)
  }

  #add(piece: Uint8Array, sealed: Uint8Array[]): void {
    let at = 0
    while (at < piece.length) {
      if (this.#filled === BLOCK_BYTES) this.#flush(false, sealed)
      const count = Math.min(BLOCK_BYTES - this.#filled, piece.length - at)
      this.#block.set(piece.subarray(at, at + count), this.#filled)
      this.#filled += count
      at += count
    }
  }

  #flush(isLast: boolean, sealed: Uint8Array[]): void {
    const plain = this.#block.subarray(0, this.#filled)
    sealed.push(...sealBlock(this.#seal, this.#ordinal, isLast, plain))
    this.#ordinal += 1
    this.#filled = 0
  }

  /** A commit that may be called again (TM1509) has its last block already. */
  async commit(): Promise<void> {
    if (!this.#isEnded) {
      const sealed: Uint8Array[] = []
      this.#flush(true, sealed)
      this.#inner.append(sealed)
      this.#isEnded = true
    }
    await this.#inner.commit()
  }

  async abort(): Promise<void> {
    await this.#inner.abort()
  }
}
