/** The seals of the objects that were read last, so that not each range costs a header. */
import type { ObjectSeal } from './sealed-format.ts'

const MOST_KEPT = 512

export class HeaderMemory {
  readonly #seals = new Map<string, ObjectSeal>()

  recall(key: string): ObjectSeal | undefined {
    const seal = this.#seals.get(key)
    if (seal === undefined) return undefined
    // The order of a Map is that of insertion: what was used stands last.
    this.#seals.delete(key)
    this.#seals.set(key, seal)
    return seal
  }

  remember(key: string, seal: ObjectSeal): void {
    this.#seals.set(key, seal)
    if (this.#seals.size <= MOST_KEPT) return
    for (const oldest of this.#seals.keys()) {
      this.#seals.delete(oldest)
      return
    }
  }

  forget(key: string): void {
    this.#seals.delete(key)
  }
}
