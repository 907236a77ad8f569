/**
 * Objects in memory, for tests and simulations. As strict about keys as the others; it has
 * no root that could vanish, so it asks for no marker.
 */
import { Failure } from '../base/failure.ts'
import { JournalEncoder } from './journal.ts'
import { removedJournal } from './journal-failure.ts'
import { assertListing, assertStorageKey, compareKeys } from './storage-key.ts'
import {
  type Journal,
  keysOfListing,
  type ObjectWriter,
  type Storage,
  type StoredObject,
  type WriteOptions,
} from './storage.ts'

/** Two storages opened over the same map see the same objects, as two processes would. */
export function openMemoryStorage(objects = new Map<string, Uint8Array>()): Storage {
  return new MemoryStorage(objects)
}

class MemoryStorage implements Storage {
  readonly url = 'memory:///'
  readonly #objects: Map<string, Uint8Array>

  constructor(objects: Map<string, Uint8Array>) {
    this.#objects = objects
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    assertStorageKey(key)
    return copyOf(this.#objects.get(key))
  }

  async readRange(key: string, offset: number, length: number): Promise<Uint8Array | undefined> {
    assertStorageKey(key)
    if (offset < 0 || length < 0) throw new Error(`not a range: ${offset}, ${length}`)
    return copyOf(this.#objects.get(key)?.subarray(offset, offset + length))
  }

  async size(key: string): Promise<number | undefined> {
    assertStorageKey(key)
    return this.#objects.get(key)?.length
  }

  list(prefix: string, after = ''): AsyncIterable<StoredObject> {
    assertListing(prefix, after === '' ? undefined : after)
    return this.#list(prefix, after)
  }

  listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return keysOfListing(this.list(prefix, after))
  }

  async *#list(prefix: string, after: string): AsyncGenerator<StoredObject> {
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && key > after)
    for (const key of keys.sort(compareKeys)) {
      const object = this.#objects.get(key)
      if (object !== undefined) yield { key, sizeBytes: object.length }
    }
  }

  async write(key: string, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    assertStorageKey(key)
    if (options.createOnly === true && this.#objects.has(key)) {
      throw new Failure('TM1502', {
        message: `${key} exists already in ${this.url}`,
        because: 'another run created it first; it was not overwritten',
        fix: 'compare the two runs; when both did the same work, nothing is to be done',
        details: { key },
      })
    }
    this.#objects.set(key, new Uint8Array(bytes))
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    assertStorageKey(key)
    const pieces: Uint8Array[] = []
    let open = true
    const assertOpen = () => {
      if (!open) throw new Error(`the writer of ${key} is finished`)
    }
    return {
      append: (more) => {
        assertOpen()
        for (const piece of more) pieces.push(new Uint8Array(piece))
      },
      commit: async () => {
        assertOpen()
        open = false
        this.#objects.set(key, new Uint8Array(Buffer.concat(pieces)))
      },
      abort: async () => {
        open = false
      },
    }
  }

  async openJournal(key: string, head: Uint8Array): Promise<Journal> {
    const encoder = new JournalEncoder()
    const begin = Buffer.concat([encoder.header, encoder.encode([head])])
    await this.write(key, begin, { createOnly: true })
    let own = this.#objects.get(key)
    return {
      append: (payload) => {
        const before = this.#objects.get(key)
        if (before === undefined || before !== own) throw removedJournal(key, this.url)
        own = new Uint8Array(Buffer.concat([before, encoder.encode(payload)]))
        this.#objects.set(key, own)
      },
      close: async () => {},
    }
  }

  async confirmDurable(keys: readonly string[]): Promise<void> {
    keys.forEach(assertStorageKey)
  }

  async remove(key: string): Promise<void> {
    assertStorageKey(key)
    this.#objects.delete(key)
  }

  async removeMany(keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.remove(key)
  }

  async removeLeftovers(): Promise<number> {
    return 0
  }

  async freeBytes(): Promise<number | undefined> {
    return undefined
  }

  async close(): Promise<void> {}
}

/** slice() would not do: a Buffer's shares its memory. */
function copyOf(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : new Uint8Array(bytes)
}
