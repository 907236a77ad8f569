/**
 * Gathers the leaves of page maps into frames of a worker's own pack.
 *
 * Invariant: the reference of a leaf is told exactly once, after its frame was added.
 */
import type { LeafReference } from '../../repository/backup-record.ts'
import { FRAME_BYTES, FRAME_KINDS } from '../../repository/pack-format.ts'
import type { PackWriter } from '../../repository/pack-writer.ts'
import { encodeLeaf, encodeLeafFrame, LeafBuilder } from '../../repository/page-map.ts'
import type { DraftedLeaf } from './page-copier.ts'

interface WaitingLeaf {
  readonly bytes: Uint8Array
  readonly tell: (reference: LeafReference) => void
}

export class LeafStore {
  readonly #packs: PackWriter
  #waiting: WaitingLeaf[] = []
  #bytes = 0

  constructor(packs: PackWriter) {
    this.#packs = packs
  }

  add(draft: DraftedLeaf, tell: (reference: LeafReference) => void): void {
    const builder = new LeafBuilder()
    for (let page = 0; page < draft.pageCount; page++) {
      const location = draft.locationOf(page)
      if (location === undefined) builder.addZero()
      else builder.addStored(location.pack, location.frame, location.slot)
    }
    const bytes = encodeLeaf(builder.build(draft.fingerprints))
    this.#waiting.push({ bytes, tell })
    this.#bytes += bytes.length
  }

  get isFull(): boolean {
    return this.#bytes >= FRAME_BYTES
  }

  async flush(): Promise<void> {
    const waiting = this.#waiting
    if (waiting.length === 0) return
    this.#waiting = []
    this.#bytes = 0
    if (this.#packs.needsPack) await this.#packs.begin()
    const raw = encodeLeafFrame(waiting.map(({ bytes }) => bytes))
    const { pack, frame } = this.#packs.add(FRAME_KINDS.leaves, raw, waiting.length, [])
    this.#packs.closeIfFull()
    waiting.forEach(({ tell }, slot) => {
      tell({ pack, frame, slot })
    })
  }
}
