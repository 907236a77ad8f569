/**
 * The repositories that one backup is written to, and what became of it in each.
 *
 * Invariant: a target counts as stored only after its record was created there, and a target
 * that was dropped counts as failed whatever it took before.
 */
import type { Failure } from '../base/failure.ts'
import type { StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { isOutOfReach, WriteGroup } from '../storage/write-group.ts'

export interface BackupTarget {
  /** Of the configuration, for reports. */
  readonly name: string
  readonly storage: Storage
  /** What worker threads open it by. */
  readonly specification: StorageSpecification
  /** When it fails the backup fails; another one is left out. */
  readonly required: boolean
}

/** `behind`: it lacks the backup compared with, and so what that one stored. */
export type TargetOutcome = 'stored' | 'behind' | 'failed'

export interface TargetReport {
  readonly name: string
  readonly url: string
  readonly required: boolean
  readonly outcome: TargetOutcome
  /** Of one that failed. */
  readonly failure?: Failure
}

export class Targets {
  readonly list: readonly BackupTarget[]
  readonly group: WriteGroup
  readonly #failures = new Map<number, Failure>()
  readonly #stored = new Set<number>()

  constructor(list: readonly BackupTarget[]) {
    this.list = list
    this.group = new WriteGroup(list, (target, failure) => this.noteFailure(target, failure))
  }

  /** Threads tell of what they have dropped; the first failure of a target counts. */
  noteFailure(target: number, failure: Failure): void {
    if (!this.#failures.has(target)) this.#failures.set(target, failure)
  }

  noteStored(target: number): void {
    this.#stored.add(target)
  }

  isStored(target: number): boolean {
    return this.#stored.has(target)
  }

  /** Required ones first; those that were dropped are none of them. */
  inOrderOfNeed(): number[] {
    const living = this.group.living()
    const isRequired = (target: number): boolean => this.list[target]?.required === true
    return [...living.filter(isRequired), ...living.filter((target) => !isRequired(target))]
  }

  /** Dropped, and not because nobody answers there: what they took can be removed now. */
  reachableDropped(): number[] {
    const reachable = [...this.#failures].filter(([, failure]) => !isOutOfReach(failure))
    return reachable.map(([target]) => target)
  }

  report(): TargetReport[] {
    return this.list.map(({ name, storage, required }, target) => {
      const failure = this.#failures.get(target)
      const outcome = this.#stored.has(target)
        ? 'stored'
        : this.group.isDropped(target)
          ? 'failed'
          : 'behind'
      const base = { name, url: storage.url, required, outcome } as const
      return failure === undefined ? base : { ...base, failure }
    })
  }
}
