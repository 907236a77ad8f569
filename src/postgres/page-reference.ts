/**
 * The page kernel in plain TypeScript: slow, readable, and the truth that the kernel is
 * tested against. PostgreSQL: storage/checksum_impl.h (pg_checksum_page), bufpage.h
 * (PageIsNew). XXH64: the specification of xxHash.
 */
export const PAGE_BYTES = 8192

const PD_CHECKSUM = 8
const PD_UPPER = 14

/** pd_upper is zero: PostgreSQL never checks the checksum of such a page. */
export function isNewPage(page: Uint8Array): boolean {
  return page[PD_UPPER] === 0 && page[PD_UPPER + 1] === 0
}

export function isZeroPage(page: Uint8Array): boolean {
  return page.every((byte) => byte === 0)
}

function storedChecksum(page: Uint8Array): number {
  return (page[PD_CHECKSUM] as number) | ((page[PD_CHECKSUM + 1] as number) << 8)
}

/** New pages count as right, as in PageIsVerified. */
export function hasBadChecksum(page: Uint8Array, block: number): boolean {
  return !isNewPage(page) && pageChecksum(page, block) !== storedChecksum(page)
}

const FNV_PRIME = 16777619

/** Start values of the 32 parallel sums (checksumBaseOffsets). */
const SUM_OFFSETS = Uint32Array.of(
  0x5b1f36e9,
  0xb8525960,
  0x02ab50aa,
  0x1de66d2a,
  0x79ff467a,
  0x9bb9f8a3,
  0x217e7cd2,
  0x83e13d2c,
  0xf8d4474f,
  0xe39eb970,
  0x42c6ae16,
  0x993216fa,
  0x7b093b5d,
  0x98daff3c,
  0xf718902a,
  0x0b1c9cdb,
  0xe58f764b,
  0x187636bc,
  0x5d7b3bb1,
  0xe73de7de,
  0x92bec979,
  0xcca6c0b2,
  0x304a0979,
  0x85aa43d4,
  0x783125bb,
  0x6ca8eaa2,
  0xe407eac6,
  0x4b5cfc3e,
  0x9fbf8c76,
  0x15ca20be,
  0xf2ca9fd3,
  0x959bd756,
)

/** What pd_checksum should be for this page at this block of its relation fork. */
export function pageChecksum(page: Uint8Array, block: number): number {
  const words = new DataView(page.buffer, page.byteOffset, PAGE_BYTES)
  const sums = SUM_OFFSETS.slice()
  for (let at = 0; at < PAGE_BYTES; at += 4) {
    const column = (at / 4) % 32
    const word = words.getUint32(at, true)
    sums[column] = mix(sums[column] as number, at === PD_CHECKSUM ? word & 0xffff0000 : word)
  }
  const folded = sums.map((sum) => mix(mix(sum, 0), 0))
  const result = folded.reduce((xor, sum) => xor ^ sum, 0)
  return (((result ^ block) >>> 0) % 65535) + 1
}

/** CHECKSUM_COMP. */
function mix(sum: number, word: number): number {
  const mixed = sum ^ word
  return Math.imul(mixed, FNV_PRIME) ^ (mixed >>> 17)
}

const MASK = 0xffffffffffffffffn
const PRIME_1 = 0x9e3779b185ebca87n
const PRIME_2 = 0xc2b2ae3d27d4eb4fn
const PRIME_3 = 0x165667b19e3779f9n
const PRIME_4 = 0x85ebca77c2b2ae63n
const PRIME_5 = 0x27d4eb2f165667c5n

/** XXH64 with seed 0 of bytes of any length; a page's fingerprint is that of all its bytes. */
export function xxh64(bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const stripes = Math.floor(bytes.length / 32) * 32
  const start = stripes === 0 ? PRIME_5 : mergeLanes(sumStripes(view, stripes))
  let hash = (start + BigInt(bytes.length)) & MASK
  let at = stripes
  for (; at + 8 <= bytes.length; at += 8) {
    hash = (rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n) * PRIME_1 + PRIME_4) & MASK
  }
  if (at + 4 <= bytes.length) {
    hash ^= (BigInt(view.getUint32(at, true)) * PRIME_1) & MASK
    hash = (rotate(hash, 23n) * PRIME_2 + PRIME_3) & MASK
    at += 4
  }
  for (; at < bytes.length; at++) {
    hash ^= (BigInt(view.getUint8(at)) * PRIME_5) & MASK
    hash = (rotate(hash, 11n) * PRIME_1) & MASK
  }
  hash = ((hash ^ (hash >> 33n)) * PRIME_2) & MASK
  hash = ((hash ^ (hash >> 29n)) * PRIME_3) & MASK
  return hash ^ (hash >> 32n)
}

type Lanes = [bigint, bigint, bigint, bigint]

function sumStripes(view: DataView, length: number): Lanes {
  const lanes: Lanes = [(PRIME_1 + PRIME_2) & MASK, PRIME_2, 0n, -PRIME_1 & MASK]
  for (let at = 0; at < length; at += 8) {
    const lane = (at / 8) % 4
    lanes[lane] = round(lanes[lane] as bigint, view.getBigUint64(at, true))
  }
  return lanes
}

function mergeLanes(lanes: Lanes): bigint {
  const [a, b, c, d] = lanes
  const sum = (rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)) & MASK
  return lanes.reduce((hash, lane) => ((hash ^ round(0n, lane)) * PRIME_1 + PRIME_4) & MASK, sum)
}

function round(lane: bigint, word: bigint): bigint {
  return (rotate((lane + word * PRIME_2) & MASK, 31n) * PRIME_1) & MASK
}

function rotate(value: bigint, bits: bigint): bigint {
  return ((value << bits) | (value >> (64n - bits))) & MASK
}
