/**
 * Several storages that hold the same objects, read as one: the nearest that has an object
 * gives it, and the next one when it is missing, damaged or out of reach there. Read only.
 *
 * Invariants: `undefined` is answered only when every copy has proved the absence. What one
 * copy failed to give and another gave is told to the listener, never passed over in silence.
 */
import { Failure } from '../base/failure.ts'
import { ForwardingStorage } from './forwarding-storage.ts'
import { compareKeys } from './storage-key.ts'
import { keysOfListing, type ObjectWriter, type Storage, type StoredObject } from './storage.ts'

/** An object, or a listing, that `url` did not give. Plain data: it crosses threads. */
export interface PassedOver {
  readonly url: string
  /** A key, or the prefix of a listing. */
  readonly key: string
  readonly because: string
  /** Who gave it instead. */
  readonly takenFrom: string
}

export type PassedOverListener = (event: PassedOver) => void

/**
 * `any`: what one does not have whole is taken from the next. `away`: only what one cannot say,
 * since it does not answer; what it lacks or has damaged is absent or damaged.
 */
export type FallbackFor = 'any' | 'away'

/** `storages`: nearest first. One alone is returned as it is. */
export function openFallbackStorage(
  storages: readonly Storage[],
  fallbackFor: FallbackFor = 'any',
): Storage {
  const [only] = storages
  if (only === undefined) throw new Error('no storage to read from')
  return storages.length === 1 ? only : new FallbackStorage(storages, only, fallbackFor)
}

/** The storages that are read as one, in the order in which they are asked now. */
export function copiesOf(storage: Storage): readonly Storage[] {
  return storage instanceof FallbackStorage ? storage.copies : [storage]
}

/** It has not answered lately: what is open of it is better opened elsewhere. */
export function isAway(storage: Storage, copy: Storage): boolean {
  return storage instanceof FallbackStorage && storage.isAway(copy)
}

export function listenToFallback(storage: Storage, listener: PassedOverListener): void {
  if (storage instanceof FallbackStorage) storage.listen(listener)
}

/**
 * What `take` makes of the first copy that it does not fail for; undefined when it gives
 * undefined for all of them. A plain storage is a copy alone.
 */
export async function takeFromFirst<T>(
  storage: Storage,
  key: string,
  take: (copy: Storage) => Promise<T | undefined>,
): Promise<T | undefined> {
  if (!(storage instanceof FallbackStorage)) return await take(storage)
  return await storage.takeFromFirst(key, take)
}

/** The first copy of an object that passes `prove`, which throws for one that does not. */
export async function readProved<T>(
  storage: Storage,
  key: string,
  prove: (bytes: Uint8Array) => T,
): Promise<T | undefined> {
  return await takeFromFirst(storage, key, async (copy) => {
    const bytes = await copy.read(key)
    return bytes === undefined ? undefined : prove(bytes)
  })
}

/** The storage as a whole did not answer, or is not there; its objects may be sound. */
function tellsOfAbsence(error: unknown): boolean {
  return ['TM1507', 'TM1509', 'TM1510', 'TM1511'].some((code) => {
    return error instanceof Failure && error.code === code
  })
}

interface Missed {
  readonly copy: Storage
  /** Undefined: it is proved not to be there. */
  readonly failure: Failure | undefined
}

class FallbackStorage extends ForwardingStorage {
  override readonly url: string
  readonly #storages: readonly Storage[]
  readonly #fallbackFor: FallbackFor
  readonly #away = new Set<Storage>()
  #listener: PassedOverListener = () => {}

  constructor(storages: readonly Storage[], nearest: Storage, fallbackFor: FallbackFor) {
    super(nearest)
    this.#storages = storages
    this.#fallbackFor = fallbackFor
    this.url = storages.map(({ url }) => url).join(' and ')
  }

  get copies(): readonly Storage[] {
    const there = this.#storages.filter((storage) => !this.#away.has(storage))
    return [...there, ...this.#storages.filter((storage) => this.#away.has(storage))]
  }

  isAway(copy: Storage): boolean {
    return this.#away.has(copy)
  }

  listen(listener: PassedOverListener): void {
    this.#listener = listener
  }

  async takeFromFirst<T>(
    key: string,
    take: (copy: Storage) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const missed: Missed[] = []
    for (const copy of this.copies) {
      try {
        const taken = await take(copy)
        if (taken !== undefined) {
          this.#tell(missed, key, copy.url)
          return taken
        }
        if (this.#fallbackFor === 'away') return undefined
        missed.push({ copy, failure: undefined })
      } catch (error) {
        if (!(error instanceof Failure)) throw error
        if (tellsOfAbsence(error)) this.#away.add(copy)
        else if (this.#fallbackFor === 'away') throw error
        missed.push({ copy, failure: error })
      }
    }
    const first = missed.find(({ failure }) => failure !== undefined)?.failure
    if (first === undefined) return undefined
    throw inAllOfThem(first, missed)
  }

  #tell(missed: readonly Missed[], key: string, takenFrom: string): void {
    for (const { copy, failure } of missed) {
      this.#listener({ url: copy.url, key, because: reasonOf(failure), takenFrom })
    }
  }

  override async read(key: string): Promise<Uint8Array | undefined> {
    return await this.takeFromFirst(key, async (copy) => await copy.read(key))
  }

  override async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    return await this.takeFromFirst(key, async (copy) => {
      return await copy.readRange(key, offset, length, into)
    })
  }

  override async size(key: string): Promise<number | undefined> {
    return await this.takeFromFirst(key, async (copy) => await copy.size(key))
  }

  /** The keys of all, each once, with the size that the nearest states. */
  override list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    return this.#list(prefix, after)
  }

  override listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return keysOfListing(this.#list(prefix, after))
  }

  /** One that is away is not asked while others answer; that it is left out is told. */
  async *#list(prefix: string, after?: string): AsyncGenerator<StoredObject> {
    const there = this.copies.filter((copy) => !this.#away.has(copy))
    const asked = there.length === 0 ? this.copies : there
    const leftOut = this.copies.filter((copy) => !asked.includes(copy))
    const listings = asked.map((copy) => ({
      copy,
      objects: copy.list(prefix, after)[Symbol.asyncIterator](),
      next: undefined as StoredObject | undefined,
      isAtEnd: false,
      failure: undefined as Failure | undefined,
    }))
    type Listing = (typeof listings)[number]
    const advance = async (listing: Listing): Promise<void> => {
      try {
        const { done, value } = await listing.objects.next()
        listing.isAtEnd = done === true
        listing.next = done === true ? undefined : (value as StoredObject)
      } catch (error) {
        if (!(error instanceof Failure)) throw error
        if (tellsOfAbsence(error)) this.#away.add(listing.copy)
        listing.failure = error
        listing.next = undefined
      }
    }
    await Promise.all(listings.map(advance))
    for (;;) {
      const nearest = nearestKey(listings.flatMap(({ next }) => next ?? []))
      if (nearest === undefined) break
      yield nearest
      await Promise.all(listings.filter(({ next }) => next?.key === nearest.key).map(advance))
    }
    const whole = listings.find(({ isAtEnd }) => isAtEnd)
    const failed = listings.filter(({ failure }) => failure !== undefined)
    if (whole === undefined) {
      const first = failed[0]?.failure as Failure
      throw inAllOfThem(first, failed)
    }
    this.#tell(failed, prefix, whole.copy.url)
    for (const { url } of leftOut) {
      this.#listener({ url, key: prefix, because: NOT_ASKED, takenFrom: whole.copy.url })
    }
  }

  override async write(): Promise<void> {
    throw readOnly()
  }

  override async openWriter(): Promise<ObjectWriter> {
    throw readOnly()
  }

  override async confirmDurable(): Promise<void> {
    throw readOnly()
  }

  override async remove(): Promise<void> {
    throw readOnly()
  }

  override async removeMany(): Promise<void> {
    throw readOnly()
  }

  override async removeLeftovers(): Promise<number> {
    throw readOnly()
  }

  override async freeBytes(): Promise<number | undefined> {
    return undefined
  }

  override async close(): Promise<void> {
    for (const storage of this.#storages) await storage.close()
  }
}

/** The least key; of the same one the first, which is the nearest copy's. */
function nearestKey(objects: readonly StoredObject[]): StoredObject | undefined {
  return objects.reduce<StoredObject | undefined>((least, object) => {
    return least === undefined || compareKeys(object.key, least.key) < 0 ? object : least
  }, undefined)
}

const NOT_ASKED = 'it has not answered before, and what only it has is not seen'

function reasonOf(failure: Failure | undefined): string {
  if (failure === undefined) return 'it is not there'
  return failure.because === undefined ? failure.message : `${failure.message}: ${failure.because}`
}

/** The first failure, with what each of them said. Its code stays: readers decide by it. */
function inAllOfThem(first: Failure, missed: readonly Missed[]): Failure {
  if (missed.length === 1) return first
  const each = missed.map(({ copy, failure }) => {
    const because = failure?.because ?? failure?.message ?? 'it is not there'
    return `in ${copy.url}: ${because}`
  })
  return new Failure(first.code, {
    message: `${first.message}, and no other repository has it whole`,
    because: each.join('; '),
    fix: first.fix,
    ...(first.details === undefined ? {} : { details: first.details }),
    cause: first,
  })
}

function readOnly(): Error {
  return new Error('several storages that are read as one take no writes')
}
