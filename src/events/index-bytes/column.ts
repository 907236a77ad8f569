/**
 * Columns of numbers as LEB128, and sections made of columns (docs/design/event-index.md,
 * section 3). Numbers are safe integers.
 *
 * Invariant: a reader never reads past its column, however damaged the bytes are; it throws
 * RangeError then.
 */

const HIGH = 0x80
const LOW = 0x7f
/** Up to here the bit operators of numbers serve. */
const INT_MAX = 0x7fffffff

export class ColumnWriter {
  #bytes = Buffer.allocUnsafe(1024)
  #length = 0

  u8(value: number): void {
    if (this.#length === this.#bytes.length) this.#grow(1)
    this.#bytes[this.#length++] = value
  }

  /** Unsigned. */
  v(value: number): void {
    if (this.#length + 8 > this.#bytes.length) this.#grow(8)
    let rest = value
    while (rest > INT_MAX) {
      this.#bytes[this.#length++] = (rest % HIGH) + HIGH
      rest = Math.floor(rest / HIGH)
    }
    while (rest >= HIGH) {
      this.#bytes[this.#length++] = (rest & LOW) | HIGH
      rest >>>= 7
    }
    this.#bytes[this.#length++] = rest
  }

  /** Signed. */
  s(value: number): void {
    this.v(value < 0 ? -2 * value - 1 : 2 * value)
  }

  append(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#bytes.length) this.#grow(bytes.length)
    this.#bytes.set(bytes, this.#length)
    this.#length += bytes.length
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  #grow(room: number): void {
    const bytes = Buffer.allocUnsafe(2 * (this.#bytes.length + room))
    this.#bytes.copy(bytes, 0, 0, this.#length)
    this.#bytes = bytes
  }
}

export class ColumnReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length
  }

  u8(): number {
    if (this.#at >= this.#bytes.length) throw new RangeError('end of column')
    return this.#bytes[this.#at++] as number
  }

  v(): number {
    let value = 0
    let scale = 1
    for (;;) {
      const byte = this.u8()
      value += (byte & LOW) * scale
      if (byte < HIGH) break
      scale *= HIGH
    }
    if (value > Number.MAX_SAFE_INTEGER) throw new RangeError('number of a column')
    return value
  }

  s(): number {
    const value = this.v()
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  /** A count of things of at least one byte each that are in this column. */
  count(): number {
    const count = this.v()
    if (count > this.#bytes.length - this.#at) throw new RangeError('count of a column')
    return count
  }

  rest(): Buffer {
    const rest = this.#bytes.subarray(this.#at)
    this.#at = this.#bytes.length
    return rest
  }
}

const COLUMN_HEADER_BYTES = 5

export function joinColumns(columns: ReadonlyMap<number, Uint8Array>): Buffer {
  const pieces: Uint8Array[] = []
  for (const [number, bytes] of columns) {
    const header = Buffer.alloc(COLUMN_HEADER_BYTES)
    header.writeUInt8(number, 0)
    header.writeUInt32LE(bytes.length, 1)
    pieces.push(header, bytes)
  }
  return Buffer.concat(pieces)
}

/** RangeError when they do not add up. */
export function splitColumns(section: Buffer): Map<number, Buffer> {
  const columns = new Map<number, Buffer>()
  for (let at = 0; at < section.length; ) {
    const length = section.readUInt32LE(at + 1)
    const from = at + COLUMN_HEADER_BYTES
    if (length > section.length - from) throw new RangeError('column')
    columns.set(section.readUInt8(at), section.subarray(from, from + length))
    at = from + length
  }
  return columns
}
