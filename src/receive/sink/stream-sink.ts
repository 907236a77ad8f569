/**
 * The sink: one segment after the other, over all repositories.
 *
 * Order: a completed segment is encoded and stored from the moment on in which it is complete;
 * a flush waits for those, then writes the tail of the current one. What a crash leaves at each
 * step is in docs/design/tails.md, section 2.
 */
import { parseWalFileName, type WalFileName } from '../../archive/wal-file-name.ts'
import { SegmentEncoder } from '../../archive/segment-encoder.ts'
import type { WalToStore } from '../../archive/store-wal.ts'
import { parseFirstPage } from '../../archive/judge-segment.ts'
import { monotonicMs, sleep } from '../../base/clock.ts'
import { Failure } from '../../base/failure.ts'
import { formatLsn, type Lsn, lsn, segmentNumber, type Timeline } from '../../postgres/lsn.ts'
import { contradictsArchive } from '../judge-failure.ts'
import type { SinkEvent, WalSink } from '../wal-sink.ts'
import { OtherRepository } from './other-repository.ts'
import type { RepositorySink } from './repository-sink.ts'
import { BufferPool, SegmentBuffer } from './segment-buffer.ts'

export interface StreamSinkOptions {
  readonly required: readonly RepositorySink[]
  readonly others: readonly RepositorySink[]
  readonly cluster: string
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  readonly flushEveryMs: number
  readonly patienceMs: number
  readonly onEvent: (event: SinkEvent) => void
  readonly onArchived: (name: string, content: Uint8Array) => Promise<void>
}

/** Memory for segments that are complete and not stored yet; one is always let through. */
const MOST_WAITING_BYTES = 48 * 1024 * 1024

interface CompletedSegment {
  readonly segment: SegmentBuffer
  archiving: Promise<void>
}

export class StreamSink implements WalSink {
  readonly #options: StreamSinkOptions
  readonly #others: readonly OtherRepository[]
  readonly #pool = new BufferPool()
  #current: SegmentBuffer | undefined
  /** Of the current segment. */
  #encoder = new SegmentEncoder()
  #completed: CompletedSegment[] = []
  #running: Promise<Lsn> | undefined
  #next: Promise<Lsn> | undefined
  #ended: Failure | undefined
  #isClosing = false
  /** Ends the wait for the next piece. */
  #wake = new AbortController()
  #lastPieceMs = Number.NEGATIVE_INFINITY

  constructor(options: StreamSinkOptions) {
    this.#options = options
    this.#others = options.others.map((repository) => {
      return new OtherRepository(repository, {
        flushEveryMs: options.flushEveryMs,
        onEvent: options.onEvent,
        onContradiction: (failure) => {
          this.#ended ??= failure
        },
      })
    })
  }

  append(timeline: Timeline, start: Lsn, bytes: Uint8Array): void {
    if (this.#ended !== undefined) throw this.#ended
    this.#requireNext(timeline, start)
    let rest = bytes
    let at: bigint = start
    while (rest.length > 0) {
      this.#current ??= this.#begin(timeline, lsn(at))
      const count = this.#current.append(rest)
      if (this.#encoder.isDue(this.#current.length)) {
        this.#encoder.feed(this.#current.view(0, this.#current.length))
      }
      rest = rest.subarray(count)
      at += BigInt(count)
      if (this.#current.isWhole) this.#complete(this.#current)
    }
  }

  #requireNext(timeline: Timeline, start: Lsn): void {
    const current = this.#current
    if (current !== undefined) {
      if (current.timeline === timeline && current.end === start) return
    } else {
      const last = this.#lastEnd
      const isNext = last === undefined || last.timeline !== timeline || last.end === start
      if (isNext && start % BigInt(this.#options.walSegmentSizeBytes) === 0n) return
    }
    const expected = current?.end ?? this.#lastEnd?.end
    const where = expected === undefined ? 'the start of a segment' : formatLsn(expected)
    throw new Error(`WAL of timeline ${timeline} at ${formatLsn(start)}, expected ${where}`)
  }

  #lastEnd: { readonly timeline: Timeline; readonly end: Lsn } | undefined

  #begin(timeline: Timeline, at: Lsn): SegmentBuffer {
    const size = this.#options.walSegmentSizeBytes
    return new SegmentBuffer(timeline, segmentNumber(at, size), size, this.#pool)
  }

  #complete(segment: SegmentBuffer): void {
    this.#current = undefined
    this.#lastEnd = { timeline: segment.timeline, end: segment.end }
    const archiving = this.#archive(segment, this.#encoder, this.#completed.at(-1)?.archiving)
    this.#encoder = new SegmentEncoder()
    // Met by the flush that waits for it.
    archiving.catch(() => {})
    this.#completed.push({ segment, archiving })
    this.#wake.abort()
  }

  /** Stored only after `before`, the segment before it: behind a refused one there is nothing. */
  async #archive(
    segment: SegmentBuffer,
    encoder: SegmentEncoder,
    before?: Promise<void>,
  ): Promise<void> {
    const { cluster, systemIdentifier, required, onEvent } = this.#options
    const content = segment.view(0, segment.sizeBytes)
    const headerTimeline = parseFirstPage(content)?.timeline ?? segment.timeline
    const object = { systemIdentifier, name: segment.name, headerTimeline, content }
    const { bytes, contentHash } = await encoder.finish(object)
    await before
    const file = parseWalFileName(segment.name) as WalFileName
    const wal: WalToStore = { cluster, systemIdentifier, file, contentHash, bytes: () => bytes }
    const results = await Promise.allSettled(
      required.map(async (repository) => await repository.archive(segment, wal)),
    )
    this.#throwFirst(results)
    for (const other of this.#others) other.offerSegment(segment, wal)
    onEvent({ kind: 'segment', name: segment.name, storedBytes: bytes.length })
    segment.hold()
    void this.#options.onArchived(segment.name, content).finally(() => segment.release())
  }

  #throwFirst(results: readonly PromiseSettledResult<unknown>[]): void {
    const reasons = results.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
    const contradiction = reasons.find((one) => one instanceof Failure && contradictsArchive(one))
    if (contradiction !== undefined) this.#ended ??= contradiction as Failure
    const first: unknown = contradiction ?? reasons[0]
    if (first !== undefined) throw first
  }

  get wantsFlush(): boolean {
    const { walSegmentSizeBytes: size } = this.#options
    const most = Math.max(1, Math.floor(MOST_WAITING_BYTES / size))
    return this.#completed.length >= most
  }

  flushNow(): Lsn | undefined {
    const { required } = this.#options
    const segment = this.#current
    const isBusy = this.#running !== undefined || this.#completed.length > 0
    if (this.#ended !== undefined || isBusy || segment === undefined) return undefined
    if (!required.every((repository) => repository.canWriteNow(segment))) return undefined
    const { length, end } = segment
    for (const repository of required) repository.writeTailNow(length)
    for (const other of this.#others) other.offerTail(segment, length)
    return end
  }

  async flush(): Promise<Lsn> {
    if (this.#running === undefined) return await this.#startFlush()
    this.#next ??= this.#running.then(
      async () => await this.#startFlush(),
      async () => await this.#startFlush(),
    )
    return await this.#next
  }

  async #startFlush(): Promise<Lsn> {
    this.#next = undefined
    const running = this.#flush()
    this.#running = running
    try {
      return await running
    } finally {
      if (this.#running === running) this.#running = undefined
    }
  }

  async #flush(): Promise<Lsn> {
    if (this.#ended !== undefined) throw this.#ended
    const segment = this.#current
    const upTo = segment?.length ?? 0
    const target = segment?.end ?? this.#lastEnd?.end ?? lsn(0n)
    await this.#awaitCompleted(target)
    if (segment === undefined || upTo === 0) return target
    // One that became whole meanwhile needs no tail: its archiving makes it durable.
    if (segment.isWhole) await this.#awaitCompleted(target)
    else await this.#flushTail(segment, upTo)
    return target
  }

  /** Those that begin before `before`, in order; one that failed is tried again. */
  async #awaitCompleted(before: Lsn): Promise<void> {
    for (;;) {
      const one = this.#completed[0]
      if (one === undefined || one.segment.start >= before) return
      try {
        await one.archiving
      } catch (error) {
        const again =
          this.#ended === undefined ? this.#archive(one.segment, new SegmentEncoder()) : undefined
        if (again === undefined) throw error
        again.catch(() => {})
        one.archiving = again
        await again
      }
      // Flushes follow one another: none still writes its tail. Others hold it themselves.
      this.#completed.shift()?.segment.release()
    }
  }

  async #flushTail(segment: SegmentBuffer, upTo: number): Promise<void> {
    const { required } = this.#options
    const appending = required.filter(({ canAppend }) => canAppend)
    const slow = required.filter(({ canAppend }) => !canAppend)
    const results = await Promise.allSettled(
      appending.map(async (repository) => await repository.writeTail(segment, upTo)),
    )
    this.#throwFirst(results)
    for (const other of this.#others) other.offerTail(segment, upTo)
    if (slow.length === 0) return
    // A piece that is not due yet is waited for; a segment that completes meanwhile needs none.
    await this.#untilNextPiece(segment)
    if (segment.isWhole) return await this.#awaitCompleted(segment.end)
    this.#lastPieceMs = monotonicMs()
    const pieces = await Promise.allSettled(
      slow.map(async (repository) => await repository.writeTail(segment, upTo)),
    )
    this.#throwFirst(pieces)
  }

  async #untilNextPiece(segment: SegmentBuffer): Promise<void> {
    const left = this.#lastPieceMs + this.#options.flushEveryMs - monotonicMs()
    if (left <= 0 || this.#isClosing || segment.isWhole) return
    this.#wake = new AbortController()
    await sleep(left, this.#wake.signal).catch(() => undefined)
  }

  async endTimeline(timeline: Timeline, end: Lsn): Promise<void> {
    const segment = this.#current
    if (segment !== undefined && segment.timeline !== timeline) {
      throw new Error(
        `timeline ${timeline} ends at ${formatLsn(end)}, but ${segment.timeline} is on`,
      )
    }
    await this.#flushNow()
    if (segment !== undefined) {
      const { required } = this.#options
      for (const repository of required) await repository.endSegment(segment)
      for (const other of this.#others) other.endSegment(segment)
      segment.release()
    }
    this.#current = undefined
    this.#lastEnd = undefined
    this.#encoder.discard()
    this.#encoder = new SegmentEncoder()
  }

  /** Not behind the time between two pieces. */
  async #flushNow(): Promise<void> {
    const before = this.#isClosing
    this.#isClosing = true
    this.#wake.abort()
    try {
      await this.flush()
    } finally {
      this.#isClosing = before
    }
  }

  async close(): Promise<void> {
    try {
      if (this.#ended === undefined) await this.#flushNow()
      await Promise.all(
        this.#others.map(async (other) => await other.finish(this.#options.patienceMs)),
      )
    } finally {
      this.#encoder.discard()
      for (const repository of this.#options.required) await repository.close()
      for (const other of this.#others) await other.close()
    }
  }
}
