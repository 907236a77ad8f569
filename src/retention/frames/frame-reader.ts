/** Reads frames of many packs: indexes and frames that were used last are kept. */
import { openPack, type PackReader } from '../../repository/pack-reader.ts'
import type { Storage } from '../../storage/storage.ts'

/** Index entries in memory: about 12 MB. */
const KEPT_ENTRIES = 32_768
/** Decoded frames; those of page maps have about 128 KiB. */
const KEPT_FRAMES = 64

export class FrameReader {
  readonly #storage: Storage
  readonly #cluster: string
  readonly #packs = new Map<string, Promise<PackReader>>()
  readonly #entries = new Map<string, number>()
  readonly #frames = new Map<string, Promise<Uint8Array>>()
  #keptEntries = 0

  constructor(storage: Storage, cluster: string) {
    this.#storage = storage
    this.#cluster = cluster
  }

  /** TM1602 when pack or frame is missing, TM1601 when it is damaged. */
  async read(packId: string, frame: number): Promise<Uint8Array> {
    const name = `${packId}/${frame}`
    let bytes = this.#frames.get(name)
    if (bytes === undefined) {
      bytes = this.#open(packId).then(async (pack) => await pack.readFrame(frame))
      this.#frames.set(name, bytes)
      if (this.#frames.size > KEPT_FRAMES) {
        this.#frames.delete(this.#frames.keys().next().value as string)
      }
    }
    return await bytes
  }

  async #open(packId: string): Promise<PackReader> {
    const known = this.#packs.get(packId)
    if (known !== undefined) {
      this.#packs.delete(packId)
      this.#packs.set(packId, known)
      return await known
    }
    const opening = openPack(this.#storage, this.#cluster, packId)
    this.#packs.set(packId, opening)
    const pack = await opening
    this.#entries.set(packId, pack.frames.length)
    this.#keptEntries += pack.frames.length
    this.#forget(packId)
    return pack
  }

  #forget(current: string): void {
    for (const packId of this.#packs.keys()) {
      if (this.#keptEntries <= KEPT_ENTRIES || packId === current) return
      this.#packs.delete(packId)
      this.#keptEntries -= this.#entries.get(packId) ?? 0
      this.#entries.delete(packId)
    }
  }
}
