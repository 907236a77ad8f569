/**
 * Offers a WAL file to repositories that shall have it, too, but that an archiver does not wait
 * for: they are asked at once, and given up after a while.
 *
 * Invariant: a repository that holds other content under the file's name is never passed over.
 * That is no outage, but a sign of two servers, and the file is not acknowledged.
 */
import { monotonicMs, sleep } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import type { StoreOutcome } from './store-wal.ts'

/** How long the archiver waits for them, counted from the beginning of the push. */
const PATIENCE_MS = 5000

export interface OfferResult {
  readonly url: string
  /** Undefined: it has not taken the file. */
  readonly outcome: StoreOutcome | undefined
  /** Undefined of one that was given up: it may take the file yet. */
  readonly failure: Failure | undefined
  readonly tookMs: number
}

/** Fulfilled with what came of each, once it is known or the patience is at its end. */
export type Offers = () => Promise<readonly OfferResult[]>

export function offerWal(
  storages: readonly Storage[],
  push: (storage: Storage) => Promise<StoreOutcome>,
  patienceMs = PATIENCE_MS,
): Offers {
  const startedMs = monotonicMs()
  const offers = storages.map((storage) => offer(storage, push, startedMs))
  // A defect is thrown where it is awaited; until then it is no unhandled rejection.
  for (const one of offers) one.catch(() => {})
  return async () => {
    const stop = new AbortController()
    const left = Math.max(0, patienceMs - (monotonicMs() - startedMs))
    const end = sleep(left, stop.signal).catch(() => undefined)
    const results = await Promise.all(
      storages.map(async ({ url }, number) => {
        const result = await Promise.race([offers[number], end])
        const givenUp = { url, outcome: undefined, failure: undefined, tookMs: patienceMs }
        return result ?? givenUp
      }),
    )
    stop.abort()
    const contradiction = results.find(({ failure }) => contradicts(failure))?.failure
    if (contradiction !== undefined) throw contradiction
    return results
  }
}

async function offer(
  storage: Storage,
  push: (storage: Storage) => Promise<StoreOutcome>,
  startedMs: number,
): Promise<OfferResult> {
  const { url } = storage
  try {
    const outcome = await push(storage)
    return { url, outcome, failure: undefined, tookMs: monotonicMs() - startedMs }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { url, outcome: undefined, failure: error, tookMs: monotonicMs() - startedMs }
  }
}

const CONTRADICTIONS = ['TM1402', 'TM1404', 'TM1410', 'TM1460', 'TM1462', 'TM1463']

/** Other content of that name, a segment that does not fit, another past of a timeline. */
function contradicts(failure: Failure | undefined): boolean {
  return failure !== undefined && CONTRADICTIONS.includes(failure.code)
}
