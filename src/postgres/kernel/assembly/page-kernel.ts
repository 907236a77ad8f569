/**
 * The page kernel: what must be fast over 8 KiB pages, as WebAssembly with SIMD.
 *
 * Responsible for arithmetic only. Every pointer is given by the caller (page-kernel.ts
 * lays the memory out), nothing is allocated, no page is ever written to. The plain
 * implementation that this one must equal bit by bit is page-reference.ts.
 *
 * Page layout (PostgreSQL, storage/bufpage.h, PageHeaderData):
 *   0 pd_lsn (8) | 8 pd_checksum (2) | 10 pd_flags (2) | 12 pd_lower (2) | 14 pd_upper (2)
 */

const PAGE_BYTES: usize = 8192

// Flags of a page; page-kernel.ts names the same bits.
const FLAG_ZERO: u8 = 1
const FLAG_NEW: u8 = 2
const FLAG_BAD_CHECKSUM: u8 = 4
const FLAG_UNCHANGED: u8 = 8

// XXH64, seed 0.
const X1: u64 = 0x9e3779b185ebca87
const X2: u64 = 0xc2b2ae3d27d4eb4f
const X3: u64 = 0x165667b19e3779f9
const X4: u64 = 0x85ebca77c2b2ae63

/** XXH64 of 8192 zero bytes; a page with this fingerprint is looked at again to be sure. */
const ZERO_PAGE_FINGERPRINT: u64 = 0x02b5073505a48fb4

@inline function round(lane: u64, word: u64): u64 {
  return rotl<u64>(lane + word * X2, 31) * X1
}

@inline function merge(hash: u64, lane: u64): u64 {
  return (hash ^ round(0, lane)) * X1 + X4
}

@inline function finish(a: u64, b: u64, c: u64, d: u64): u64 {
  let hash = rotl<u64>(a, 1) + rotl<u64>(b, 7) + rotl<u64>(c, 12) + rotl<u64>(d, 18)
  hash = merge(hash, a)
  hash = merge(hash, b)
  hash = merge(hash, c)
  hash = merge(hash, d)
  hash += PAGE_BYTES
  hash = (hash ^ (hash >> 33)) * X2
  hash = (hash ^ (hash >> 29)) * X3
  return hash ^ (hash >> 32)
}

function fingerprintOf(page: usize): u64 {
  let a: u64 = X1 + X2
  let b: u64 = X2
  let c: u64 = 0
  let d: u64 = 0 - X1
  const end = page + PAGE_BYTES
  for (let at = page; at < end; at += 32) {
    a = round(a, load<u64>(at))
    b = round(b, load<u64>(at, 8))
    c = round(c, load<u64>(at, 16))
    d = round(d, load<u64>(at, 24))
  }
  return finish(a, b, c, d)
}

function isZeroPage(page: usize): bool {
  const end = page + PAGE_BYTES
  for (let at = page; at < end; at += 64) {
    const left = v128.or(v128.load(at), v128.load(at, 16))
    const right = v128.or(v128.load(at, 32), v128.load(at, 48))
    if (v128.any_true(v128.or(left, right))) return false
  }
  return true
}

/** One step of PostgreSQL's FNV-1a variant (checksum_impl.h, CHECKSUM_COMP), four sums at once. */
@inline function sum(state: v128, words: v128, prime: v128): v128 {
  const mixed = v128.xor(state, words)
  return v128.xor(i32x4.mul(mixed, prime), i32x4.shr_u(mixed, 17))
}

@inline function fold(state: v128, prime: v128): v128 {
  const zero = i64x2.splat(0)
  return sum(sum(state, zero, prime), zero, prime)
}

@inline function xorLanes(state: v128): u32 {
  return (
    i32x4.extract_lane(state, 0) ^
    i32x4.extract_lane(state, 1) ^
    i32x4.extract_lane(state, 2) ^
    i32x4.extract_lane(state, 3)
  )
}

/**
 * Checksum and fingerprint in one walk over the page: the scalar multiplications of XXH64
 * and the vector ones of the checksum run on different units, so the second costs little.
 * Writes the fingerprint to `out` and returns the checksum (pg_checksum_page).
 */
function checksumAndFingerprint(page: usize, block: u32, out: usize): u32 {
  const prime = i32x4.splat(16777619)
  let s0 = i32x4(0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a)
  let s1 = i32x4(0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c)
  let s2 = i32x4(0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa)
  let s3 = i32x4(0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb)
  let s4 = i32x4(0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de)
  let s5 = i32x4(0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4)
  let s6 = i32x4(0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e)
  let s7 = i32x4(0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756)
  let a: u64 = X1 + X2
  let b: u64 = X2
  let c: u64 = 0
  let d: u64 = 0 - X1
  // The checksum counts pd_checksum (bytes 8 and 9) as zero; the fingerprint does not.
  let mask = i32x4(-1, -1, 0xffff0000, -1)
  const all = i32x4.splat(-1)
  const end = page + PAGE_BYTES
  for (let at = page; at < end; at += 128) {
    s0 = sum(s0, v128.and(v128.load(at), mask), prime)
    mask = all
    a = round(a, load<u64>(at))
    b = round(b, load<u64>(at, 8))
    s1 = sum(s1, v128.load(at, 16), prime)
    c = round(c, load<u64>(at, 16))
    d = round(d, load<u64>(at, 24))
    s2 = sum(s2, v128.load(at, 32), prime)
    a = round(a, load<u64>(at, 32))
    b = round(b, load<u64>(at, 40))
    s3 = sum(s3, v128.load(at, 48), prime)
    c = round(c, load<u64>(at, 48))
    d = round(d, load<u64>(at, 56))
    s4 = sum(s4, v128.load(at, 64), prime)
    a = round(a, load<u64>(at, 64))
    b = round(b, load<u64>(at, 72))
    s5 = sum(s5, v128.load(at, 80), prime)
    c = round(c, load<u64>(at, 80))
    d = round(d, load<u64>(at, 88))
    s6 = sum(s6, v128.load(at, 96), prime)
    a = round(a, load<u64>(at, 96))
    b = round(b, load<u64>(at, 104))
    s7 = sum(s7, v128.load(at, 112), prime)
    c = round(c, load<u64>(at, 112))
    d = round(d, load<u64>(at, 120))
  }
  store<u64>(out, finish(a, b, c, d))
  const left = v128.xor(
    v128.xor(fold(s0, prime), fold(s1, prime)),
    v128.xor(fold(s2, prime), fold(s3, prime)),
  )
  const right = v128.xor(
    v128.xor(fold(s4, prime), fold(s5, prime)),
    v128.xor(fold(s6, prime), fold(s7, prime)),
  )
  return ((xorLanes(v128.xor(left, right)) ^ block) % 65535) + 1
}

function checksumOf(page: usize, block: u32): u32 {
  const prime = i32x4.splat(16777619)
  let s0 = i32x4(0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a)
  let s1 = i32x4(0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c)
  let s2 = i32x4(0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa)
  let s3 = i32x4(0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb)
  let s4 = i32x4(0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de)
  let s5 = i32x4(0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4)
  let s6 = i32x4(0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e)
  let s7 = i32x4(0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756)
  let mask = i32x4(-1, -1, 0xffff0000, -1)
  const all = i32x4.splat(-1)
  const end = page + PAGE_BYTES
  for (let at = page; at < end; at += 128) {
    s0 = sum(s0, v128.and(v128.load(at), mask), prime)
    mask = all
    s1 = sum(s1, v128.load(at, 16), prime)
    s2 = sum(s2, v128.load(at, 32), prime)
    s3 = sum(s3, v128.load(at, 48), prime)
    s4 = sum(s4, v128.load(at, 64), prime)
    s5 = sum(s5, v128.load(at, 80), prime)
    s6 = sum(s6, v128.load(at, 96), prime)
    s7 = sum(s7, v128.load(at, 112), prime)
  }
  const left = v128.xor(
    v128.xor(fold(s0, prime), fold(s1, prime)),
    v128.xor(fold(s2, prime), fold(s3, prime)),
  )
  const right = v128.xor(
    v128.xor(fold(s4, prime), fold(s5, prime)),
    v128.xor(fold(s6, prime), fold(s7, prime)),
  )
  return ((xorLanes(v128.xor(left, right)) ^ block) % 65535) + 1
}

@inline function isNewPage(page: usize): bool {
  return load<u16>(page, 14) == 0
}

/** Writes the block numbers whose checksum is wrong to `out` (u32 each); returns how many. */
export function verifyChecksums(page: usize, pages: u32, firstBlock: u32, out: usize): u32 {
  let bad: u32 = 0
  for (let n: u32 = 0; n < pages; n++, page += PAGE_BYTES) {
    if (isNewPage(page)) continue
    if (<u32>load<u16>(page, 8) == checksumOf(page, firstBlock + n)) continue
    store<u32>(out + (<usize>bad << 2), firstBlock + n)
    bad++
  }
  return bad
}

export function fingerprintPages(page: usize, pages: u32, out: usize): void {
  for (let n: u32 = 0; n < pages; n++, page += PAGE_BYTES) {
    store<u64>(out + (<usize>n << 3), fingerprintOf(page))
  }
}

/** One bit per page, lowest bit of the first byte first; returns how many pages are zero. */
export function zeroPages(page: usize, pages: u32, out: usize): u32 {
  let zeros: u32 = 0
  memory.fill(out, 0, (pages + 7) >> 3)
  for (let n: u32 = 0; n < pages; n++, page += PAGE_BYTES) {
    if (!isZeroPage(page)) continue
    const at = out + (n >> 3)
    store<u8>(at, load<u8>(at) | <u8>(<u32>1 << (n & 7)))
    zeros++
  }
  return zeros
}

/**
 * Fingerprint and flags of every page in one walk. `base` holds `basePages` fingerprints
 * to compare with. Returns the union of all flags.
 */
export function scanPages(
  page: usize,
  pages: u32,
  firstBlock: u32,
  checksums: bool,
  base: usize,
  basePages: u32,
  fingerprints: usize,
  flags: usize,
): u32 {
  let union: u8 = 0
  for (let n: u32 = 0; n < pages; n++, page += PAGE_BYTES) {
    const out = fingerprints + (<usize>n << 3)
    let flag: u8 = isNewPage(page) ? FLAG_NEW : 0
    if (checksums && flag == 0) {
      const checksum = checksumAndFingerprint(page, firstBlock + n, out)
      if (checksum != <u32>load<u16>(page, 8)) flag = FLAG_BAD_CHECKSUM
    } else {
      store<u64>(out, fingerprintOf(page))
    }
    const fingerprint = load<u64>(out)
    if (fingerprint == ZERO_PAGE_FINGERPRINT && isZeroPage(page)) flag |= FLAG_ZERO
    if (n < basePages && load<u64>(base + (<usize>n << 3)) == fingerprint) flag |= FLAG_UNCHANGED
    store<u8>(flags + n, flag)
    union |= flag
  }
  return union
}

export { foldCrc32c } from './fold-crc32c'
