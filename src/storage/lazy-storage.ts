/**
 * A storage that is opened when it is first asked for something: a repository that stands by
 * for another one costs nothing until it is needed.
 */
import type { ObjectWriter, Storage, StoredObject, WriteOptions } from './storage.ts'

export function openLazyStorage(url: string, open: () => Promise<Storage>): Storage {
  return new LazyStorage(url, open)
}

class LazyStorage implements Storage {
  readonly url: string
  readonly #open: () => Promise<Storage>
  #opened: Promise<Storage> | undefined

  constructor(url: string, open: () => Promise<Storage>) {
    this.url = url
    this.#open = open
  }

  #storage(): Promise<Storage> {
    this.#opened ??= this.#open()
    return this.#opened
  }

  /** Of one that is not sealed there is no other. */
  async readStored(key: string): Promise<Uint8Array | undefined> {
    const storage = await this.#storage()
    return storage.readStored === undefined
      ? await storage.read(key)
      : await storage.readStored(key)
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    return await (await this.#storage()).read(key)
  }

  async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    return await (await this.#storage()).readRange(key, offset, length, into)
  }

  async size(key: string): Promise<number | undefined> {
    return await (await this.#storage()).size(key)
  }

  async *list(prefix: string, after?: string): AsyncGenerator<StoredObject> {
    yield* (await this.#storage()).list(prefix, after)
  }

  async *listKeys(prefix: string, after?: string): AsyncGenerator<readonly string[]> {
    yield* (await this.#storage()).listKeys(prefix, after)
  }

  async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await (await this.#storage()).write(key, bytes, options)
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    return await (await this.#storage()).openWriter(key)
  }

  async confirmDurable(keys: readonly string[]): Promise<void> {
    await (await this.#storage()).confirmDurable(keys)
  }

  async remove(key: string): Promise<void> {
    await (await this.#storage()).remove(key)
  }

  async removeMany(keys: readonly string[]): Promise<void> {
    await (await this.#storage()).removeMany(keys)
  }

  async removeLeftovers(): Promise<number> {
    return await (await this.#storage()).removeLeftovers()
  }

  async freeBytes(): Promise<number | undefined> {
    return await (await this.#storage()).freeBytes()
  }

  async close(): Promise<void> {
    if (this.#opened !== undefined) await (await this.#opened).close()
  }
}
