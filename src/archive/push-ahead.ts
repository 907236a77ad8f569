/**
 * `wal push --ahead`: archives the file that PostgreSQL asks for, and in the same call what it will
 * ask for next (docs/design/wal-archive.md, section 6).
 *
 * Invariants: nothing is created before the file asked for is durable, whose failure is that of
 * the call. Segments go side by side only behind the archive's end. A file is acknowledged only
 * when it is durable in every required storage. The first failure among the others ends the batch.
 */
import { stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { monotonicMs } from '../base/clock.ts'
import type { Timeline } from '../postgres/lsn.ts'
import { type Acknowledgements, openAcknowledgements } from './acknowledgements.ts'
import { chooseThreads, CodecPool } from './codec-pool.ts'
import {
  encodedSource,
  findOrigin,
  type PushWalOptions,
  type PushWalResult,
  pushSource,
  pushWalFile,
  type WalOrigin,
} from './push-wal.ts'
import { listWaitingFiles } from './waiting-files.ts'
import { parseWalFileName, type WalFileName } from './wal-file-name.ts'

export interface PushAheadOptions extends PushWalOptions {
  /** After so long nothing new is begun. */
  readonly mostMs?: number
  readonly threads?: number
  /** What the required repositories are; their addresses unless given. */
  readonly places?: readonly string[]
}

export interface PushAheadResult {
  readonly asked: PushWalResult
  /** What was archived and acknowledged besides. */
  readonly ahead: readonly PushWalResult[]
  /** What ended the batch early; PostgreSQL asks for that file again. */
  readonly stoppedBy: unknown
}

const MOST_MS = 10_000
/** Segments that are read, wait or are being stored. */
const MOST_AT_ONCE = 12
const MOST_BYTES_AT_ONCE = 192 * 1024 * 1024

export async function pushAhead(options: PushAheadOptions): Promise<PushAheadResult> {
  const dataDirectory = options.dataDirectory ?? resolve(options.path, '..', '..')
  const acknowledgements = await openAcknowledgements(dataDirectory, describePlaces(options))
  if (acknowledgements === undefined)
    return { asked: await pushWalFile(options), ahead: [], stoppedBy: undefined }
  try {
    const waiting = await chooseWaiting(options, acknowledgements)
    if (waiting.length === 0)
      return { asked: await pushWalFile(options), ahead: [], stoppedBy: undefined }
    const origin = await findOrigin(dataDirectory)
    return await new Batch(options, acknowledgements, origin).run(waiting)
  } finally {
    await acknowledgements.close()
  }
}

function describePlaces({ cluster, storages, places }: PushAheadOptions): string {
  const named = places ?? storages.map(({ url }) => url)
  return `${JSON.stringify([cluster, ...[...named].sort()])}\n`
}

/** What waits besides the file asked for. Empty when that does not wait: nobody asks for it. */
async function chooseWaiting(
  { path }: PushAheadOptions,
  acknowledgements: Acknowledgements,
): Promise<WalFileName[]> {
  const asked = basename(path)
  const files = await listWaitingFiles(dirname(path))
  const names = new Set(files.map(({ name }) => name))
  await acknowledgements.tidy((name) => names.has(name))
  if (!names.has(asked)) return []
  return files.filter(({ name }) => name !== asked && !acknowledgements.names.has(name))
}

class Batch {
  readonly #options: PushAheadOptions
  readonly #acknowledgements: Acknowledgements
  readonly #origin: WalOrigin
  readonly #beganMs = monotonicMs()
  readonly #ahead: PushWalResult[] = []
  readonly #running = new Set<Promise<void>>()
  /** Open when a segment of the timeline was new to every required storage. */
  readonly #gates = new Map<Timeline, PromiseWithResolvers<void>>()
  #others: PushWalOptions['others']
  #isStopped = false
  #stoppedBy: unknown

  constructor(options: PushAheadOptions, acknowledgements: Acknowledgements, origin: WalOrigin) {
    this.#options = options
    this.#origin = origin
    this.#acknowledgements = acknowledgements
    this.#others = options.others
  }

  async run(waiting: readonly WalFileName[]): Promise<PushAheadResult> {
    const asked = pushWalFile(this.#options)
    const rest = this.#pushRest(waiting, asked)
    try {
      const result = await asked
      await rest
      return { asked: result, ahead: this.#ahead, stoppedBy: this.#stoppedBy }
    } finally {
      this.#isStopped = true
      await rest
    }
  }

  /** Never fails: what does is asked for again. */
  async #pushRest(waiting: readonly WalFileName[], asked: Promise<PushWalResult>): Promise<void> {
    const segments = waiting.filter(({ kind }) => kind === 'segment').length
    const size = await walSegmentSize(this.#options.path, waiting)
    const threads = this.#options.threads ?? chooseThreads(segments, size)
    const pool = threads > 0 && segments > 0 ? new CodecPool(threads) : undefined
    const atOnce = Math.max(
      threads + 1,
      Math.min(MOST_AT_ONCE, Math.floor(MOST_BYTES_AT_ONCE / size)),
    )
    let before = Promise.resolve()
    try {
      for (const file of waiting) {
        while (this.#running.size >= atOnce) await Promise.race(this.#running)
        if (file.kind === 'history') await Promise.all(this.#running)
        if (this.#isOver()) break
        const push = this.#pushOne(file, asked, before, pool)
        before = push
        this.#running.add(push)
        void push.then(() => this.#running.delete(push))
        if (file.kind === 'history') await push
      }
      await Promise.all(this.#running)
    } finally {
      await pool?.close()
    }
  }

  #isOver(): boolean {
    return this.#isStopped || monotonicMs() - this.#beganMs > (this.#options.mostMs ?? MOST_MS)
  }

  async #pushOne(
    file: WalFileName,
    asked: Promise<PushWalResult>,
    before: Promise<void>,
    pool: CodecPool | undefined,
  ): Promise<void> {
    try {
      const path = join(dirname(this.#options.path), file.name)
      const segment =
        file.kind === 'segment' && pool !== undefined ? await pool.encode(path) : undefined
      const first = await asked
      const { systemIdentifier } = first
      this.#notice(first)
      await Promise.race([before, this.#gateOf(file.timeline).promise])
      if (this.#isStopped) return
      const options = { ...this.#options, path, systemIdentifier, others: this.#others ?? [] }
      const result =
        segment === undefined
          ? await pushWalFile(options)
          : await pushSource(options, encodedSource(path, segment, systemIdentifier), this.#origin)
      this.#notice(result)
      if (await this.#acknowledgements.acknowledge(file.name)) this.#ahead.push(result)
    } catch (error) {
      this.#isStopped = true
      this.#stoppedBy ??= error
    }
  }

  #gateOf(timeline: Timeline): PromiseWithResolvers<void> {
    const gate = this.#gates.get(timeline) ?? Promise.withResolvers<void>()
    this.#gates.set(timeline, gate)
    return gate
  }

  /**
   * While files are found in the archive, the next one may be there with other content: a server
   * that was set back. So they go one by one until one is new; nothing follows a refused one.
   */
  #notice({ name, kind, outcomes, offers }: PushWalResult): void {
    this.#leaveOut(offers)
    const isNew = kind === 'segment' && outcomes.every(({ outcome }) => outcome === 'stored')
    const timeline = isNew ? parseWalFileName(name)?.timeline : undefined
    if (timeline !== undefined) this.#gateOf(timeline).resolve()
  }

  /** One that did not answer once is not waited for again in this call. */
  #leaveOut(offers: PushWalResult['offers']): void {
    const missed = offers.filter(({ outcome }) => outcome === undefined).map(({ url }) => url)
    if (missed.length > 0) this.#others = this.#others?.filter(({ url }) => !missed.includes(url))
  }
}

/** Of the first waiting segment; what initdb chooses where none can be looked at. */
async function walSegmentSize(path: string, waiting: readonly WalFileName[]): Promise<number> {
  const first = waiting.find(({ kind }) => kind === 'segment')
  const found = first === undefined ? undefined : join(dirname(path), first.name)
  const size =
    found === undefined
      ? 0
      : await stat(found).then(
          (one) => one.size,
          () => 0,
        )
  return size > 0 ? size : 16 * 1024 * 1024
}
