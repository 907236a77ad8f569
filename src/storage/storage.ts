/**
 * The one interface of every storage driver and wrapper. Objects are immutable blobs
 * named by keys (`a/b/c`: segments of [A-Za-z0-9._-], no empty one, none that starts
 * with a dot). A key appears whole or not at all, and only when its bytes are durable.
 *
 * Failures: TM1501 (refused for good), TM1506 (full), TM1502 (`createOnly` met another),
 * TM1507 (the repository itself is not there, for example unmounted), TM1509 (an object store
 * did not answer: the one failure that is worth another attempt), TM1510 and TM1511 (its
 * credentials or its address are wrong), TM1513 and TM1514 (object lock).
 * A missing object is `undefined`, never an exception; anything else that keeps a driver
 * from knowing is a failure, so `undefined` always means a proved absence.
 *
 * The object `tidemark.repository` comes first: drivers that can lose their root refuse
 * every other write, and every answer "absent", while it is not there.
 */
export interface Storage {
  /** For people: `file:///var/lib/tidemark`. Never holds a secret. */
  readonly url: string

  /** Objects are encrypted below (sealed-storage.ts). Wrappers hand it on. */
  readonly isSealed?: boolean

  /** Sealed storages: the object as it lies below the seal, proved by nothing. */
  readStored?(key: string): Promise<Uint8Array | undefined>

  /** The whole object; TM1601 when it is sealed and its seal does not hold. */
  read(key: string): Promise<Uint8Array | undefined>

  /**
   * `length` bytes from `offset`; fewer where the object ends before. `into`, of at least
   * `length` bytes, may be where they are put: a reader of much spares the memory.
   */
  readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined>

  /** Stored size in bytes. */
  size(key: string): Promise<number | undefined>

  /**
   * All objects whose key starts with `prefix`, in key order; with `after`, which must start
   * with the prefix too, only those behind it: what is left out is not asked for either.
   */
  list(prefix: string, after?: string): AsyncIterable<StoredObject>

  /**
   * The keys of list(), in portions: where nobody needs sizes, for which a directory is asked
   * object by object.
   */
  listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]>

  /**
   * Stores one object, durable when the promise is fulfilled. `createOnly`: fails with
   * TM1502 when the key exists (exactly one of several concurrent creators wins).
   */
  write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void>

  /** Begins a large object that is written in pieces and appears on commit(). */
  openWriter(key: string): Promise<ObjectWriter>

  /**
   * Begins a journal (journal.ts): an object that grows under its key, which ends in
   * `.journal`. `head` is the payload of its first chunk; durable when fulfilled. TM1502 when
   * the key is there. Only where a storage can append durably; wrappers hand it on. It is read
   * as any object; of a sealed one come the plain chunks.
   */
  readonly openJournal?: OpenJournal | undefined

  /**
   * Makes sure that objects seen here, which another process may be writing, would survive
   * a crash now. Whoever acknowledges something because an object *is already there* calls
   * this first, or has met TM1502 on it, which says the same.
   */
  confirmDurable(keys: readonly string[]): Promise<void>

  /** Idempotent: removing what is not there is no failure. Durable when fulfilled. */
  remove(key: string): Promise<void>

  /** As remove() of each, in any order; some may be gone when it fails. */
  removeMany(keys: readonly string[]): Promise<void>

  /** Removes what interrupted writers of dead processes left behind; returns how many. */
  removeLeftovers(): Promise<number>

  /** Free bytes for new objects, or undefined where a store has no such bound. */
  freeBytes(): Promise<number | undefined>

  /** Where objects are locked against removal: on S3 stores, when the configuration says so. */
  readonly locks?: ObjectLocks | undefined

  close(): Promise<void>
}

/**
 * Object lock. What a restore needs is created locked for some days; remove() and removeMany()
 * fail with TM1513 for what is still locked, after they have removed all the rest.
 */
export interface ObjectLocks {
  readonly days: number
  /** Undefined: the object is not there, or not locked. */
  lockedUntil(key: string): Promise<Date | undefined>
  /** Locks an object at least until then, and sees that it is so; TM1514 where it cannot be. */
  extend(key: string, until: Date): Promise<void>
  /** Tries it with an object of its own; TM1514 unless locks hold here. */
  prove(): Promise<void>
}

export interface StoredObject {
  readonly key: string
  readonly sizeBytes: number
}

/** For a driver or wrapper that has nothing cheaper than its listings. */
export async function* keysOfListing(
  listing: AsyncIterable<StoredObject>,
): AsyncGenerator<readonly string[]> {
  for await (const { key } of listing) yield [key]
}

export interface WriteOptions {
  readonly createOnly?: boolean
  /**
   * The same for every attempt of one write: a creation whose acknowledgement was lost is
   * recognised by it, so that the winner of a race does not believe that it lost.
   */
  readonly writeId?: string
}

export type OpenJournal = (key: string, head: Uint8Array) => Promise<Journal>

/**
 * append() adds one chunk; it blocks the thread, and the chunk is durable when it returns. One that
 * failed has ended the journal: the next chunk belongs into a new one. TM1440: somebody has
 * removed the object, and what was appended since is nowhere.
 */
export interface Journal {
  append(payload: readonly Uint8Array[]): void
  /** Lets go; what was appended stays. */
  close(): Promise<void>
}

/**
 * append() takes the bytes before it returns (the caller may reuse its buffers) and may
 * block the thread: it is called from worker threads. Nothing is visible before
 * commit() is fulfilled; abort() leaves nothing. A commit() that failed ended the writer,
 * except with TM1509: then it may be called again, and abort() is due when it is not.
 */
export interface ObjectWriter {
  append(pieces: readonly Uint8Array[]): void
  commit(): Promise<void>
  abort(): Promise<void>
}
