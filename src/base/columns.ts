/**
 * Growing columns: what would be an object for each of a million files, in typed arrays. They
 * grow by chunks, so that growing never holds everything twice.
 */

type NumberArray = Uint8Array | Uint16Array | Uint32Array | Float64Array
type BigArray = BigInt64Array | BigUint64Array

const CHUNK_ITEMS = 1 << 14
const ITEM_MASK = CHUNK_ITEMS - 1
const ITEM_BITS = 14

class Column<T extends number | bigint> {
  readonly #make: (length: number) => { [index: number]: T }
  readonly #chunks: { [index: number]: T }[] = []
  #length = 0

  constructor(make: (length: number) => { [index: number]: T }) {
    this.#make = make
  }

  get length(): number {
    return this.#length
  }

  push(value: T): void {
    const at = this.#length & ITEM_MASK
    if (at === 0) this.#chunks.push(this.#make(CHUNK_ITEMS))
    const chunk = this.#chunks[this.#chunks.length - 1] as { [index: number]: T }
    chunk[at] = value
    this.#length++
  }

  /** `index` is below length. */
  get(index: number): T {
    const chunk = this.#chunks[index >> ITEM_BITS] as { [index: number]: T }
    return chunk[index & ITEM_MASK] as T
  }

  /** `index` is below length. */
  set(index: number, value: T): void {
    const chunk = this.#chunks[index >> ITEM_BITS] as { [index: number]: T }
    chunk[index & ITEM_MASK] = value
  }
}

export class NumberColumn extends Column<number> {
  constructor(type: new (length: number) => NumberArray) {
    super((length) => new type(length))
  }
}

export class BigColumn extends Column<bigint> {
  constructor(type: new (length: number) => BigArray) {
    super((length) => new type(length))
  }
}

const CHUNK_BYTES = 1 << 20

/** Byte strings of up to a chunk; where each begins is known by its number. */
export class BytesColumn {
  readonly #chunks: Buffer[] = []
  readonly #chunkOf = new NumberColumn(Uint16Array)
  readonly #startOf = new NumberColumn(Uint32Array)
  readonly #lengthOf = new NumberColumn(Uint32Array)
  #used = 0

  get length(): number {
    return this.#startOf.length
  }

  push(bytes: Uint8Array): void {
    this.#reserve(bytes.length).set(bytes)
  }

  pushText(text: string): void {
    const length = Buffer.byteLength(text)
    this.#reserve(length).write(text, 'utf8')
  }

  /** A view; valid as long as the column is. */
  get(index: number): Buffer {
    const chunk = this.#chunks[this.#chunkOf.get(index)] as Buffer
    const start = this.#startOf.get(index)
    return chunk.subarray(start, start + this.#lengthOf.get(index))
  }

  getText(index: number): string {
    const chunk = this.#chunks[this.#chunkOf.get(index)] as Buffer
    const start = this.#startOf.get(index)
    return chunk.toString('utf8', start, start + this.#lengthOf.get(index))
  }

  #reserve(length: number): Buffer {
    if (length > CHUNK_BYTES) throw new Error(`${length} bytes are too long for a column`)
    if (this.#chunks.length === 0 || this.#used + length > CHUNK_BYTES) {
      this.#chunks.push(Buffer.allocUnsafeSlow(CHUNK_BYTES))
      this.#used = 0
    }
    const start = this.#used
    this.#used += length
    this.#chunkOf.push(this.#chunks.length - 1)
    this.#startOf.push(start)
    this.#lengthOf.push(length)
    return (this.#chunks.at(-1) as Buffer).subarray(start, start + length)
  }
}

/** Texts that occur often, each kept once and named by its number. */
export class TextNumbers {
  readonly #numbers = new Map<string, number>()
  readonly #texts: string[] = []

  numberOf(text: string): number {
    const known = this.#numbers.get(text)
    if (known !== undefined) return known
    const number = this.#texts.push(text) - 1
    this.#numbers.set(text, number)
    return number
  }

  textOf(number: number): string {
    return this.#texts[number] as string
  }
}
