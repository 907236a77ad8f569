/**
 * `wal get --ahead`: hands out one file and sees to it that a filler brings the next ones
 * (docs/design/wal-archive.md, section 7).
 *
 * Invariant: what it answers is what fetchWalFile() answers, or a whole segment of the spool.
 * Nothing that goes wrong with the spool fails it.
 */
import { monotonicMs, now, sleep } from '../base/clock.ts'
import {
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  readProcessIdentity,
} from '../storage/process-identity.ts'
import { type FetchOutcome, type FetchWalOptions, fetchWalFile } from './fetch-wal.ts'
import {
  aimSpool,
  ensureSpool,
  findComingMs,
  isSpoolValid,
  readFiller,
  removeSpool,
  type Spool,
  spoolOf,
  takeFromSpool,
} from './spool.ts'
import { parseWalFileName } from './wal-file-name.ts'

export interface FetchAheadOptions extends FetchWalOptions {
  /** Of the server that recovers. */
  readonly dataDirectory: string
  /** Starts a process that runs fillSpool(), and does not wait for it. */
  readonly startFiller: () => void
  /** For tests. */
  readonly mostComingMs?: number
}

/** A filler that has said nothing of a segment for so long hangs. */
const MOST_COMING_MS = 10_000
const POLL_MS = 20

export async function fetchAhead(options: FetchAheadOptions): Promise<FetchOutcome> {
  const { name, dataDirectory } = options
  if (parseWalFileName(name)?.kind !== 'segment') return await fetchWalFile(options)
  const spool = spoolOf(dataDirectory)
  if (await takeOrWait(spool, options)) return 'fetched'
  const outcome = await fetchWalFile(options)
  if (outcome === 'fetched') await goOn(spool, options)
  return outcome
}

/** True: it came out of the spool. One whose filler hangs is taken away from it. */
async function takeOrWait(spool: Spool, options: FetchAheadOptions): Promise<boolean> {
  const { name, destination, mostComingMs = MOST_COMING_MS } = options
  try {
    let said: number | undefined
    let heardMs = monotonicMs()
    while (await isSpoolValid(spool)) {
      if (await takeFromSpool(spool, name, destination)) return true
      const coming = await findComingMs(spool, name)
      if (coming === undefined || !(await isFillerAlive(spool))) break
      // Each clock alone: that of the files may be set while this waits.
      if (coming !== said) heardMs = monotonicMs()
      said = coming
      if (now().getTime() - coming > mostComingMs || monotonicMs() - heardMs > mostComingMs) {
        await removeSpool(spool)
        break
      }
      await sleep(POLL_MS)
    }
    // Given its name between the two looks.
    return await takeFromSpool(spool, name, destination)
  } catch {
    return false
  }
}

async function goOn(spool: Spool, { name, startFiller }: FetchAheadOptions): Promise<void> {
  try {
    if (!(await ensureSpool(spool))) return
    await aimSpool(spool, name)
    if (!(await isFillerAlive(spool))) startFiller()
  } catch {
    // The file is handed out; only speed is lost.
  }
}

/** One that cannot be looked up counts as alive: two would only do the work twice. */
export async function isFillerAlive(spool: Spool): Promise<boolean> {
  const [, identity = ''] = (await readFiller(spool))?.split('\n') ?? []
  const filler = parseProcessIdentity(identity)
  if (filler === undefined) return false
  return judgeLiveness(filler, readProcessIdentity(), lookUpStartTicks) !== 'dead'
}
