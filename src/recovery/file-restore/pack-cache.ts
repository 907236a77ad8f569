/** Opened packs of one worker, the last used ones. */
import { damagedObject } from '../../repository/envelope.ts'
import { openPack, type PackReader } from '../../repository/pack-reader.ts'
import type { Storage } from '../../storage/storage.ts'

/** Index entries in memory: about 12 MB. */
const KEPT_FRAMES = 32_768

export class PackCache {
  readonly #storage: Storage
  readonly #cluster: string
  readonly #neededBy: string
  readonly #packs = new Map<string, PackReader>()
  #frames = 0

  constructor(storage: Storage, cluster: string, neededBy: string) {
    this.#storage = storage
    this.#cluster = cluster
    this.#neededBy = neededBy
  }

  /** TM1602 when it is missing, TM1601 when its index is damaged. */
  async open(packId: string): Promise<PackReader> {
    let pack = this.#packs.get(packId)
    if (pack?.isAway === true) {
      this.#packs.delete(packId)
      this.#frames -= pack.frames.length
      pack = undefined
    }
    if (pack === undefined) {
      pack = await openPack(this.#storage, this.#cluster, packId, this.#neededBy)
      if (pack.frames.length === 0) throw damagedObject(pack.key, 'it has no frames')
      // Opened twice at once, where copies of frames are looked for.
      this.#frames += pack.frames.length - (this.#packs.get(packId)?.frames.length ?? 0)
    }
    this.#packs.delete(packId)
    this.#packs.set(packId, pack)
    for (const [oldest, { frames }] of this.#packs) {
      if (this.#frames <= KEPT_FRAMES || oldest === packId) break
      this.#packs.delete(oldest)
      this.#frames -= frames.length
    }
    return pack
  }
}
