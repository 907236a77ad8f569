/**
 * The blocks of each relation fork that records name. Blocks are noted as they come, and made a
 * set at the end: sorting an array of numbers is quicker than a hash set of them.
 */
const FORKS = 4

class Blocks {
  values = new Uint32Array(16)
  size = 0

  add(block: number): void {
    if (this.size > 0 && this.values[this.size - 1] === block) return
    if (this.size === this.values.length) {
      const larger = new Uint32Array(2 * this.size)
      larger.set(this.values)
      this.values = larger
    }
    this.values[this.size++] = block
  }

  /** Ascending, each once. */
  distinct(): Uint32Array {
    const sorted = this.values.slice(0, this.size).sort()
    let count = 0
    for (let index = 0; index < sorted.length; index++) {
      const isNew = index === 0 || sorted[index] !== sorted[index - 1]
      if (isNew) sorted[count++] = sorted[index] as number
    }
    return sorted.subarray(0, count)
  }
}

export class PageSets {
  readonly #sets: (Blocks | undefined)[] = []

  /** `relation`: its number in the RelationTable. */
  add(relation: number, fork: number, block: number): void {
    const key = relation * FORKS + fork
    let blocks = this.#sets[key]
    if (blocks === undefined) {
      while (this.#sets.length < key) this.#sets.push(undefined)
      blocks = new Blocks()
      this.#sets[key] = blocks
    }
    blocks.add(block)
  }

  *forks(): Generator<{ relation: number; fork: number; blocks: Uint32Array }> {
    for (const [key, blocks] of this.#sets.entries()) {
      if (blocks === undefined) continue
      yield { relation: Math.floor(key / FORKS), fork: key % FORKS, blocks: blocks.distinct() }
    }
  }
}
