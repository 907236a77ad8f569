/**
 * Keeps what a process reads and writes below a rate, over all its threads.
 *
 * A write waits before it begins, a read before the next operation: on average the limit
 * holds. append() may not wait, so a writer's bytes are paid for at its commit, and the rate
 * may be exceeded for the length of one pack.
 */
import { monotonicNs, sleep } from '../base/clock.ts'
import { ForwardingStorage } from './forwarding-storage.ts'
import type { ObjectWriter, Storage, WriteOptions } from './storage.ts'

/** Plain data that may be posted to threads, which then share the limit. */
export interface BandwidthLimit {
  readonly bytesPerSecond: number
  /** One 64-bit number: when the bytes granted so far will have passed, by monotonicNs(). */
  readonly schedule: SharedArrayBuffer
}

export function makeBandwidthLimit(bytesPerSecond: number): BandwidthLimit {
  return { bytesPerSecond, schedule: new SharedArrayBuffer(8) }
}

export function openLimitedStorage(inner: Storage, limit: BandwidthLimit): Storage {
  return new LimitedStorage(inner, limit)
}

/** Grants bytes; gives how long whoever got them has to wait for the ones before. */
export function reserve(limit: BandwidthLimit, bytes: number, nowNs: bigint): bigint {
  const schedule = new BigInt64Array(limit.schedule)
  const costNs = BigInt(Math.round((bytes / limit.bytesPerSecond) * 1e9))
  for (;;) {
    const booked = Atomics.load(schedule, 0)
    const start = booked > nowNs ? booked : nowNs
    const end = start + costNs
    if (Atomics.compareExchange(schedule, 0, booked, end) === booked) return end - nowNs
  }
}

class LimitedStorage extends ForwardingStorage {
  readonly #limit: BandwidthLimit

  constructor(inner: Storage, limit: BandwidthLimit) {
    super(inner)
    this.#limit = limit
  }

  override async read(key: string): Promise<Uint8Array | undefined> {
    const bytes = await this.inner.read(key)
    await this.#pay(bytes?.length ?? 0)
    return bytes
  }

  override async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    const bytes = await this.inner.readRange(key, offset, length, into)
    await this.#pay(bytes?.length ?? 0)
    return bytes
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await this.#pay(bytes.length)
    await this.inner.write(key, bytes, options)
  }

  override async openWriter(key: string): Promise<ObjectWriter> {
    const writer = await this.inner.openWriter(key)
    let unpaid = 0
    return {
      append: (pieces) => {
        writer.append(pieces)
        for (const { length } of pieces) unpaid += length
      },
      commit: async () => {
        const due = unpaid
        unpaid = 0
        await this.#pay(due)
        await writer.commit()
      },
      abort: async () => await writer.abort(),
    }
  }

  async #pay(bytes: number): Promise<void> {
    if (bytes === 0) return
    const waitMs = Number(reserve(this.#limit, bytes, monotonicNs()) / 1_000_000n)
    if (waitMs > 0) await sleep(waitMs)
  }
}
