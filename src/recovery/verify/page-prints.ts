/**
 * What the pages of a pack are, as far as a map can ask: 8 bytes of fingerprint per page and
 * one bit for a wrong checksum. In memory that threads share, so that the frames of a pack
 * are decoded once although the maps that name them come later.
 *
 * Invariant: a frame counts as known only after all of its slots are filled in.
 */
import {
  createPageKernel,
  FINGERPRINT_BYTES,
  PAGE_BAD_CHECKSUM,
  type PageKernel,
} from '../../postgres/page-kernel.ts'
import { parseRelationPath } from '../../postgres/relation-path.ts'
import { FRAME_BYTES, type FrameEntry, PAGES_PER_FRAME } from '../../repository/pack-format.ts'

export interface PackPrints {
  /** PAGES_PER_FRAME for each frame of the pack, whatever its kind. */
  readonly fingerprints: BigUint64Array
  /** One bit per slot of a frame: its page has a wrong checksum. */
  readonly bad: Uint16Array
  /** 1 once the frame was decoded. */
  readonly known: Uint8Array
}

export function makePrints(frames: number): PackPrints {
  const fingerprintBytes = frames * PAGES_PER_FRAME * FINGERPRINT_BYTES
  return {
    fingerprints: new BigUint64Array(new SharedArrayBuffer(fingerprintBytes)),
    bad: new Uint16Array(new SharedArrayBuffer(frames * 2)),
    known: new Uint8Array(new SharedArrayBuffer(frames)),
  }
}

export function printsBytes({ fingerprints, bad, known }: PackPrints): number {
  return fingerprints.byteLength + bad.byteLength + known.byteLength
}

/** Which pages of a frame stand at which block of their relation. */
interface Blocks {
  readonly slot: number
  readonly count: number
  readonly block: number
}

/** Fills in frames. One per thread: it owns a page kernel. */
export class PagePrinter {
  readonly #kernel: PageKernel
  readonly #segmentBlocks: number
  readonly zeroFingerprint: bigint

  /** `segmentBlocks`: pages of a file of a relation (131072 unless PostgreSQL was built so). */
  constructor(segmentBlocks: number) {
    this.#kernel = createPageKernel({ readBufferBytes: FRAME_BYTES })
    this.#segmentBlocks = segmentBlocks
    this.#kernel.readBuffer.fill(0)
    const zero = new Uint8Array(FINGERPRINT_BYTES)
    this.#kernel.fingerprint(0, 1, zero)
    this.zeroFingerprint = new BigUint64Array(zero.buffer)[0] as bigint
  }

  /** `raw`: the decoded frame, `entry.slots` pages long. */
  fill(prints: PackPrints, ordinal: number, entry: FrameEntry, raw: Uint8Array): void {
    this.#kernel.readBuffer.set(raw)
    const out = new Uint8Array(
      prints.fingerprints.buffer,
      ordinal * PAGES_PER_FRAME * FINGERPRINT_BYTES,
    )
    let bad = 0
    for (const { slot, count, block } of this.#blocksOf(entry)) {
      const scan = this.#kernel.scanPages(slot * 8192, count, block, { checksums: block >= 0 })
      out.set(scan.fingerprints, slot * FINGERPRINT_BYTES)
      if ((scan.anyFlags & PAGE_BAD_CHECKSUM) === 0) continue
      scan.flags.forEach((flag, page) => {
        if ((flag & PAGE_BAD_CHECKSUM) !== 0) bad |= 1 << (slot + page)
      })
    }
    prints.bad[ordinal] = bad
    prints.known[ordinal] = 1
  }

  /** The pack's own index says whose pages these are; a block below 0: not known. */
  #blocksOf({ extents, slots }: FrameEntry): Blocks[] {
    const blocks: Blocks[] = []
    let slot = 0
    for (const { path, first, count } of extents) {
      const segment = parseRelationPath(path)?.segment
      if (segment === undefined) break
      blocks.push({ slot, count, block: segment * this.#segmentBlocks + first })
      slot += count
    }
    return slot === slots ? blocks : [{ slot: 0, count: slots, block: -1 }]
  }
}
