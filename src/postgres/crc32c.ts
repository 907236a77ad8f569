/**
 * CRC-32C (Castagnoli), the checksum of PostgreSQL's WAL records, control file and
 * manifests (pg_crc32c). Plain JavaScript for small things, the algebra of concatenation,
 * and the tables with which the page kernel goes faster.
 *
 * A CRC is handed around finished (inverted at both ends, INIT_CRC32C … FIN_CRC32C), so
 * crc32c(b, crc32c(a)) is the CRC of a followed by b, and the CRC of nothing is 0.
 *
 * Registers and polynomials are reflected: bit 31 is x^0, bit 30 is x^1, and so on.
 */
const POLYNOMIAL = 0x82f63b78
const ONE = 0x80000000

/** TABLE[byte]: the register after that byte, from an empty register. */
const TABLE = buildTable()

function buildTable(): Uint32Array {
  const table = new Uint32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    let register = byte
    for (let bit = 0; bit < 8; bit++) register = timesX(register)
    table[byte] = register
  }
  return table
}

function timesX(register: number): number {
  return (register & 1) === 0 ? register >>> 1 : ((register >>> 1) ^ POLYNOMIAL) >>> 0
}

/** The CRC of `bytes`, continuing from `seed`, the CRC of what came before. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  return ~advanceRegister(~seed, bytes) >>> 0
}

/** The raw register after `bytes`, without the inversions. */
export function advanceRegister(register: number, bytes: Uint8Array): number {
  let state = register
  for (let at = 0; at < bytes.length; at++) {
    state = (TABLE[(state ^ (bytes[at] as number)) & 0xff] as number) ^ (state >>> 8)
  }
  return state >>> 0
}

/** The CRC of A followed by B, from theirs and the length of B in bytes. */
export function combineCrc32c(crcA: number, crcB: number, lengthB: number): number {
  return (multiply(crcA, byteShift(lengthB)) ^ crcB) >>> 0
}

/** The CRC of `length` zero bytes, without walking them. */
export function crc32cOfZeros(length: number): number {
  return ~multiply(0xffffffff, byteShift(length)) >>> 0
}

/** Product of two polynomials modulo the generator. */
function multiply(a: number, b: number): number {
  let product = 0
  let term = b
  for (let mask = ONE; mask !== 0; mask >>>= 1) {
    if ((a & mask) !== 0) product ^= term
    term = timesX(term)
  }
  return product >>> 0
}

/** x^(8 * bytes): what appending that many zero bytes multiplies a register with. */
function byteShift(bytes: number): number {
  let result = ONE
  let square = ONE >>> 8
  for (let left = bytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) result = multiply(result, square)
    square = multiply(square, square)
  }
  return result
}

/**
 * Tables for folding blocks of 128 bytes. A block is two groups of 16 lanes; the lanes of
 * the first group are bytes 0–15, of the second bytes 16–31, and each lane has four bytes,
 * 32 apart: its planes. Appending the next block multiplies the folded one by x^1024, and
 * what becomes of a lane's four bytes can again be written as four bytes of that lane,
 * because the 32 values (one bit of one plane, followed by 96, 64, 32 or 0 bytes) are a
 * basis of all registers. (With planes 16 bytes apart they are not.) So each plane's byte
 * maps linearly to one byte in each plane, equally in all lanes, and that is two look-ups
 * of a nibble, which SIMD does for 16 lanes at once.
 *
 * Layout, 512 bytes: [source plane 4][target plane 4][low nibble 16, high nibble 16].
 */
export const FOLD_BLOCK_BYTES = 128
const FOLD_TABLE_BYTES = 512
const PLANE_BYTES = 32

export function buildFoldTables(): Uint8Array {
  const toPlanes = invertPlaneBasis()
  const tables = new Uint8Array(FOLD_TABLE_BYTES)
  for (let source = 0; source < 4; source++) {
    const shift = byteShift((3 - source) * PLANE_BYTES + FOLD_BLOCK_BYTES)
    for (let nibble = 0; nibble < 32; nibble++) {
      const byte = nibble < 16 ? nibble : (nibble - 16) << 4
      const planes = toPlanes(multiply(TABLE[byte] as number, shift))
      for (let target = 0; target < 4; target++) {
        tables[source * 128 + target * 32 + nibble] = (planes >>> (8 * target)) & 0xff
      }
    }
  }
  return tables
}

/** A function from a register to the four plane bytes that make it (plane 0 lowest). */
function invertPlaneBasis(): (register: number) => number {
  // Gauss-Jordan over GF(2): pairs (register, planes), reduced until each pivot bit of the
  // register is in one pair only.
  const pairs = Array.from({ length: 32 }, (_, bit) => {
    const behind = (3 - (bit >> 3)) * PLANE_BYTES
    const register = multiply(TABLE[1 << (bit % 8)] as number, byteShift(behind))
    return { register, planes: (1 << bit) >>> 0 }
  })
  for (let bit = 0; bit < 32; bit++) {
    const mask = (1 << bit) >>> 0
    const found = pairs.findIndex((pair, at) => at >= bit && (pair.register & mask) !== 0)
    const pivot = pairs[found]
    if (pivot === undefined) throw new Error('the planes are no basis of CRC-32C registers')
    pairs[found] = pairs[bit] as typeof pivot
    pairs[bit] = pivot
    for (const pair of pairs) {
      if (pair === pivot || (pair.register & mask) === 0) continue
      pair.register ^= pivot.register
      pair.planes ^= pivot.planes
    }
  }
  return (register) =>
    pairs.reduce((planes, pair, bit) => ((register >>> bit) & 1 ? planes ^ pair.planes : planes), 0)
}
