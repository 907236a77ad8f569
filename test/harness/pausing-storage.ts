/**
 * A storage whose actor stands still before one call until it is told to go on, as a process that
 * was stopped there: everybody else goes on meanwhile.
 */
import { ForwardingStorage } from '../../src/storage/forwarding-storage.ts'
import {
  keysOfListing,
  type ObjectWriter,
  type Storage,
  type StoredObject,
  type WriteOptions,
} from '../../src/storage/storage.ts'

export class PausingStorage extends ForwardingStorage {
  readonly #isDue: (call: string) => boolean
  #wasReached = false
  #reach: () => void = () => {}
  #goOn: () => void = () => {}
  /** Fulfilled when the actor stands before the call. */
  readonly reached: Promise<void>
  readonly #permission: Promise<void>

  /** Stands before the first call that `isDue`: `remove KEY`, `commit KEY`, … */
  constructor(inner: Storage, isDue: (call: string) => boolean) {
    super(inner)
    this.#isDue = isDue
    this.reached = new Promise((resolve) => {
      this.#reach = resolve
    })
    this.#permission = new Promise((resolve) => {
      this.#goOn = resolve
    })
  }

  resume(): void {
    this.#goOn()
  }

  async #pass(call: string): Promise<void> {
    if (this.#wasReached || !this.#isDue(call)) return
    this.#wasReached = true
    this.#reach()
    await this.#permission
  }

  override async read(key: string): Promise<Uint8Array | undefined> {
    await this.#pass(`read ${key}`)
    return await super.read(key)
  }

  override async size(key: string): Promise<number | undefined> {
    await this.#pass(`size ${key}`)
    return await super.size(key)
  }

  override list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    return this.#list(prefix, after)
  }

  override listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return keysOfListing(this.list(prefix, after))
  }

  async *#list(prefix: string, after?: string): AsyncGenerator<StoredObject> {
    await this.#pass(`list ${prefix}`)
    yield* super.list(prefix, after)
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await this.#pass(`write ${key}`)
    await super.write(key, bytes, options)
  }

  override async openWriter(key: string): Promise<ObjectWriter> {
    const writer = await super.openWriter(key)
    return {
      append: (pieces) => writer.append(pieces),
      commit: async () => {
        await this.#pass(`commit ${key}`)
        await writer.commit()
      },
      abort: async () => await writer.abort(),
    }
  }

  override async remove(key: string): Promise<void> {
    await this.#pass(`remove ${key}`)
    await super.remove(key)
  }

  override async removeMany(keys: readonly string[]): Promise<void> {
    await this.#pass(`removeMany ${keys.join(' ')}`)
    await super.removeMany(keys)
  }
}
