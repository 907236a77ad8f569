/**
 * Chunks that are stored already, by hash and length, for millions of them: columns of numbers
 * in segments that are never copied, and an open-addressing table of entry numbers. 28 bytes for
 * a chunk and 4 to 12 for its slots: 4 million take 150 MB.
 *
 * Invariant: an entry is found by its 16 bytes of SHA-256 and its length together, or not at all.
 */
import { CHUNK_HASH_BYTES } from '../repository/chunk-list.ts'

const SEGMENT_ENTRIES = 65_536
/** Four of the hash, raw length, number of the pack, frame. */
const WORDS = 7

export class ChunkIndex {
  readonly #limit: number
  readonly #segments: Uint32Array[] = []
  readonly #packs: string[] = []
  readonly #packNumbers = new Map<string, number>()
  /** Number of an entry plus one; 0: empty. At most half of it is used. */
  #slots = new Uint32Array(8192)
  #count = 0
  readonly #key = new Uint32Array(5)

  constructor(limit: number) {
    this.#limit = limit
  }

  get count(): number {
    return this.#count
  }

  get isFull(): boolean {
    return this.#count >= this.#limit
  }

  /** The number of the entry, or -1. `hash` has at least 16 bytes. */
  find(hash: Buffer, rawLength: number): number {
    this.#readKey(hash, rawLength)
    return (this.#slots[this.#slotOfKey()] as number) - 1
  }

  packOf(entry: number): string {
    const [words, at] = this.#place(entry)
    return this.#packs[words[at + 5] as number] as string
  }

  frameOf(entry: number): number {
    const [words, at] = this.#place(entry)
    return words[at + 6] as number
  }

  /** Nothing happens where the chunk is known, or the index is full. */
  add(hash: Buffer, rawLength: number, packId: string, frame: number): void {
    if (this.isFull) return
    this.#readKey(hash, rawLength)
    const slot = this.#slotOfKey()
    if (this.#slots[slot] !== 0) return
    const entry = this.#count++
    if (entry % SEGMENT_ENTRIES === 0) this.#segments.push(new Uint32Array(SEGMENT_ENTRIES * WORDS))
    const [words, at] = this.#place(entry)
    words.set(this.#key, at)
    words[at + 5] = this.#numberOf(packId)
    words[at + 6] = frame
    this.#slots[slot] = entry + 1
    if (this.#count * 2 > this.#slots.length) this.#grow()
  }

  #numberOf(packId: string): number {
    let number = this.#packNumbers.get(packId)
    if (number === undefined) {
      number = this.#packs.push(packId) - 1
      this.#packNumbers.set(packId, number)
    }
    return number
  }

  #readKey(hash: Buffer, rawLength: number): void {
    for (let word = 0; word < CHUNK_HASH_BYTES / 4; word++) {
      this.#key[word] = hash.readUInt32LE(4 * word)
    }
    this.#key[4] = rawLength
  }

  #place(entry: number): [words: Uint32Array, at: number] {
    const words = this.#segments[Math.floor(entry / SEGMENT_ENTRIES)] as Uint32Array
    return [words, (entry % SEGMENT_ENTRIES) * WORDS]
  }

  /** Where the key is, or the empty slot where it would be. */
  #slotOfKey(): number {
    const mask = this.#slots.length - 1
    let slot = (this.#key[0] as number) & mask
    for (;;) {
      const entry = (this.#slots[slot] as number) - 1
      if (entry < 0 || this.#isKeyOf(entry)) return slot
      slot = (slot + 1) & mask
    }
  }

  #isKeyOf(entry: number): boolean {
    const [words, at] = this.#place(entry)
    for (let word = 0; word < 5; word++) if (words[at + word] !== this.#key[word]) return false
    return true
  }

  #grow(): void {
    const slots = new Uint32Array(this.#slots.length * 2)
    const mask = slots.length - 1
    for (let entry = 0; entry < this.#count; entry++) {
      const [words, at] = this.#place(entry)
      let slot = (words[at] as number) & mask
      while (slots[slot] !== 0) slot = (slot + 1) & mask
      slots[slot] = entry + 1
    }
    this.#slots = slots
  }
}
