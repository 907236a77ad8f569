/**
 * The repositories that `wal push` does not wait for: which of them are asked now, and what is
 * said of those that did not take the file. Nothing slow is imported here.
 */
import type { PushWalResult } from '../archive/push-wal.ts'
import { Failure } from '../base/failure.ts'
import { openAwayMemory } from '../config/away-memory.ts'
import type { RepositoryConfiguration } from '../config/configuration.ts'
import { openLazyStorage } from '../storage/lazy-storage.ts'
import type { Storage } from '../storage/storage.ts'

/** Who answers later than this, or not at all, is not asked for a while. */
const PROMPT_MS = 1000

export interface ChosenOthers {
  readonly storages: readonly Storage[]
  /** Those that are not asked now, and since when. */
  readonly away: readonly { readonly url: string; readonly since: Date }[]
}

export function chooseOthers(
  repositories: readonly RepositoryConfiguration[],
  open: (repository: RepositoryConfiguration) => Promise<Storage>,
): ChosenOthers {
  const memory = openAwayMemory()
  const storages: Storage[] = []
  const away: { url: string; since: Date }[] = []
  for (const repository of repositories) {
    const { url } = repository
    const since = memory.lastAskedAt(url)
    if (since === undefined) storages.push(openLazyStorage(url, async () => await open(repository)))
    else away.push({ url, since })
  }
  return { storages, away }
}

/** Warns of each that has not the file now. */
export function concludeOffers(
  { name, offers }: PushWalResult,
  away: ChosenOthers['away'],
  warn: (failure: Failure) => void,
): void {
  const memory = openAwayMemory()
  for (const { url, outcome, failure, tookMs } of offers) {
    if (outcome === undefined && tookMs >= PROMPT_MS) memory.remember(url)
    if (outcome === undefined) warn(notTaken(name, url, reasonOf(failure)))
  }
  for (const { url, since } of away) {
    warn(notTaken(name, url, `it did not answer at ${since.toISOString()}, and is not asked yet`))
  }
}

/** Of files that were archived in advance: one warning for each place that lacks some. */
export function concludeAhead(
  ahead: readonly PushWalResult[],
  others: readonly Storage[],
  warn: (failure: Failure) => void,
): void {
  for (const { url } of others) {
    const lacking = ahead.filter(
      ({ offers }) => !offers.some((offer) => offer.url === url && offer.outcome !== undefined),
    )
    const last = lacking.at(-1)
    if (last === undefined) continue
    const count = lacking.length - 1
    const name = count === 0 ? last.name : `${last.name} and ${count} before it`
    warn(notTaken(name, url, 'it did not take an earlier file in time, and was not asked again'))
  }
}

function reasonOf(failure: Failure | undefined): string {
  if (failure === undefined) return 'it did not answer in time'
  return `${failure.code}: ${failure.message}: ${failure.because ?? ''}`
}

function notTaken(name: string, url: string, because: string): Failure {
  return new Failure('TM1321', {
    message: `${name} was not stored in ${url}`,
    because,
    fix: 'tidemark status says what is missing there; tidemark sync --from A --to B brings it',
    details: { name, url },
  })
}
