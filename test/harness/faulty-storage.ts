/**
 * A storage that fails on purpose: at call n with an error, or by "crashing", after which
 * every call fails as if the process were gone. It counts and records calls, so that a
 * simulation can visit every one of them.
 */
import { Failure } from '../../src/base/failure.ts'
import {
  keysOfListing,
  type ObjectWriter,
  type OpenJournal,
  type Storage,
  type StoredObject,
  type WriteOptions,
} from '../../src/storage/storage.ts'

export type StorageOperation =
  | 'read'
  | 'readRange'
  | 'size'
  | 'list'
  | 'write'
  | 'openWriter'
  | 'openJournal'
  | 'append'
  | 'commit'
  | 'abort'
  | 'confirmDurable'
  | 'remove'
  | 'removeLeftovers'
  | 'freeBytes'

export interface StorageCall {
  /** From 1. */
  readonly number: number
  readonly operation: StorageOperation
  /** Key, prefix, or empty. */
  readonly key: string
}

export type Fault =
  | { readonly at: number; readonly kind: 'refused' | 'full' | 'transient' }
  /** `before`: without the call's effect; `after`: with it, but its caller never knows. */
  | { readonly at: number; readonly kind: 'crash'; readonly when: 'before' | 'after' }

/** Stands for the end of the process; nothing may catch it and go on. */
export class CrashError extends Error {
  constructor(call: StorageCall) {
    super(`crashed at call ${call.number}: ${call.operation} ${call.key}`)
    this.name = 'CrashError'
  }
}

export interface FaultyStorage extends Storage {
  readonly trace: readonly StorageCall[]
  readonly crashed: boolean
  /** Adds a fault; `at` counts all calls since the storage was opened. */
  addFault(fault: Fault): void
}

/** What the storages of one process share: when one of them crashes, all have. */
export interface ProcessLife {
  crash?: CrashError
}

export function openFaultyStorage(
  inner: Storage,
  faults: readonly Fault[] = [],
  life: ProcessLife = {},
): FaultyStorage {
  return new FaultInjector(inner, faults, life)
}

class FaultInjector implements FaultyStorage {
  readonly url: string
  readonly trace: StorageCall[] = []
  readonly #inner: Storage
  readonly #faults: Fault[]
  readonly #life: ProcessLife

  constructor(inner: Storage, faults: readonly Fault[], life: ProcessLife) {
    this.#life = life
    this.#inner = inner
    this.url = inner.url
    this.#faults = [...faults]
  }

  get crashed(): boolean {
    return this.#life.crash !== undefined
  }

  addFault(fault: Fault): void {
    this.#faults.push(fault)
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    return await this.#call('read', key, async () => await this.#inner.read(key))
  }

  async readRange(key: string, offset: number, length: number): Promise<Uint8Array | undefined> {
    return await this.#call('readRange', key, async () => {
      return await this.#inner.readRange(key, offset, length)
    })
  }

  async size(key: string): Promise<number | undefined> {
    return await this.#call('size', key, async () => await this.#inner.size(key))
  }

  list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    return this.#list(prefix, this.#inner.list(prefix, after))
  }

  listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return keysOfListing(this.list(prefix, after))
  }

  async *#list(prefix: string, found: AsyncIterable<StoredObject>): AsyncGenerator<StoredObject> {
    const objects = await this.#call('list', prefix, async () => await collect(found))
    for (const object of objects) {
      if (this.#life.crash !== undefined) throw this.#life.crash
      yield object
    }
  }

  async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await this.#call('write', key, async () => await this.#inner.write(key, bytes, options))
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    const writer = await this.#call('openWriter', key, async () => {
      return await this.#inner.openWriter(key)
    })
    return {
      append: (pieces) => this.#callNow('append', key, () => writer.append(pieces)),
      commit: async () => await this.#call('commit', key, async () => await writer.commit()),
      abort: async () => await this.#call('abort', key, async () => await writer.abort()),
    }
  }

  get openJournal(): OpenJournal | undefined {
    const open = this.#inner.openJournal?.bind(this.#inner)
    if (open === undefined) return undefined
    return async (key, head) => {
      const journal = await this.#call('openJournal', key, async () => await open(key, head))
      return {
        append: (payload) => this.#callNow('append', key, () => journal.append(payload)),
        close: async () => await journal.close(),
      }
    }
  }

  async confirmDurable(keys: readonly string[]): Promise<void> {
    await this.#call('confirmDurable', keys[0] ?? '', async () => {
      await this.#inner.confirmDurable(keys)
    })
  }

  async remove(key: string): Promise<void> {
    await this.#call('remove', key, async () => await this.#inner.remove(key))
  }

  /** One call for each: a batch that fails in its middle has removed a part. */
  async removeMany(keys: readonly string[]): Promise<void> {
    for (const key of keys) await this.remove(key)
  }

  async removeLeftovers(): Promise<number> {
    return await this.#call('removeLeftovers', '', async () => {
      return await this.#inner.removeLeftovers()
    })
  }

  async freeBytes(): Promise<number | undefined> {
    return await this.#call('freeBytes', '', async () => await this.#inner.freeBytes())
  }

  async close(): Promise<void> {
    await this.#inner.close()
  }

  async #call<T>(operation: StorageOperation, key: string, act: () => Promise<T>): Promise<T> {
    const call = this.#enter(operation, key)
    try {
      return await act()
    } finally {
      // Also behind a call that was refused: its caller is gone, too.
      this.#leave(call)
    }
  }

  #callNow(operation: StorageOperation, key: string, act: () => void): void {
    const call = this.#enter(operation, key)
    try {
      act()
    } finally {
      this.#leave(call)
    }
  }

  #enter(operation: StorageOperation, key: string): StorageCall {
    if (this.#life.crash !== undefined) throw this.#life.crash
    const call = { number: this.trace.length + 1, operation, key }
    this.trace.push(call)
    for (const fault of this.#faults.filter((each) => each.at === call.number)) {
      if (fault.kind !== 'crash') throw failureOf(fault.kind, call, this.url)
      if (fault.when === 'before') this.#crashAt(call)
    }
    return call
  }

  #leave(call: StorageCall): void {
    if (this.#life.crash !== undefined) throw this.#life.crash
    const after = this.#faults.some(
      (fault) => fault.at === call.number && fault.kind === 'crash' && fault.when === 'after',
    )
    if (after) this.#crashAt(call)
  }

  #crashAt(call: StorageCall): never {
    const crash = new CrashError(call)
    this.#life.crash = crash
    throw crash
  }
}

function failureOf(kind: 'refused' | 'full' | 'transient', call: StorageCall, url: string) {
  const message = `cannot ${call.operation} ${call.key} in ${url}`
  if (kind === 'full') {
    return new Failure('TM1506', {
      message,
      because: 'no space is left on the device, 0 bytes are free',
      fix: 'make room',
      details: { freeBytes: 0 },
    })
  }
  const systemError = kind === 'refused' ? 'EACCES' : 'ETIMEDOUT'
  const because = kind === 'refused' ? 'permission denied' : 'timed out'
  return new Failure('TM1501', { message, because, fix: 'try again', details: { systemError } })
}

/** All that an iteration gives. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

export type Damage =
  | { readonly kind: 'flip-bit'; readonly byte: number; readonly bit?: number }
  | { readonly kind: 'truncate'; readonly sizeBytes: number }
  | { readonly kind: 'delete' }

/** Damages a stored object behind the back of whoever wrote it. */
export async function damageObject(storage: Storage, key: string, damage: Damage): Promise<void> {
  const bytes = await storage.read(key)
  if (bytes === undefined) throw new Error(`nothing to damage: ${key}`)
  switch (damage.kind) {
    case 'delete':
      return await storage.remove(key)
    case 'truncate':
      return await storage.write(key, bytes.subarray(0, damage.sizeBytes))
    case 'flip-bit': {
      const at = damage.byte < 0 ? bytes.length + damage.byte : damage.byte
      if (at >= bytes.length) throw new Error(`${key} has only ${bytes.length} bytes`)
      bytes[at] = (bytes[at] as number) ^ (1 << (damage.bit ?? 0))
      return await storage.write(key, bytes)
    }
  }
}

export interface CrashSimulation {
  /** A storage in the state before the run; called anew for every crash point. */
  prepare(): Promise<Storage>
  run(storage: FaultyStorage): Promise<unknown>
  /** Looks at what a crash at `point` left, through a storage that works again. */
  check(storage: Storage, point: CrashPoint): Promise<void>
  /** Which calls to crash at; all of them unless given. */
  readonly crashAt?: (call: StorageCall) => boolean
}

export interface CrashPoint {
  readonly call: StorageCall | undefined
  readonly when: 'before' | 'after' | 'never'
}

/**
 * Runs once for every call, crashing before and after its effect, and at last without a
 * crash; checks what is left each time. Returns how many crashes were visited.
 */
export async function forEachCrashPoint(simulation: CrashSimulation): Promise<number> {
  let crashes = 0
  const isSkipped = await planSkips(simulation)
  for (const when of ['before', 'after'] as const) {
    for (let at = 1; ; at += 1) {
      if (isSkipped(at)) continue
      const inner = await simulation.prepare()
      const storage = openFaultyStorage(inner, [{ at, kind: 'crash', when }])
      await runUntilCrash(simulation, storage)
      const call = storage.trace[at - 1]
      if (!storage.crashed) break
      if (call !== undefined && simulation.crashAt?.(call) === false) continue
      crashes += 1
      await simulation.check(inner, { call, when })
    }
  }
  const inner = await simulation.prepare()
  await simulation.run(openFaultyStorage(inner))
  await simulation.check(inner, { call: undefined, when: 'never' })
  return crashes
}

/** A run costs as much as its check: which ones are not wanted is known from a first one. */
async function planSkips(simulation: CrashSimulation): Promise<(at: number) => boolean> {
  const { crashAt } = simulation
  if (crashAt === undefined) return () => false
  const storage = openFaultyStorage(await simulation.prepare())
  await simulation.run(storage)
  return (at) => {
    const call = storage.trace[at - 1]
    return call !== undefined && !crashAt(call)
  }
}

/** What a run throws after the crash is not looked at: its process is gone. */
async function runUntilCrash(simulation: CrashSimulation, storage: FaultyStorage): Promise<void> {
  try {
    await simulation.run(storage)
  } catch (error) {
    if (!storage.crashed) throw error
  }
}
