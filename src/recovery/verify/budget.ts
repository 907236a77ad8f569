/** How much one run of verify may read, or how long it may take. At least one object is read. */
import { monotonicMs } from '../../base/clock.ts'

export interface BudgetLimits {
  readonly bytes?: number
  readonly ms?: number
}

export class Budget {
  #bytes: number
  #endsAtMs: number
  #spent = 0

  constructor({ bytes, ms }: BudgetLimits) {
    this.#bytes = bytes ?? Number.POSITIVE_INFINITY
    this.#endsAtMs = ms === undefined ? Number.POSITIVE_INFINITY : monotonicMs() + ms
  }

  /** True once nothing new is to be begun. */
  get isSpent(): boolean {
    if (this.#spent === 0) return false
    return this.#spent >= this.#bytes || monotonicMs() >= this.#endsAtMs
  }

  /** What damage costs is found out, whatever that takes. */
  lift(): void {
    this.#bytes = Number.POSITIVE_INFINITY
    this.#endsAtMs = Number.POSITIVE_INFINITY
  }

  spend(bytes: number): void {
    this.#spent += Math.max(bytes, 1)
  }
}

/** Oldest first, what was never seen before all else; ties in the order given. Pure. */
export function orderByAge<T>(items: readonly T[], seenAt: (item: T) => number | undefined): T[] {
  return items
    .map((item) => ({ item, at: seenAt(item) ?? 0 }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
