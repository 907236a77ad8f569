/** Sets of frames and of leaves, a bit for each. */

const FIRST_BYTES = 32

/** A set of small numbers, not negative. */
class Bits {
  #bytes = new Uint8Array(FIRST_BYTES)

  has(number: number): boolean {
    return ((this.#bytes[number >> 3] ?? 0) & (1 << (number & 7))) !== 0
  }

  /** True when it was not there. */
  add(number: number): boolean {
    if (this.has(number)) return false
    const at = number >> 3
    if (at >= this.#bytes.length) {
      const larger = new Uint8Array(Math.max(at + 1, this.#bytes.length * 2))
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    this.#bytes[at] = (this.#bytes[at] as number) | (1 << (number & 7))
    return true
  }
}

/** Frames by pack and ordinal. */
export class FrameMarks {
  readonly #packs = new Map<string, Bits>()

  has(pack: string, frame: number): boolean {
    return this.#packs.get(pack)?.has(frame) ?? false
  }

  add(pack: string, frame: number): void {
    bitsOf(this.#packs, pack).add(frame)
  }
}

/** Leaves of page maps by pack, frame and slot. */
export class LeafMarks {
  readonly #packs = new Map<string, Map<number, Bits>>()

  /** True when it was not there. */
  add(pack: string, frame: number, slot: number): boolean {
    let frames = this.#packs.get(pack)
    if (frames === undefined) {
      frames = new Map()
      this.#packs.set(pack, frames)
    }
    return bitsOf(frames, frame).add(slot)
  }
}

function bitsOf<K>(all: Map<K, Bits>, key: K): Bits {
  let bits = all.get(key)
  if (bits === undefined) {
    bits = new Bits()
    all.set(key, bits)
  }
  return bits
}
