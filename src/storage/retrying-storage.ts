/**
 * Tries again what failed for a while (TM1509), with growing pauses of random length: the one
 * place that does so. All else passes at once.
 *
 * Every operation may be repeated: reads and removals by nature, a creation because its
 * write id tells whether an earlier attempt has made the object, a listing because it goes on
 * behind the last key that it gave.
 */
import { monotonicMs, sleep } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { randomHex, randomUpTo } from '../base/random.ts'
import {
  keysOfListing,
  type ObjectLocks,
  type ObjectWriter,
  type Storage,
  type StoredObject,
  type WriteOptions,
} from './storage.ts'

export interface RetryPolicy {
  /** Attempts in all. */
  readonly attempts: number
  /** The longest first pause; each following one may be twice as long. */
  readonly firstPauseMs: number
  readonly longestPauseMs: number
  /** After so long no attempt begins any more, however few there were. */
  readonly patienceMs: number
}

/** Whoever calls has patience of its own beyond that: PostgreSQL archives again. */
const POLICY: RetryPolicy = {
  attempts: 7,
  firstPauseMs: 250,
  longestPauseMs: 8000,
  patienceMs: 120_000,
}

export function openRetryingStorage(inner: Storage, policy = POLICY): Storage {
  return new RetryingStorage(inner, policy)
}

/**
 * The pause before attempt `attempt` (from 2): anything up to a bound that doubles, so that
 * many who failed together do not come back together; never less than the store asked for.
 */
export function choosePauseMs(
  policy: RetryPolicy,
  attempt: number,
  askedMs: number,
  pick: (most: number) => number,
): number {
  const bound = Math.min(policy.longestPauseMs, policy.firstPauseMs * 2 ** (attempt - 2))
  return Math.max(pick(bound), Math.min(askedMs, policy.longestPauseMs))
}

class RetryingStorage implements Storage {
  readonly url: string
  readonly isSealed: boolean
  readonly #inner: Storage
  readonly #policy: RetryPolicy

  constructor(inner: Storage, policy: RetryPolicy) {
    this.url = inner.url
    this.isSealed = inner.isSealed === true
    this.#inner = inner
    this.#policy = policy
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    return await this.#retry(async () => await this.#inner.read(key))
  }

  async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    return await this.#retry(async () => await this.#inner.readRange(key, offset, length, into))
  }

  async size(key: string): Promise<number | undefined> {
    return await this.#retry(async () => await this.#inner.size(key))
  }

  list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    return this.#list(prefix, after, this.#inner.list(prefix, after))
  }

  /** Object stores, which are what is asked again, give sizes with every listing. */
  listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return keysOfListing(this.list(prefix, after))
  }

  async *#list(
    prefix: string,
    after: string | undefined,
    first: AsyncIterable<StoredObject>,
  ): AsyncGenerator<StoredObject> {
    const series = new Series(this.#policy)
    let last = after
    for (let objects = first; ; objects = this.#inner.list(prefix, last)) {
      try {
        for await (const object of objects) {
          last = object.key
          series.restart()
          yield object
        }
        return
      } catch (error) {
        await series.pauseAfter(error)
      }
    }
  }

  async write(key: string, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    const whole = { ...options, writeId: options.writeId ?? randomHex(16) }
    await this.#retry(async () => await this.#inner.write(key, bytes, whole))
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    const writer = await this.#retry(async () => await this.#inner.openWriter(key))
    return {
      append: (pieces) => writer.append(pieces),
      commit: async () => {
        try {
          await this.#retry(async () => await writer.commit())
        } catch (error) {
          // A commit that may be called again has left its upload open.
          if (isFailure(error, 'TM1509')) await writer.abort().catch(() => undefined)
          throw error
        }
      },
      abort: async () => await this.#retry(async () => await writer.abort()),
    }
  }

  async confirmDurable(keys: readonly string[]): Promise<void> {
    await this.#retry(async () => await this.#inner.confirmDurable(keys))
  }

  async remove(key: string): Promise<void> {
    await this.#retry(async () => await this.#inner.remove(key))
  }

  async removeMany(keys: readonly string[]): Promise<void> {
    await this.#retry(async () => await this.#inner.removeMany(keys))
  }

  async removeLeftovers(): Promise<number> {
    return await this.#retry(async () => await this.#inner.removeLeftovers())
  }

  async freeBytes(): Promise<number | undefined> {
    return await this.#retry(async () => await this.#inner.freeBytes())
  }

  get locks(): ObjectLocks | undefined {
    const { locks } = this.#inner
    if (locks === undefined) return undefined
    return {
      days: locks.days,
      lockedUntil: async (key) => await this.#retry(async () => await locks.lockedUntil(key)),
      extend: async (key, until) => await this.#retry(async () => await locks.extend(key, until)),
      prove: async () => await this.#retry(async () => await locks.prove()),
    }
  }

  async close(): Promise<void> {
    await this.#inner.close()
  }

  async #retry<T>(action: () => Promise<T>): Promise<T> {
    const series = new Series(this.#policy)
    for (;;) {
      try {
        return await action()
      } catch (error) {
        await series.pauseAfter(error)
      }
    }
  }
}

/** The attempts of one operation. */
class Series {
  readonly #policy: RetryPolicy
  #startedMs = monotonicMs()
  #attempt = 1

  constructor(policy: RetryPolicy) {
    this.#policy = policy
  }

  /** A listing that has come further begins a new series. */
  restart(): void {
    this.#attempt = 1
    this.#startedMs = monotonicMs()
  }

  /** Fulfilled when the next attempt is due; throws when there is none. */
  async pauseAfter(error: unknown): Promise<void> {
    if (!isFailure(error, 'TM1509')) throw error
    const { attempts, patienceMs } = this.#policy
    const isLate = monotonicMs() - this.#startedMs >= patienceMs
    if (this.#attempt >= attempts || isLate) throw this.#givenUp(error)
    this.#attempt += 1
    const asked = Number(error.details?.['retryAfterMs'] ?? 0)
    await sleep(choosePauseMs(this.#policy, this.#attempt, asked, randomUpTo))
  }

  #givenUp(failure: Failure): Failure {
    const seconds = ((monotonicMs() - this.#startedMs) / 1000).toFixed(1)
    return new Failure(failure.code, {
      message: failure.message,
      because: `${failure.because ?? 'no answer'}; tried ${this.#attempt} times in ${seconds} s`,
      fix: failure.fix,
      details: { ...failure.details, attempts: this.#attempt },
      cause: failure,
    })
  }
}
