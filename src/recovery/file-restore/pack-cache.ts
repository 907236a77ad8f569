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
    if (pack === undefined) {
      pack = await openPack(this.#storage, this.#cluster, packId, this.#neededBy)
      if (pack.frames.length === 0) throw damagedObject(pack.key, 'it has no frames')
      this.#frames += pack.frames.length
    }
    this.#packs.delete(packId)
    this.#packs.set(packId, pack)
    this.#forget(packId)
    return pack
  }

  /**
   * After something of these packs did not hold: true when one of them was replaced since it was
   * opened, so that it is worth reading again.
   */
  async refresh(packIds: Iterable<string>): Promise<boolean> {
    let isReplaced = false
    for (const packId of packIds) {
      const pack = this.#packs.get(packId)
      const now = await pack?.reopen()
      // One that was forgotten meanwhile is opened anew in any case.
      if (pack === undefined) isReplaced = true
      if (now === undefined) continue
      isReplaced = true
      this.#packs.set(packId, now)
    }
    return isReplaced
  }

  #forget(current: string): void {
    for (const [oldest, { frames }] of this.#packs) {
      if (this.#frames <= KEPT_FRAMES || oldest === current) break
      this.#packs.delete(oldest)
      this.#frames -= frames.length
    }
  }
}
