/**
 * Counts what is asked of a storage (storage-meter.ts): calls of the interface, by operation,
 * and the bytes of objects that were read and written. A failed call counts as a call.
 */
import {
  countBytesRead,
  countBytesWritten,
  countCall,
  makeStorageMeter,
  readMeter,
  type StorageCall,
  type StorageCounts,
  type StorageMeter,
} from './storage-meter.ts'
import type { ObjectWriter, OpenJournal, Storage, StoredObject, WriteOptions } from './storage.ts'

export interface CountingStorage extends Storage {
  readonly counts: StorageCounts
}

export function openCountingStorage(
  inner: Storage,
  meter: StorageMeter = makeStorageMeter(),
): CountingStorage {
  return new Counter(inner, meter)
}

class Counter implements CountingStorage {
  readonly url: string
  readonly isSealed: boolean
  readonly #inner: Storage
  readonly #meter: StorageMeter

  constructor(inner: Storage, meter: StorageMeter) {
    this.url = inner.url
    this.isSealed = inner.isSealed === true
    this.#inner = inner
    this.#meter = meter
  }

  get counts(): StorageCounts {
    return readMeter(this.#meter)
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    this.#count('read')
    const bytes = await this.#inner.read(key)
    countBytesRead(this.#meter, bytes?.length ?? 0)
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
    countBytesRead(this.#meter, bytes?.length ?? 0)
    return bytes
  }

  async size(key: string): Promise<number | undefined> {
    this.#count('size')
    return await this.#inner.size(key)
  }

  list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    this.#count('list')
    return this.#inner.list(prefix, after)
  }

  listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    this.#count('list')
    return this.#inner.listKeys(prefix, after)
  }

  async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    this.#count('write')
    await this.#inner.write(key, bytes, options)
    countBytesWritten(this.#meter, bytes.length)
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
        countBytesWritten(this.#meter, appended)
      },
      abort: async () => {
        this.#count('abort')
        await writer.abort()
      },
    }
  }

  /** One call for each journal, and the bytes of its chunks. */
  get openJournal(): OpenJournal | undefined {
    const open = this.#inner.openJournal?.bind(this.#inner)
    if (open === undefined) return undefined
    return async (key, head) => {
      this.#count('openWriter')
      const journal = await open(key, head)
      countBytesWritten(this.#meter, head.length)
      return {
        append: (payload) => {
          journal.append(payload)
          for (const { length } of payload) countBytesWritten(this.#meter, length)
        },
        close: async () => await journal.close(),
      }
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

  #count(operation: StorageCall): void {
    countCall(this.#meter, operation)
  }
}
