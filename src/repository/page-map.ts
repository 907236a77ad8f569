/**
 * Page maps: leaves of 1024 pages, and the frames that hold leaves
 * (docs/design/repository-format.md, section 4). Pure.
 *
 * Invariant: the runs of a leaf cover its pages once and in order.
 */
import { damagedObject } from './envelope.ts'
import { PAGES_PER_FRAME } from './pack-format.ts'

export const LEAF_PAGES = 1024
/** Pack number of a run of zero pages. */
export const ZERO_RUN = 0xffff
const LEAF_HEADER_BYTES = 8
const PACK_ID_BYTES = 16
const RUN_BYTES = 12

export interface PageRun {
  /** First page within the leaf. */
  readonly first: number
  readonly count: number
  /** Index into the leaf's packs, or ZERO_RUN. */
  readonly pack: number
  readonly frame: number
  readonly slot: number
}

export interface Leaf {
  readonly pageCount: number
  readonly packs: readonly string[]
  readonly runs: readonly PageRun[]
  /** XXH64 of each page. */
  readonly fingerprints: BigUint64Array
}

/** Where one page lies: pack id, frame ordinal, slot. Undefined: a zero page. */
export interface PageLocation {
  readonly pack: string
  readonly frame: number
  readonly slot: number
}

export function encodeLeaf(leaf: Leaf): Uint8Array {
  const { pageCount, packs, runs, fingerprints } = leaf
  const runsAt = LEAF_HEADER_BYTES + packs.length * PACK_ID_BYTES
  const fingerprintsAt = runsAt + runs.length * RUN_BYTES
  const bytes = Buffer.alloc(fingerprintsAt + pageCount * 8)
  bytes.writeUInt16LE(pageCount, 0)
  bytes.writeUInt16LE(runs.length, 2)
  bytes.writeUInt16LE(packs.length, 4)
  packs.forEach((pack, number) => {
    bytes.write(pack, LEAF_HEADER_BYTES + number * PACK_ID_BYTES, 'hex')
  })
  runs.forEach((run, number) => {
    const at = runsAt + number * RUN_BYTES
    bytes.writeUInt16LE(run.first, at)
    bytes.writeUInt16LE(run.count, at + 2)
    bytes.writeUInt16LE(run.pack, at + 4)
    bytes.writeUInt8(run.slot, at + 6)
    bytes.writeUInt32LE(run.frame, at + 8)
  })
  const raw = new Uint8Array(fingerprints.buffer, fingerprints.byteOffset, pageCount * 8)
  bytes.set(raw, fingerprintsAt)
  return bytes
}

export function decodeLeaf(key: string, bytes: Uint8Array): Leaf {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.length < LEAF_HEADER_BYTES) throw damagedObject(key, 'a page map is too short')
  const pageCount = view.readUInt16LE(0)
  const runCount = view.readUInt16LE(2)
  const packCount = view.readUInt16LE(4)
  const runsAt = LEAF_HEADER_BYTES + packCount * PACK_ID_BYTES
  const fingerprintsAt = runsAt + runCount * RUN_BYTES
  if (view.length !== fingerprintsAt + pageCount * 8 || pageCount > LEAF_PAGES) {
    throw damagedObject(key, 'a page map has the wrong length')
  }
  const packs: string[] = []
  for (let number = 0; number < packCount; number++) {
    const at = LEAF_HEADER_BYTES + number * PACK_ID_BYTES
    packs.push(view.toString('hex', at, at + PACK_ID_BYTES))
  }
  const runs: PageRun[] = []
  let covered = 0
  for (let number = 0; number < runCount; number++) {
    const run = decodeRun(view, runsAt + number * RUN_BYTES)
    const isKnown = run.pack === ZERO_RUN || run.pack < packCount
    if (run.first !== covered || run.count === 0 || !isKnown || run.slot >= PAGES_PER_FRAME) {
      throw damagedObject(key, 'a page map does not cover its pages')
    }
    covered += run.count
    runs.push(run)
  }
  if (covered !== pageCount) throw damagedObject(key, 'a page map does not cover its pages')
  const fingerprints = new BigUint64Array(pageCount)
  new Uint8Array(fingerprints.buffer).set(view.subarray(fingerprintsAt))
  return { pageCount, packs, runs, fingerprints }
}

function decodeRun(view: Buffer, at: number): PageRun {
  return {
    first: view.readUInt16LE(at),
    count: view.readUInt16LE(at + 2),
    pack: view.readUInt16LE(at + 4),
    slot: view.readUInt8(at + 6),
    frame: view.readUInt32LE(at + 8),
  }
}

/** A frame of kind 3: several leaves with their offsets. */
export function encodeLeafFrame(leaves: readonly Uint8Array[]): Uint8Array {
  const head = Buffer.alloc(4 + leaves.length * 4)
  head.writeUInt32LE(leaves.length, 0)
  let offset = head.length
  leaves.forEach((leaf, number) => {
    head.writeUInt32LE(offset, 4 + number * 4)
    offset += leaf.length
  })
  return Buffer.concat([head, ...leaves])
}

/** The bytes of leaf `slot` of a decoded frame of kind 3. */
export function leafInFrame(key: string, frame: Uint8Array, slot: number): Uint8Array {
  const view = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
  const count = view.length < 4 ? 0 : view.readUInt32LE(0)
  if (slot >= count || view.length < 4 + count * 4) {
    throw damagedObject(key, `a frame of page maps has no slot ${slot}`)
  }
  const from = view.readUInt32LE(4 + slot * 4)
  const to = slot + 1 < count ? view.readUInt32LE(8 + slot * 4) : view.length
  if (from > to || to > view.length) throw damagedObject(key, 'a frame of page maps is damaged')
  return view.subarray(from, to)
}

/**
 * Collects where the pages of one leaf lie, page by page, and joins neighbours to runs.
 * Two pages are neighbours when the second one's slot follows, over the frame's end too.
 */
export class LeafBuilder {
  #packs: string[] = []
  #runs: { first: number; count: number; pack: number; frame: number; slot: number }[] = []
  #pageCount = 0

  get pageCount(): number {
    return this.#pageCount
  }

  addZero(): void {
    this.#append(ZERO_RUN, 0, 0)
  }

  addStored(pack: string, frame: number, slot: number): void {
    let number = this.#packs.lastIndexOf(pack)
    if (number < 0) number = this.#packs.push(pack) - 1
    this.#append(number, frame, slot)
  }

  build(fingerprints: BigUint64Array): Leaf {
    return {
      pageCount: this.#pageCount,
      packs: this.#packs,
      runs: this.#runs,
      fingerprints,
    }
  }

  #append(pack: number, frame: number, slot: number): void {
    const last = this.#runs.at(-1)
    if (last !== undefined && continues(last, pack, frame, slot)) {
      last.count++
    } else {
      this.#runs.push({ first: this.#pageCount, count: 1, pack, frame, slot })
    }
    this.#pageCount++
  }
}

function continues(run: PageRun, pack: number, frame: number, slot: number): boolean {
  if (run.pack !== pack) return false
  if (pack === ZERO_RUN) return true
  const next = run.slot + run.count
  return frame === run.frame + Math.floor(next / PAGES_PER_FRAME) && slot === next % PAGES_PER_FRAME
}

/** Where each page of a leaf lies, in page order. */
export function* pageLocations(leaf: Leaf): Generator<PageLocation | undefined> {
  for (const run of leaf.runs) {
    for (let offset = 0; offset < run.count; offset++) {
      if (run.pack === ZERO_RUN) {
        yield undefined
        continue
      }
      const position = run.slot + offset
      yield {
        pack: leaf.packs[run.pack] as string,
        frame: run.frame + Math.floor(position / PAGES_PER_FRAME),
        slot: position % PAGES_PER_FRAME,
      }
    }
  }
}
