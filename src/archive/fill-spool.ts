/**
 * The filler: fetches the segments that replay will ask for into the spool, ahead of it, until
 * there is nothing more to do (docs/design/wal-archive.md, section 7).
 *
 * Invariants: a file gets its name when it is whole, verified and synced. The filler answers
 * nobody: what it cannot get is left to the program, which says why. It ends when replay has,
 * however that came to pass.
 */
import { lstat, readdir, readFile, rename, rm, statfs, utimes, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { monotonicMs, now, sleep } from '../base/clock.ts'
import { randomHex } from '../base/random.ts'
import {
  NO_ANCESTORS,
  parseHistoryFile,
  historyFileName,
  type TimelineHistory,
} from '../postgres/history-file.ts'
import { formatSegmentName, parseSegmentName, type Timeline } from '../postgres/lsn.ts'
import { findSystemIdentity } from '../repository/system-identity.ts'
import { formatProcessIdentity, readProcessIdentity } from '../storage/process-identity.ts'
import { CodecPool } from './codec-pool.ts'
import { CacheDropper } from './drop-cache.ts'
import { type FetchWalOptions, findWalFile, findWalObject } from './fetch-wal.ts'
import { timelineOfSegment } from './find-gaps.ts'
import { badHistory } from './find-history.ts'
import { planFill, spoolLimit } from './plan-fill.ts'
import {
  COMING_SUFFIX,
  FILLER_FILE,
  isSpoolValid,
  PART_SUFFIX,
  readAim,
  readFiller,
  removeSpool,
  type Spool,
  spoolOf,
} from './spool.ts'

export interface FillOptions
  extends Pick<FetchWalOptions, 'storages' | 'cluster' | 'systemIdentifier'> {
  readonly dataDirectory: string
  /** That replay goes to; the aim's own unless given. */
  readonly timeline: Timeline | undefined
  readonly threads?: number
}

const POLL_MS = 20
/** How often it is looked whether the server still recovers. */
const LOOK_MS = 200
/** After so long without anything taken: paused, or waiting for WAL that is not archived yet. */
const MOST_IDLE_MS = 60_000
/** How often it says that it is at work on a segment, and for how long: links may be slow. */
const SAY_MS = 500
const MOST_FETCH_MS = 120_000
const MOST_THREADS = 2
const BYTES_OF_BUFFERS = 512 * 1024 * 1024

/** `ended`: recovery has, and the spool was removed. `idle`, `failed`, `replaced`: it stays. */
export type FillOutcome = 'ended' | 'idle' | 'failed' | 'replaced'

export async function fillSpool(options: FillOptions): Promise<FillOutcome> {
  const spool = spoolOf(options.dataDirectory)
  const aim = await readAim(spool)
  const size = await findSegmentSize(options)
  if (aim === undefined || size === undefined) return 'failed'
  const path = await readPath(options, options.timeline ?? Number.parseInt(aim.slice(0, 8), 16))
  const identity = `${process.pid}\n${formatProcessIdentity(readProcessIdentity())}\n`
  await writeFile(join(spool.directory, FILLER_FILE), identity, { mode: 0o600 })
  await removeUnfinished(spool)
  const fitting = Math.max(1, Math.floor(BYTES_OF_BUFFERS / (2 * size)))
  // Redo takes one processor for itself.
  const processors = Math.max(1, availableParallelism() - 1)
  const threads = options.threads ?? Math.min(processors, MOST_THREADS, fitting)
  const pool = new CodecPool(threads)
  const dropper = new CacheDropper(join(options.dataDirectory, 'pg_wal'))
  try {
    const state = { options, spool, size, path, identity, pool, threads, dropper }
    const outcome = await new Filler(state).run()
    if (outcome === 'ended') await removeSpool(spool)
    return outcome
  } finally {
    dropper.close()
    await pool.close()
  }
}

async function findSegmentSize({ storages, cluster, systemIdentifier }: FillOptions) {
  for (const storage of storages) {
    const identity = await findSystemIdentity(storage, cluster, systemIdentifier).catch(
      () => undefined,
    )
    if (identity !== undefined) return identity.walSegmentSizeBytes
  }
  return undefined
}

/** Timeline 1 has no history; another one without it is followed by itself alone. */
async function readPath(options: FillOptions, timeline: Timeline): Promise<TimelineHistory> {
  const name = historyFileName(timeline)
  const found = timeline === 1 ? undefined : await findWalFile({ ...options, name })
  if (found === undefined) return { timeline, ancestors: NO_ANCESTORS }
  const parsed = parseHistoryFile(timeline, found.content)
  if (parsed.ok) return parsed.history
  throw badHistory(name, `line ${parsed.error.line}: ${parsed.error.problem}`)
}

/** Of a filler that was killed. */
async function removeUnfinished({ directory }: Spool): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.endsWith(PART_SUFFIX) && !name.endsWith(COMING_SUFFIX)) continue
    await rm(join(directory, name), { force: true })
  }
}

interface FillerState {
  readonly options: FillOptions
  readonly spool: Spool
  readonly size: number
  readonly path: TimelineHistory
  /** What its file in the spool says. */
  readonly identity: string
  readonly pool: CodecPool
  readonly threads: number
  readonly dropper: CacheDropper
}

class Filler {
  readonly #state: FillerState
  readonly #fetching = new Map<string, Promise<void>>()
  /** In the spool, as far as is known: what is gone from there was taken. */
  readonly #ready = new Set<string>()
  #aim: string | undefined
  #position = 0n
  #end: bigint | undefined
  #hasFailed = false
  #lastTakenMs = monotonicMs()
  #lookedMs = Number.NEGATIVE_INFINITY
  #recovery: Recovery | undefined
  #limit = 0

  constructor(state: FillerState) {
    this.#state = state
  }

  async run(): Promise<FillOutcome> {
    try {
      for (;;) {
        const outcome = await this.#look()
        if (outcome !== undefined) return outcome
        await this.#notice()
        await this.#plan()
        await sleep(POLL_MS)
      }
    } finally {
      await Promise.all(this.#fetching.values())
    }
  }

  async #look(): Promise<FillOutcome | undefined> {
    const at = monotonicMs()
    const { spool, identity, size } = this.#state
    if (this.#hasFailed) return (await readFiller(spool)) === identity ? 'failed' : 'replaced'
    if (at - this.#lookedMs < LOOK_MS) return undefined
    this.#lookedMs = at
    if ((await readFiller(spool)) !== identity) return 'replaced'
    this.#recovery = await findRecovery(spool)
    if (this.#recovery === undefined) return 'ended'
    const { bavail, bsize } = await statfs(spool.directory)
    this.#limit = spoolLimit(size, bavail * bsize + this.#ready.size * size)
    if (this.#fetching.size > 0) return undefined
    return at - this.#lastTakenMs > MOST_IDLE_MS ? 'idle' : undefined
  }

  /** What was taken, and where the program is. */
  async #notice(): Promise<void> {
    const { spool, size } = this.#state
    const names = new Set(await readdir(spool.directory))
    for (const name of this.#ready) {
      if (names.has(name)) continue
      this.#ready.delete(name)
      this.#moveTo(name, size, false)
      this.#dropBefore(name)
    }
    for (const name of names) {
      if (parseSegmentName(name, size) !== undefined) this.#ready.add(name)
    }
    const aim = await readAim(spool)
    if (aim === undefined || aim === this.#aim) return
    this.#aim = aim
    this.#end = undefined
    this.#moveTo(aim, size, true)
  }

  /**
   * Who asks for a segment has read the one before to its end. A standby may send it on to others,
   * from the kernel's memory.
   */
  #dropBefore(name: string): void {
    const { path, size, dropper } = this.#state
    const segment = (parseSegmentName(name, size)?.segment ?? 0n) - 1n
    if (this.#recovery !== 'targeted' || segment < 0n) return
    dropper.drop(formatSegmentName(timelineOfSegment(path, segment, size), segment, size))
  }

  /** The program may go back; what is taken from the spool is always ahead. */
  #moveTo(name: string, size: number, mayGoBack: boolean): void {
    const segment = parseSegmentName(name, size)?.segment
    if (segment === undefined) return
    if (mayGoBack || segment > this.#position) this.#position = segment
    this.#lastTakenMs = monotonicMs()
  }

  async #plan(): Promise<void> {
    const { spool, size, path, threads } = this.#state
    const { fetch, remove } = planFill({
      path,
      walSegmentSizeBytes: size,
      position: this.#position,
      end: this.#end,
      present: [...this.#ready, ...this.#fetching.keys()],
      limit: this.#limit,
    })
    for (const name of remove) {
      if (!this.#ready.delete(name)) continue
      await rm(join(spool.directory, name), { force: true })
    }
    for (const name of fetch) {
      // Some are on their way from the storage while each thread has one.
      if (this.#fetching.size >= threads + MOST_THREADS) return
      this.#begin(name)
    }
  }

  #begin(name: string): void {
    const fetching = this.#fetch(name)
      .catch(() => {
        this.#hasFailed = true
      })
      .finally(() => {
        this.#fetching.delete(name)
      })
    this.#fetching.set(name, fetching)
  }

  async #fetch(name: string): Promise<void> {
    const { options, spool, pool, size } = this.#state
    const { storages, cluster, systemIdentifier } = options
    const place = join(spool.directory, name)
    const coming = `${place}${COMING_SUFFIX}`
    // Another filler of this spool must not write to it, nor give it its name.
    const path = `${place}-${process.pid}-${randomHex(4)}${PART_SUFFIX}`
    await writeFile(coming, '', { mode: 0o600 })
    const done = new AbortController()
    const saying = keepSaying(coming, done.signal)
    try {
      const request = { storages, cluster, systemIdentifier, name, holes: 'absent' as const }
      const isThere = await findWalObject(request, async (key, object, expected) => {
        await pool.decode({ key, object, expected, path })
        return true
      })
      if (isThere === true) {
        await this.#hand(path, place)
        this.#ready.add(name)
      } else {
        this.#stopAt(parseSegmentName(name, size)?.segment)
      }
    } finally {
      done.abort()
      await saying
      await rm(coming, { force: true })
    }
  }

  /** The path may lead to the spool of another start meanwhile, and of another server. */
  async #hand(path: string, place: string): Promise<void> {
    const { spool, identity } = this.#state
    if ((await readFiller(spool)) === identity) return await rename(path, place)
    await rm(path, { force: true })
    throw new Error('the spool was taken away')
  }

  #stopAt(segment: bigint | undefined): void {
    if (segment === undefined) return
    if (this.#end === undefined || segment < this.#end) this.#end = segment
  }
}

/** A process that hangs or is stopped says nothing, and the program takes the spool from it. */
async function keepSaying(coming: string, signal: AbortSignal): Promise<void> {
  const beganMs = monotonicMs()
  while (monotonicMs() - beganMs < MOST_FETCH_MS) {
    await sleep(SAY_MS, signal).catch(() => {})
    if (signal.aborted) return
    const at = now()
    // Taken away with the spool, maybe.
    await utimes(coming, at, at).catch(() => {})
  }
}

/** `targeted`: it ends somewhere. */
type Recovery = 'targeted' | 'standby'

/** Undefined: the spool is of another start, its postmaster is gone, or replay has ended. */
async function findRecovery(spool: Spool): Promise<Recovery | undefined> {
  const { dataDirectory } = spool
  if (!(await isSpoolValid(spool))) return undefined
  const [pid] = (await readFile(join(dataDirectory, 'postmaster.pid'), 'latin1')).split('\n')
  if (!isAlive(Number(pid))) return undefined
  // PostgreSQL looks in this order, too.
  if (await isThere(join(dataDirectory, 'standby.signal'))) return 'standby'
  return (await isThere(join(dataDirectory, 'recovery.signal'))) ? 'targeted' : undefined
}

async function isThere(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    () => false,
  )
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
