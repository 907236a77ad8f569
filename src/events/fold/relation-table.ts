/**
 * Numbers for file nodes, by hashing: asked for every row that the WAL changes. Numbers are given
 * in the order of first appearance.
 */
export class RelationTable {
  tablespaces = new Uint32Array(64)
  databases = new Uint32Array(64)
  numbers = new Uint32Array(64)
  toast = new Uint8Array(64)
  size = 0
  #slots = new Int32Array(256).fill(-1)
  #lastFound = -1

  number(tablespace: number, database: number, relation: number): number {
    const last = this.#lastFound
    if (last >= 0 && this.#is(last, tablespace, database, relation)) return last
    const mask = this.#slots.length - 1
    let slot = hash(tablespace, database, relation) & mask
    for (;;) {
      const found = this.#slots[slot] as number
      if (found < 0) break
      if (this.#is(found, tablespace, database, relation)) {
        this.#lastFound = found
        return found
      }
      slot = (slot + 1) & mask
    }
    this.#slots[slot] = this.size
    return this.#add(tablespace, database, relation)
  }

  #is(index: number, tablespace: number, database: number, relation: number): boolean {
    return (
      this.numbers[index] === relation &&
      this.databases[index] === database &&
      this.tablespaces[index] === tablespace
    )
  }

  #add(tablespace: number, database: number, relation: number): number {
    if (this.size === this.numbers.length) this.#grow()
    const index = this.size++
    this.tablespaces[index] = tablespace
    this.databases[index] = database
    this.numbers[index] = relation
    this.#lastFound = index
    if (2 * this.size > this.#slots.length) this.#rehash()
    return index
  }

  #grow(): void {
    const room = 2 * this.size
    this.tablespaces = enlarge(this.tablespaces, new Uint32Array(room))
    this.databases = enlarge(this.databases, new Uint32Array(room))
    this.numbers = enlarge(this.numbers, new Uint32Array(room))
    this.toast = enlarge(this.toast, new Uint8Array(room))
  }

  #rehash(): void {
    const slots = new Int32Array(4 * this.#slots.length).fill(-1)
    const mask = slots.length - 1
    for (let index = 0; index < this.size; index++) {
      const { tablespaces, databases, numbers } = this
      let slot =
        hash(tablespaces[index] as number, databases[index] as number, numbers[index] as number) &
        mask
      while ((slots[slot] as number) >= 0) slot = (slot + 1) & mask
      slots[slot] = index
    }
    this.#slots = slots
  }
}

function enlarge<T extends Uint32Array | Uint8Array>(from: T, into: T): T {
  into.set(from)
  return into
}

function hash(tablespace: number, database: number, relation: number): number {
  const mixed =
    Math.imul(relation, 0x9e3779b1) ^
    Math.imul(database, 0x85ebca6b) ^
    Math.imul(tablespace, 0xc2b2ae35)
  return mixed ^ (mixed >>> 15)
}
