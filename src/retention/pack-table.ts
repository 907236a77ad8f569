/**
 * The packs of a cluster, numbered, and sets of them as bits: five hundred records that each
 * name a hundred thousand packs stay small.
 */
export class PackTable {
  readonly #numbers = new Map<string, number>()
  readonly #ids: string[] = []
  readonly #sizes: (number | undefined)[] = []

  /** Of any pack that is named or stored. */
  numberOf(id: string): number {
    const known = this.#numbers.get(id)
    if (known !== undefined) return known
    const number = this.#ids.length
    this.#numbers.set(id, number)
    this.#ids.push(id)
    this.#sizes.push(undefined)
    return number
  }

  /** Notes that the repository holds it. */
  addStored(id: string, sizeBytes: number): void {
    this.#sizes[this.numberOf(id)] = sizeBytes
  }

  /** What the repository holds, with its numbers. */
  *stored(): Generator<StoredPack> {
    for (const [number, id] of this.#ids.entries()) {
      const sizeBytes = this.#sizes[number]
      if (sizeBytes !== undefined) yield { number, id, sizeBytes }
    }
  }
}

export interface StoredPack {
  readonly number: number
  readonly id: string
  readonly sizeBytes: number
}

export class PackSet {
  #bits = new Uint8Array(0)

  add(number: number): void {
    const at = number >> 3
    if (at >= this.#bits.length) this.#grow(at + 1)
    this.#bits[at] = (this.#bits[at] as number) | (1 << (number & 7))
  }

  has(number: number): boolean {
    return (((this.#bits[number >> 3] ?? 0) >> (number & 7)) & 1) === 1
  }

  addAll(other: PackSet): void {
    if (other.#bits.length > this.#bits.length) this.#grow(other.#bits.length)
    for (const [at, bits] of other.#bits.entries()) {
      this.#bits[at] = (this.#bits[at] as number) | bits
    }
  }

  isWithin(other: PackSet): boolean {
    return this.#bits.every((bits, at) => (bits & ~(other.#bits[at] ?? 0)) === 0)
  }

  #grow(bytes: number): void {
    const grown = new Uint8Array(Math.max(bytes, this.#bits.length * 2))
    grown.set(this.#bits)
    this.#bits = grown
  }
}
