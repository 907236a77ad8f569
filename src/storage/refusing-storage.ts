/**
 * A storage that could not be opened: every use of it is the failure that says why. For
 * those who look at several and tell of each.
 */
import type { Failure } from '../base/failure.ts'
import type { Storage } from './storage.ts'

export function openRefusingStorage(url: string, failure: Failure): Storage {
  const refuse = async (): Promise<never> => {
    throw failure
  }
  return {
    url,
    read: refuse,
    readRange: refuse,
    size: refuse,
    list: () => refuseListing(failure),
    listKeys: () => refuseListing(failure),
    write: refuse,
    openWriter: refuse,
    confirmDurable: refuse,
    remove: refuse,
    removeMany: refuse,
    removeLeftovers: refuse,
    freeBytes: refuse,
    close: async () => undefined,
  }
}

// biome-ignore lint/correctness/useYield: it fails before it could give anything
async function* refuseListing(failure: Failure): AsyncGenerator<never> {
  throw failure
}
