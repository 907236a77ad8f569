/** A storage that takes its time to write one object: others are faster, if they may be. */
import { setTimeout as sleep } from 'node:timers/promises'
import { ForwardingStorage } from '../../src/storage/forwarding-storage.ts'
import type { Storage, WriteOptions } from '../../src/storage/storage.ts'

export class SlowFor extends ForwardingStorage {
  readonly #name: string
  readonly #delayMs: number

  constructor(inner: Storage, name: string, delayMs: number) {
    super(inner)
    this.#name = name
    this.#delayMs = delayMs
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    if (key.includes(this.#name)) await sleep(this.#delayMs)
    await super.write(key, bytes, options)
  }
}
