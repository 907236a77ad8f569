/**
 * Two listings side by side. Both come in key order, so nothing is kept.
 *
 * Invariant: that a side lacks a key counts only once its listing has come to its end, where
 * the driver proves that the repository is there: whoever collects concludes afterwards.
 */
import { compareKeys } from '../storage/storage-key.ts'
import type { StoredObject } from '../storage/storage.ts'

export interface ComparedObject {
  readonly key: string
  /** Sizes; undefined where the side lacks the key. */
  readonly source: number | undefined
  readonly target: number | undefined
}

export async function* compareListings(
  source: AsyncIterable<StoredObject>,
  target: AsyncIterable<StoredObject>,
): AsyncGenerator<ComparedObject> {
  const left = source[Symbol.asyncIterator]()
  const right = target[Symbol.asyncIterator]()
  let a = await next(left)
  let b = await next(right)
  while (a !== undefined || b !== undefined) {
    const order = a === undefined ? 1 : b === undefined ? -1 : compareKeys(a.key, b.key)
    yield {
      key: (order <= 0 ? a?.key : b?.key) as string,
      source: order <= 0 ? a?.sizeBytes : undefined,
      target: order >= 0 ? b?.sizeBytes : undefined,
    }
    if (order <= 0) a = await next(left)
    if (order >= 0) b = await next(right)
  }
}

async function next(listing: AsyncIterator<StoredObject>): Promise<StoredObject | undefined> {
  const { value, done } = await listing.next()
  return done === true ? undefined : value
}
