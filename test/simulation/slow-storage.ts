/** A storage whose calls take some turns of the event loop, for seeded interleavings. */
import { setImmediate as turn } from 'node:timers/promises'
import { ForwardingStorage } from '../../src/storage/forwarding-storage.ts'
import type { ObjectWriter, Storage, WriteOptions } from '../../src/storage/storage.ts'

/** mulberry32 */
export function makeRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

/** Every call waits for some turns of the event loop first, so that others come in between. */
export class SlowStorage extends ForwardingStorage {
  readonly #random: () => number

  constructor(inner: Storage, random: () => number) {
    super(inner)
    this.#random = random
  }

  async #pause(): Promise<void> {
    // Seldom for long: another gets through many of its calls meanwhile.
    const turns = this.#random() < 0.03 ? 400 : Math.floor(this.#random() * 4)
    for (let at = 0; at < turns; at++) await turn()
  }

  override async read(key: string): Promise<Uint8Array | undefined> {
    await this.#pause()
    return await this.inner.read(key)
  }

  override async readRange(key: string, offset: number, length: number, into?: Uint8Array) {
    await this.#pause()
    return await this.inner.readRange(key, offset, length, into)
  }

  override async size(key: string): Promise<number | undefined> {
    await this.#pause()
    return await this.inner.size(key)
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await this.#pause()
    await this.inner.write(key, bytes, options)
  }

  override async openWriter(key: string): Promise<ObjectWriter> {
    const writer = await this.inner.openWriter(key)
    return {
      append: (pieces) => writer.append(pieces),
      commit: async () => {
        await this.#pause()
        await writer.commit()
      },
      abort: async () => await writer.abort(),
    }
  }

  override async remove(key: string): Promise<void> {
    await this.#pause()
    await this.inner.remove(key)
  }
}
