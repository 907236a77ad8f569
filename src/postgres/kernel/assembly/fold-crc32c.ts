/**
 * CRC-32C of long stretches, 128 bytes a step: blocks are folded into one of equal CRC.
 * Responsible for arithmetic only; crc32c.ts explains the planes and builds the tables.
 */

/** What the nibbles of one plane contribute to a plane: two look-ups in each of 16 lanes. */
@inline function look(low: v128, high: v128, table: usize): v128 {
  return v128.xor(
    i8x16.relaxed_swizzle(v128.load(table), low),
    i8x16.relaxed_swizzle(v128.load(table, 16), high),
  )
}

/**
 * Folds `blocks` blocks of 128 bytes into the 128 bytes at `state`, which on return have
 * the CRC that all of it had. crc32c.ts explains the planes and builds the tables.
 */
export function foldCrc32c(state: usize, at: usize, blocks: u32, tables: usize): void {
  foldGroup(state, at, blocks, tables)
  foldGroup(state + 16, at + 16, blocks, tables)
}

@inline function foldGroup(state: usize, at: usize, blocks: u32, tables: usize): void {
  const nibble = i8x16.splat(15)
  let p0 = v128.load(state)
  let p1 = v128.load(state, 32)
  let p2 = v128.load(state, 64)
  let p3 = v128.load(state, 96)
  for (let n: u32 = 0; n < blocks; n++, at += 128) {
    const l0 = v128.and(p0, nibble)
    const h0 = i8x16.shr_u(p0, 4)
    const l1 = v128.and(p1, nibble)
    const h1 = i8x16.shr_u(p1, 4)
    const l2 = v128.and(p2, nibble)
    const h2 = i8x16.shr_u(p2, 4)
    const l3 = v128.and(p3, nibble)
    const h3 = i8x16.shr_u(p3, 4)
    p0 = v128.xor(
      v128.xor(v128.load(at), look(l0, h0, tables)),
      v128.xor(
        look(l1, h1, tables + 128),
        v128.xor(look(l2, h2, tables + 256), look(l3, h3, tables + 384)),
      ),
    )
    p1 = v128.xor(
      v128.xor(v128.load(at, 32), look(l0, h0, tables + 32)),
      v128.xor(
        look(l1, h1, tables + 160),
        v128.xor(look(l2, h2, tables + 288), look(l3, h3, tables + 416)),
      ),
    )
    p2 = v128.xor(
      v128.xor(v128.load(at, 64), look(l0, h0, tables + 64)),
      v128.xor(
        look(l1, h1, tables + 192),
        v128.xor(look(l2, h2, tables + 320), look(l3, h3, tables + 448)),
      ),
    )
    p3 = v128.xor(
      v128.xor(v128.load(at, 96), look(l0, h0, tables + 96)),
      v128.xor(
        look(l1, h1, tables + 224),
        v128.xor(look(l2, h2, tables + 352), look(l3, h3, tables + 480)),
      ),
    )
  }
  v128.store(state, p0)
  v128.store(state, p1, 32)
  v128.store(state, p2, 64)
  v128.store(state, p3, 96)
}
