/**
 * Which other repositories have an object whole that is damaged or missing in one: what
 * verify tells with its findings. Each copy is proved, not merely listed.
 */
import { Failure } from '../base/failure.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import { dumpPackKey, packKey } from '../repository/keys.ts'
import type { Storage } from '../storage/storage.ts'
import { isDamage } from './damage.ts'
import { parseObjectKey } from './object-key.ts'
import { findPackShape } from './pack-frames.ts'
import { findDamage } from './prove-object.ts'

/** Another repository of the cluster. */
export interface Healer {
  readonly name: string
  readonly storage: Storage
}

export interface DamagedObject {
  readonly code: FailureCode
  readonly key: string
  /** Of a pack: the frame that is damaged or missing; undefined: all of it. */
  readonly frame: number | undefined
}

/** Other findings are of objects whose own hashes hold: the same bytes mend nothing. */
const MENDED_BY_BYTES: ReadonlySet<FailureCode> = new Set(['TM1601', 'TM1602', 'TM1408', 'TM1501'])

/** Packs that are read to their end to prove them; of more than that, the index alone. */
const WHOLE_PACKS = 32

export class HealerSearch {
  readonly #healers: readonly Healer[]
  readonly #cluster: string
  #wholePacks = 0
  /** Repositories that could not be looked at, and why. */
  readonly away = new Map<string, Failure>()

  constructor(healers: readonly Healer[], cluster: string) {
    this.#healers = healers
    this.#cluster = cluster
  }

  /** Names of the repositories that have it whole. */
  async find(object: DamagedObject): Promise<string[]> {
    if (!MENDED_BY_BYTES.has(object.code)) return []
    const found: string[] = []
    for (const { name, storage } of this.#healers) {
      if (!this.away.has(name) && (await this.#hasIt(name, storage, object))) found.push(name)
    }
    return found
  }

  async #hasIt(name: string, storage: Storage, { key, frame }: DamagedObject): Promise<boolean> {
    const named = parseObjectKey(this.#cluster, key)
    if (named === undefined) return false
    try {
      const isPack = named.kind === 'pack' || named.kind === 'dump-pack'
      if (isPack && frame === undefined && ++this.#wholePacks > WHOLE_PACKS) {
        const keyOf = named.kind === 'pack' ? packKey : dumpPackKey
        return (await findPackShape(storage, this.#cluster, named.packId, keyOf)) !== undefined
      }
      return (await findDamage(storage, this.#cluster, key, frame)) === undefined
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      if (!isDamage(error)) this.away.set(name, error)
      return false
    }
  }
}
