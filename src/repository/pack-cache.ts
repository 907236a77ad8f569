/** Opened packs of one reader, the last used ones. */
import type { Storage } from '../storage/storage.ts'
import { damagedObject } from './envelope.ts'
import { type PackKeyOf, packKey } from './keys.ts'
import { openPack, type PackReader } from './pack-reader.ts'

/** Index entries in memory: about 12 MB. */
const KEPT_FRAMES = 32_768

export class PackCache {
  readonly #storage: Storage
  readonly #cluster: string
  readonly #neededBy: string
  readonly #keyOf: PackKeyOf
  readonly #packs = new Map<string, PackReader>()
  #frames = 0

  constructor(storage: Storage, cluster: string, neededBy: string, keyOf: PackKeyOf = packKey) {
    this.#storage = storage
    this.#cluster = cluster
    this.#neededBy = neededBy
    this.#keyOf = keyOf
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
      pack = await openPack(this.#storage, this.#cluster, packId, this.#neededBy, this.#keyOf)
      if (pack.frames.length === 0) throw damagedObject(pack.key, 'it has no frames')
      // Opened twice at once, where copies of frames are looked for.
      this.#frames += pack.frames.length - (this.#packs.get(packId)?.frames.length ?? 0)
    }
    this.#packs.delete(packId)
    this.#packs.set(packId, pack)
    this.#forget(packId)
    return pack
  }

  /**
   * After something that was read by these readers did not hold: true when one of the packs was
   * replaced since, so that it is worth reading again.
   */
  async refresh(readers: Iterable<PackReader>): Promise<boolean> {
    let isReplaced = false
    for (const reader of readers) {
      // What was read ahead may be older than what others have found since.
      const known = this.#packs.get(reader.packId)
      const now = known === reader ? await reader.reopen() : known
      if (known !== undefined && now === undefined) continue
      isReplaced = true
      if (now !== undefined) this.#packs.set(reader.packId, now)
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
