/**
 * CRC-32C of long stretches by exclusive or alone. The generator divides a polynomial of six
 * terms, 1 + x^8a + x^8b + x^8c + x^8d + x^8e with the distances below (found by search;
 * wal-walk.test.ts proves the kernel against the plain loop): so a byte may be taken out of a
 * message when it is put, by exclusive or, into the five places that lie so many bytes
 * behind it, and the CRC stays. Done from the front, only a tail is left.
 *
 * The least distance is so large that what is read was written some loads ago and is in the
 * cache: a load that spans two fresh stores waits for both.
 */

const A: usize = 558
const B: usize = 600
const C: usize = 661
const D: usize = 677
const E: usize = 680

/** Zeros before and behind what is thinned; a multiple of 16 from E on. */
export const MARGIN_BYTES: u32 = 688
/** Of the tail at most. */
export const TAIL_BYTES: u32 = MARGIN_BYTES + 16

@inline function sum(at: usize): v128 {
  return v128.xor(
    v128.xor(v128.load(at - A), v128.load(at - B)),
    v128.xor(v128.xor(v128.load(at - C), v128.load(at - D)), v128.load(at - E)),
  )
}

/**
 * Writes to `tail` what has the CRC of `length` bytes at `from` when the register was `seed`
 * before them and is 0 before it; returns its length. `scratch` has MARGIN_BYTES zeros, which
 * stay, and as much room as `length` behind them. `length` is above TAIL_BYTES.
 */
export function thin(seed: u32, from: usize, length: u32, scratch: usize, tail: usize): u32 {
  const thinned = (length - MARGIN_BYTES) & ~15
  const offset = scratch + MARGIN_BYTES - from
  const end = from + thinned
  v128.store(from + offset, v128.xor(v128.load(from), i32x4(seed, 0, 0, 0)))
  let at = from + 16
  for (const last = end - 48; at < last; at += 64) {
    v128.store(at + offset, v128.xor(v128.load(at), sum(at + offset)))
    v128.store(at + offset, v128.xor(v128.load(at, 16), sum(at + offset + 16)), 16)
    v128.store(at + offset, v128.xor(v128.load(at, 32), sum(at + offset + 32)), 32)
    v128.store(at + offset, v128.xor(v128.load(at, 48), sum(at + offset + 48)), 48)
  }
  for (; at < end; at += 16) v128.store(at + offset, v128.xor(v128.load(at), sum(at + offset)))
  memory.fill(end + offset, 0, MARGIN_BYTES)
  let out = tail
  for (const last = end + MARGIN_BYTES; at < last; at += 16, out += 16) {
    v128.store(out, v128.xor(v128.load(at), sum(at + offset)))
  }
  memory.copy(out, at, from + length - at)
  return length - thinned
}
