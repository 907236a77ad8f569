/**
 * One stream of one timeline: from the server's socket into the sink, and back what is flushed
 * (docs/design/receive.md, sections 3 and 4).
 *
 * Invariant: the server is told nothing that the sink has not made durable, and no byte is
 * left out: WAL that does not begin where the last one ended is an error.
 */
import { monotonicMs, sleep } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { formatLsn, type Lsn, lsn, type Timeline } from '../postgres/lsn.ts'
import type {
  NextTimeline,
  ReplicationSession,
  WalStream,
} from '../postgres/replication-session.ts'
import { contradictsArchive } from './judge-failure.ts'
import type { WalSink } from './wal-sink.ts'

export interface StreamOptions {
  readonly slot: string
  readonly timeline: Timeline
  /** The start of a segment. */
  readonly start: Lsn
  readonly synchronous: boolean
  readonly statusEveryMs: number
  /** After so much silence a reply is asked for; after as much again the peer is dead. */
  readonly silenceMs: number
  readonly walSegmentSizeBytes: number
  /** The stream is ended once this is durable. */
  readonly until: Lsn | undefined
  /** Aborted: what came is flushed, then the stream is ended. */
  readonly signal: AbortSignal
  readonly onFlush: (position: StreamPosition) => void
  /** A flush failed and will be tried again; nothing is reported meanwhile. */
  readonly onFlushFailure: (failure: Failure) => void
}

export interface StreamPosition {
  readonly timeline: Timeline
  readonly received: Lsn
  readonly flushed: Lsn
  /** The end of WAL at the server, as it last said. */
  readonly serverEnd: Lsn
}

/** `next` is undefined when the stream was ended by `until` or the signal. */
export interface StreamOutcome {
  readonly next: NextTimeline | undefined
  /** All that came is durable up to here. */
  readonly flushed: Lsn
}

/** Without `synchronous`: so much WAL in time is what a loss of this machine may cost. */
const FLUSH_EVERY_MS = 100
const TICK_MS = 250
const LONGEST_RETRY_MS = 30_000

/** Rejects with what ended the connection, or with what the sink could not take. */
export async function streamWal(
  session: ReplicationSession,
  sink: WalSink,
  options: StreamOptions,
): Promise<StreamOutcome> {
  const pump = new Pump(session, sink, options)
  const ticking = new AbortController()
  const stop = (): void => pump.stop()
  try {
    await pump.begin()
    options.signal.addEventListener('abort', stop, { once: true })
    if (options.signal.aborted) stop()
    const ticks = pump.tick(ticking.signal)
    ticks.catch(() => {})
    const next = await pump.ended()
    return { next, flushed: await pump.flushAll() }
  } finally {
    options.signal.removeEventListener('abort', stop)
    ticking.abort()
    pump.leave()
  }
}

class Pump {
  readonly #session: ReplicationSession
  readonly #sink: WalSink
  readonly #options: StreamOptions
  #stream: WalStream | undefined
  #received: Lsn
  #flushed: Lsn
  #serverEnd: Lsn
  #flushing: Promise<void> | undefined
  #isFlushWanted = false
  #isPaused = false
  #isStopping = false
  readonly #left = new AbortController()
  #flushedAtMs = monotonicMs()
  #reportedAtMs = monotonicMs()

  constructor(session: ReplicationSession, sink: WalSink, options: StreamOptions) {
    this.#session = session
    this.#sink = sink
    this.#options = options
    this.#received = options.start
    // What an earlier opening has left may be in the kernel's memory only, and was not synced.
    this.#flushed = options.start
    this.#serverEnd = options.start
  }

  async begin(): Promise<void> {
    const { slot, start, timeline } = this.#options
    const listener = {
      wal: (at: Lsn, bytes: Uint8Array, walEnd: Lsn) => this.#take(at, bytes, walEnd),
      keepalive: (walEnd: Lsn, wantsReply: boolean) => this.#answer(walEnd, wantsReply),
      drained: () => this.#drained(),
    }
    // No report yet: it would move the slot to a place from which nothing has come so far.
    this.#stream = await this.#session.startStreaming({ slot, lsn: start, timeline }, listener)
  }

  async ended(): Promise<NextTimeline | undefined> {
    return await this.#stream?.ended
  }

  stop(): void {
    this.#isStopping = true
    this.#resume()
    this.#stream?.stop()
  }

  /** The stream is over: whoever has the sink flushes it, or closes it. */
  leave(): void {
    this.#left.abort()
  }

  /** Everything that came, and its report. */
  async flushAll(): Promise<Lsn> {
    while (this.#flushed < this.#received) {
      await this.#flushing
      if (this.#flushed >= this.#received) break
      this.#settle(await this.#sink.flush())
    }
    return this.#flushed
  }

  #take(at: Lsn, bytes: Uint8Array, walEnd: Lsn): void {
    if (at !== this.#received) throw notContiguous(this.#session.address, this.#received, at)
    if (walEnd > this.#serverEnd) this.#serverEnd = walEnd
    const size = this.#options.walSegmentSizeBytes
    const toEnd = size - Number(at % BigInt(size))
    this.#append(bytes.subarray(0, toEnd))
    if (bytes.length >= toEnd && this.#isFarBehind()) this.#flush()
    if (bytes.length > toEnd) this.#append(bytes.subarray(toEnd))
    if (this.#sink.wantsFlush) this.#pause()
  }

  #append(bytes: Uint8Array): void {
    this.#sink.append(this.#options.timeline, this.#received, bytes)
    this.#received = lsn(this.#received + BigInt(bytes.length))
    if (this.#received > this.#serverEnd) this.#serverEnd = this.#received
  }

  /** What comes next is a whole segment, so its tail is not worth writing. */
  #isFarBehind(): boolean {
    return this.#serverEnd - this.#received > BigInt(this.#options.walSegmentSizeBytes)
  }

  #answer(walEnd: Lsn, wantsReply: boolean): void {
    if (walEnd > this.#serverEnd) this.#serverEnd = walEnd
    if (!wantsReply) return
    this.#report()
    // A server that shuts down waits until all that it sent is flushed (WalSndDone).
    if (this.#flushed < this.#received) this.#flush()
  }

  #drained(): void {
    const isWanted = this.#isPaused || this.#flushed < this.#received
    if (isWanted && this.#isDue()) this.#flush()
  }

  #isDue(): boolean {
    if (this.#isPaused) return true
    if (this.#isFarBehind()) return false
    return this.#options.synchronous || monotonicMs() - this.#flushedAtMs >= FLUSH_EVERY_MS
  }

  #flush(): void {
    if (this.#flushing !== undefined) {
      this.#isFlushWanted = true
      return
    }
    this.#isFlushWanted = false
    this.#flushedAtMs = monotonicMs()
    if (this.#options.synchronous && this.#flushNow()) return
    this.#flushing = this.#flushOnce()
      .catch((error: unknown) => this.#session.abandon(error))
      .finally(() => {
        this.#flushing = undefined
        if (this.#isFlushWanted) this.#drained()
      })
  }

  /** Commits wait for this. False: flush() must do it, or tell why it cannot be done. */
  #flushNow(): boolean {
    let flushed: Lsn | undefined
    try {
      flushed = this.#sink.flushNow?.()
    } catch {
      return false
    }
    if (flushed === undefined) return false
    try {
      this.#settle(flushed)
    } catch (error) {
      this.#session.abandon(error)
    }
    return true
  }

  /** Tries until it succeeds, unless what is archived contradicts, or the connection is gone. */
  async #flushOnce(): Promise<void> {
    for (let pauseMs = TICK_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_RETRY_MS)) {
      try {
        this.#settle(await this.#sink.flush())
        return
      } catch (error) {
        const isOver = this.#isStopping || this.#left.signal.aborted
        if (!isFailure(error) || contradictsArchive(error) || isOver) throw error
        this.#options.onFlushFailure(error)
        this.#pause()
      }
      await sleep(pauseMs, AbortSignal.any([this.#options.signal, this.#left.signal]))
    }
  }

  #settle(flushed: Lsn): void {
    if (flushed > this.#flushed) this.#flushed = flushed
    this.#report()
    const { timeline, until } = this.#options
    const position = { timeline, received: this.#received, serverEnd: this.#serverEnd }
    this.#options.onFlush({ ...position, flushed: this.#flushed })
    if (until !== undefined && this.#confirmed() >= until) this.stop()
    else if (this.#isPaused && !this.#sink.wantsFlush) this.#resume()
  }

  /** What is durable and came again from this server. */
  #confirmed(): Lsn {
    return this.#flushed < this.#received ? this.#flushed : this.#received
  }

  #report(wantsReply = false): void {
    this.#reportedAtMs = monotonicMs()
    const confirmed = this.#confirmed()
    this.#stream?.report(confirmed, confirmed, wantsReply)
  }

  #pause(): void {
    if (this.#isPaused || this.#isStopping) return
    this.#isPaused = true
    this.#stream?.pause()
  }

  #resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#stream?.resume()
  }

  /** Flushes and reports that are due, and the watch over a silent peer. */
  async tick(signal: AbortSignal): Promise<void> {
    let silentMs = 0
    let heardAtMs = this.#session.heardAtMs
    let isAsked = false
    for (;;) {
      await sleep(TICK_MS, signal)
      // Counted in turns of ours: time in which this process stood still is no silence.
      const isSilent = this.#session.heardAtMs === heardAtMs && !this.#isPaused
      heardAtMs = this.#session.heardAtMs
      silentMs = isSilent ? silentMs + TICK_MS : 0
      if (!isSilent) isAsked = false
      if (silentMs >= this.#options.silenceMs) {
        if (isAsked) {
          this.#session.abandon(silent(this.#session.address, this.#options.silenceMs))
          return
        }
        isAsked = true
        silentMs = 0
        this.#report(true)
      }
      this.#drained()
      if (monotonicMs() - this.#reportedAtMs >= this.#options.statusEveryMs) this.#report()
    }
  }
}

function notContiguous(address: string, expected: Lsn, got: Lsn): Failure {
  return new Failure('TM1421', {
    message: `the WAL from ${address} does not follow on what came before`,
    because: `it begins at ${formatLsn(got)}, and ${formatLsn(expected)} was next`,
    fix: 'connect to the server itself, not to a pooler or proxy',
  })
}

function silent(address: string, silenceMs: number): Failure {
  return new Failure('TM1422', {
    message: `the server at ${address} fell silent`,
    because: `it sent nothing for ${Math.round(silenceMs / 1000)} s, was asked, and gave no answer`,
    fix: 'check the network and the server; the receiver connects again by itself',
  })
}
