/** Hands every operation on. A wrapper extends it and says only what it does otherwise. */
import type {
  ObjectLocks,
  ObjectWriter,
  OpenJournal,
  Storage,
  StoredObject,
  WriteOptions,
} from './storage.ts'

export class ForwardingStorage implements Storage {
  readonly url: string
  readonly isSealed: boolean
  protected readonly inner: Storage

  constructor(inner: Storage) {
    this.url = inner.url
    this.isSealed = inner.isSealed === true
    this.inner = inner
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    return await this.inner.read(key)
  }

  async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    return await this.inner.readRange(key, offset, length, into)
  }

  async size(key: string): Promise<number | undefined> {
    return await this.inner.size(key)
  }

  list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    return this.inner.list(prefix, after)
  }

  listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return this.inner.listKeys(prefix, after)
  }

  async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await this.inner.write(key, bytes, options)
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    return await this.inner.openWriter(key)
  }

  get openJournal(): OpenJournal | undefined {
    const { inner } = this
    if (inner.openJournal === undefined) return undefined
    return async (key, head) => await (inner.openJournal as OpenJournal)(key, head)
  }

  async confirmDurable(keys: readonly string[]): Promise<void> {
    await this.inner.confirmDurable(keys)
  }

  async remove(key: string): Promise<void> {
    await this.inner.remove(key)
  }

  async removeMany(keys: readonly string[]): Promise<void> {
    await this.inner.removeMany(keys)
  }

  async removeLeftovers(): Promise<number> {
    return await this.inner.removeLeftovers()
  }

  async freeBytes(): Promise<number | undefined> {
    return await this.inner.freeBytes()
  }

  get locks(): ObjectLocks | undefined {
    return this.inner.locks
  }

  async close(): Promise<void> {
    await this.inner.close()
  }
}
