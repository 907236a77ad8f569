/**
 * Counts what is asked of a storage: calls of the interface, by operation, and the bytes of
 * objects that were read and written. A failed call counts as a call.
 */
import type { ObjectWriter, Storage, StoredObject, WriteOptions } from './storage.ts'

export interface StorageCounts {
  readonly calls: ReadonlyMap<string, number>
  readonly bytesRead: number
  readonly bytesWritten: number
}

export interface CountingStorage extends Storage {
  readonly counts: StorageCounts
}

export function openCountingStorage(inner: Storage): CountingStorage {
  return new Counter(inner)
}

class Counter implements CountingStorage {
  readonly url: string
  readonly isSealed: boolean
  readonly counts = { calls: new Map<string, number>(), bytesRead: 0, bytesWritten: 0 }
  readonly #inner: Storage

  constructor(inner: Storage) {
    this.url = inner.url
    this.isSealed = inner.isSealed === true
    this.#inner = inner
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    this.#count('read')
    const bytes = await this.#inner.read(key)
    this.counts.bytesRead += bytes?.length ?? 0
    return bytes
  }

  async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    this.#count('readRange')
    const bytes = await this.#inner.readRange(key, offset, length, into)
    this.counts.bytesRead += bytes?.length ?? 0
    return bytes
  }

  async size(key: string): Promise<number | undefined> {
    this.#count('size')
    return await this.#inner.size(key)
  }

  list(prefix: string): AsyncIterable<StoredObject> {
    this.#count('list')
    return this.#inner.list(prefix)
  }

  async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    this.#count('write')
    await this.#inner.write(key, bytes, options)
    this.counts.bytesWritten += bytes.length
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    this.#count('openWriter')
    const writer = await this.#inner.openWriter(key)
    let appended = 0
    return {
      append: (pieces) => {
        writer.append(pieces)
        for (const { length } of pieces) appended += length
      },
      commit: async () => {
        this.#count('commit')
        await writer.commit()
        this.counts.bytesWritten += appended
      },
      abort: async () => {
        this.#count('abort')
        await writer.abort()
      },
    }
  }

  async confirmDurable(keys: readonly string[]): Promise<void> {
    this.#count('confirmDurable')
    await this.#inner.confirmDurable(keys)
  }

  async remove(key: string): Promise<void> {
    this.#count('remove')
    await this.#inner.remove(key)
  }

  async removeMany(keys: readonly string[]): Promise<void> {
    this.#count('removeMany')
    await this.#inner.removeMany(keys)
  }

  async removeLeftovers(): Promise<number> {
    this.#count('removeLeftovers')
    return await this.#inner.removeLeftovers()
  }

  async freeBytes(): Promise<number | undefined> {
    this.#count('freeBytes')
    return await this.#inner.freeBytes()
  }

  async close(): Promise<void> {
    await this.#inner.close()
  }

  #count(operation: string): void {
    const { calls } = this.counts
    calls.set(operation, (calls.get(operation) ?? 0) + 1)
  }
}
