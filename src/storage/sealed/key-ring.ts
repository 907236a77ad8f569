/**
 * The data keys that a sealed storage knows, and the looking for newer ones.
 *
 * How old the last look may be only decides how soon a rotation is followed; nothing is
 * safe because of it.
 */
import { monotonicMs } from '../../base/clock.ts'
import { Failure } from '../../base/failure.ts'
import { type DataKey, readDataKeys, type Sealing } from '../data-keys.ts'
import type { Storage } from '../storage.ts'

export interface RingKey {
  readonly id: string
  readonly generation: number
  readonly bytes: Buffer
}

export class KeyRing {
  /** The storage without seal. */
  readonly #storage: Storage
  #sealing: Sealing
  #keys: RingKey[]
  #lookedAtMs = monotonicMs()
  #look: Promise<void> | undefined
  readonly #lookAgainMs: number

  constructor(storage: Storage, sealing: Sealing, lookAgainMs: number) {
    this.#storage = storage
    this.#lookAgainMs = lookAgainMs
    this.#sealing = sealing
    this.#keys = sealing.keys.map(toRingKey)
  }

  get repositoryId(): string {
    return this.#sealing.repositoryId
  }

  /** The key for what is written now. */
  async newest(): Promise<RingKey> {
    if (monotonicMs() - this.#lookedAtMs >= this.#lookAgainMs) await this.#lookAgain()
    const key = this.#keys.at(-1)
    if (key === undefined) throw new Error('a sealed storage without a key')
    return key
  }

  /**
   * Undefined: no generation has this id. TM1605 when one is missing or damaged, which
   * might have it.
   */
  async find(id: string, objectKey: string): Promise<RingKey | undefined> {
    const known = this.#keys.find((key) => key.id === id)
    if (known !== undefined) return known
    await this.#lookAgain()
    const found = this.#keys.find((key) => key.id === id)
    if (found !== undefined) return found
    const newest = this.#keys.at(-1)?.generation ?? 0
    if (this.#keys.length === newest) return undefined
    throw this.#missing(id, objectKey, newest)
  }

  /** One look at a time, for whoever waits. */
  async #lookAgain(): Promise<void> {
    this.#look ??= this.#readKeys().finally(() => {
      this.#look = undefined
    })
    await this.#look
  }

  async #readKeys(): Promise<void> {
    const keys = await readDataKeys(this.#storage, this.#sealing)
    this.#sealing = { ...this.#sealing, keys }
    this.#keys = keys.map(toRingKey)
    this.#lookedAtMs = monotonicMs()
  }

  #missing(id: string, objectKey: string, newest: number): Failure {
    const there = new Set(this.#keys.map(({ generation }) => generation))
    const all = Array.from({ length: newest }, (_, index) => index + 1)
    const lost = all.filter((generation) => !there.has(generation))
    return new Failure('TM1605', {
      message: `the object ${objectKey} is sealed with a key that cannot be had`,
      because: `its key ${id} is none of those that open, and generation ${lost.join(', ')} does not`,
      fix: 'bring the missing or damaged keys/….key back from a copy of the repository',
      details: { key: objectKey, keyId: id, generations: lost },
    })
  }
}

function toRingKey({ id, generation, secret }: DataKey): RingKey {
  return { id, generation, bytes: Buffer.from(secret, 'hex') }
}
