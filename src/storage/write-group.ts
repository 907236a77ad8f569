/**
 * Several storages that take the same objects. One that fails is dropped, by all threads that
 * share the group's memory, and the others go on; unless it is required: then what it failed
 * with is thrown.
 *
 * Invariants: nothing is asked of a member that was dropped but to abort what is open. A
 * failure of the last member is thrown, whoever it is.
 */
import { Failure } from '../base/failure.ts'
import type { ObjectWriter, Storage } from './storage.ts'

export interface GroupMember {
  readonly storage: Storage
  readonly required: boolean
}

/** What writers of large objects need of a storage, or of a group of them. */
export type WriterSource = Pick<Storage, 'openWriter'>

/** The storage as a whole did not answer: what it took cannot be removed now. */
export function isOutOfReach({ code }: Failure): boolean {
  return ['TM1503', 'TM1507', 'TM1509', 'TM1510', 'TM1511'].includes(code)
}

export class WriteGroup implements WriterSource {
  readonly members: readonly GroupMember[]
  /** One Int32 for each member: not 0 once it was dropped. */
  readonly memory: SharedArrayBuffer
  readonly #dropped: Int32Array
  readonly #failures = new Map<number, Failure>()
  readonly #onDrop: (member: number, failure: Failure) => void

  /** `onDrop` hears of what was dropped by this thread. */
  constructor(
    members: readonly GroupMember[],
    onDrop: (member: number, failure: Failure) => void,
    memory = new SharedArrayBuffer(4 * members.length),
  ) {
    this.members = members
    this.memory = memory
    this.#dropped = new Int32Array(memory)
    this.#onDrop = onDrop
  }

  /** The group itself, or its only member: most clusters have one repository. */
  get writers(): WriterSource {
    const [only] = this.members
    return only !== undefined && this.members.length === 1 ? only.storage : this
  }

  isDropped(member: number): boolean {
    return Atomics.load(this.#dropped, member) !== 0
  }

  /** Of those that this thread has dropped: what for. */
  get failures(): ReadonlyMap<number, Failure> {
    return this.#failures
  }

  /** Numbers of the members that were not dropped. */
  living(): number[] {
    return [...this.members.keys()].filter((member) => !this.isDropped(member))
  }

  storageOf(member: number): Storage {
    return (this.members[member] as GroupMember).storage
  }

  /** All living members at once; what each gave, without those that were dropped over it. */
  async gather<T>(
    action: (storage: Storage, member: number) => Promise<T>,
    among: readonly number[] = this.living(),
  ): Promise<Map<number, T>> {
    const gathered = new Map<number, T>()
    const asked = among.filter((member) => !this.isDropped(member))
    await this.#settle(asked, async (member) => {
      gathered.set(member, await action(this.storageOf(member), member))
    })
    return gathered
  }

  /** One member; false when it was dropped over it. */
  async attempt(member: number, action: (storage: Storage) => Promise<void>): Promise<boolean> {
    await this.#settle([member], async () => await action(this.storageOf(member)))
    return !this.isDropped(member)
  }

  /** Members that have failed earlier are asked no more; what is thrown here was no failure. */
  drop(member: number, error: unknown): void {
    if (!(error instanceof Failure)) throw error
    Atomics.store(this.#dropped, member, 1)
    if (!this.#failures.has(member)) this.#failures.set(member, error)
    this.#onDrop(member, error)
    if (this.members[member]?.required === true || this.living().length === 0) throw error
  }

  /** Waits for all before anything is thrown: no call goes on behind a failure. */
  async #settle(members: readonly number[], action: (member: number) => Promise<void>) {
    const outcomes = await Promise.allSettled(members.map(action))
    const errors: unknown[] = []
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome.status === 'fulfilled') continue
      try {
        this.drop(members[index] as number, outcome.reason)
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    const writers = new Map<number, ObjectWriter>()
    try {
      await this.#settle(this.living(), async (member) => {
        writers.set(member, await this.storageOf(member).openWriter(key))
      })
    } catch (error) {
      await Promise.allSettled([...writers.values()].map((writer) => writer.abort()))
      throw error
    }
    return new GroupWriter(this, writers)
  }
}

class GroupWriter implements ObjectWriter {
  readonly #group: WriteGroup
  readonly #writers: Map<number, ObjectWriter>

  constructor(group: WriteGroup, writers: Map<number, ObjectWriter>) {
    this.#group = group
    this.#writers = writers
  }

  append(pieces: readonly Uint8Array[]): void {
    for (const [member, writer] of this.#writers) {
      if (this.#group.isDropped(member)) continue
      try {
        writer.append(pieces)
      } catch (error) {
        this.#group.drop(member, error)
      }
    }
  }

  async commit(): Promise<void> {
    const errors: unknown[] = []
    const commits = [...this.#writers].map(async ([member, writer]) => {
      if (this.#group.isDropped(member)) return await abortQuietly(writer)
      try {
        await writer.commit()
      } catch (error) {
        this.#group.drop(member, error)
      }
    })
    for (const outcome of await Promise.allSettled(commits)) {
      if (outcome.status === 'rejected') errors.push(outcome.reason)
    }
    if (errors.length > 0) throw errors[0]
  }

  async abort(): Promise<void> {
    const aborts = [...this.#writers].map(async ([member, writer]) => {
      if (this.#group.isDropped(member)) return await abortQuietly(writer)
      await writer.abort()
    })
    const outcomes = await Promise.allSettled(aborts)
    const failed = outcomes.find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') throw failed.reason
  }
}

/** What a dropped member still holds is removed by its next run, if not now. */
async function abortQuietly(writer: ObjectWriter): Promise<void> {
  try {
    await writer.abort()
  } catch (error) {
    if (!(error instanceof Failure)) throw error
  }
}
