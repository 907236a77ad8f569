/**
 * Packs whose size is not the one that a record states: either they are damaged, or they, or the
 * copy in the repository that the record was written for first, were repacked
 * (docs/design/repacking.md).
 */
import { isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import { openPack, type PackReader } from './pack-reader.ts'

/** Each costs four small reads, which wait more than they work. */
const OPENED_AT_ONCE = 8

/**
 * The pack, when header, index and trailer hold: they prove its length as well. Undefined when
 * it is missing or damaged.
 */
export async function findWholePack(
  storage: Storage,
  cluster: string,
  packId: string,
): Promise<PackReader | undefined> {
  try {
    return await openPack(storage, cluster, packId)
  } catch (error) {
    if (isFailure(error, 'TM1601') || isFailure(error, 'TM1602')) return undefined
    throw error
  }
}

/** Those of `packIds` that are whole, or sparse. */
export async function findWholePacks(
  storage: Storage,
  cluster: string,
  packIds: readonly string[],
): Promise<Map<string, PackReader>> {
  const found = new Map<string, PackReader>()
  for (let first = 0; first < packIds.length; first += OPENED_AT_ONCE) {
    const some = packIds.slice(first, first + OPENED_AT_ONCE)
    const packs = await Promise.all(some.map((id) => findWholePack(storage, cluster, id)))
    for (const pack of packs) if (pack !== undefined) found.set(pack.packId, pack)
  }
  return found
}
