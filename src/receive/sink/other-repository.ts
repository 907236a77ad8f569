/**
 * A repository that shall have the WAL, too, but that nobody waits for. One thing is done at a
 * time; when it is slow, tails are passed over, then segments, and that is told.
 *
 * Invariant: a repository that holds other content is never passed over in silence: it ends the
 * sink.
 */
import type { WalToStore } from '../../archive/store-wal.ts'
import { monotonicMs, sleep } from '../../base/clock.ts'
import { Failure } from '../../base/failure.ts'
import { contradictsArchive } from '../judge-failure.ts'
import type { SinkEvent } from '../wal-sink.ts'
import type { RepositorySink } from './repository-sink.ts'
import type { SegmentBuffer } from './segment-buffer.ts'

/** Segments whose bytes are kept for it. */
const MOST_WAITING = 4
/** After a failure nothing is asked of it for so long, but the next segment. */
const PAUSE_MS = 5000

export interface OtherRepositoryOptions {
  readonly flushEveryMs: number
  readonly onEvent: (event: SinkEvent) => void
  readonly onContradiction: (failure: Failure) => void
}

export class OtherRepository {
  readonly #repository: RepositorySink
  readonly #options: OtherRepositoryOptions
  #work: Promise<void> = Promise.resolve()
  #waiting = 0
  #isTailBusy = false
  #notBeforeMs = Number.NEGATIVE_INFINITY

  constructor(repository: RepositorySink, options: OtherRepositoryOptions) {
    this.#repository = repository
    this.#options = options
  }

  offerSegment(segment: SegmentBuffer, wal: WalToStore): void {
    if (this.#waiting >= MOST_WAITING) {
      this.#tellBehind(segment, undefined)
      return
    }
    this.#waiting += 1
    this.#enqueue(segment, async () => {
      try {
        await this.#repository.archive(segment, wal)
      } finally {
        this.#waiting -= 1
      }
    })
  }

  /** Only when it is idle: the next flush brings more. */
  offerTail(segment: SegmentBuffer, upTo: number): void {
    const isBusy = this.#isTailBusy || this.#waiting > 0
    if (isBusy || monotonicMs() < this.#notBeforeMs) return
    this.#isTailBusy = true
    if (!this.#repository.canAppend) {
      this.#notBeforeMs = monotonicMs() + this.#options.flushEveryMs
    }
    this.#enqueue(segment, async () => {
      try {
        await this.#repository.writeTail(segment, upTo)
      } finally {
        this.#isTailBusy = false
      }
    })
  }

  endSegment(segment: SegmentBuffer): void {
    this.#enqueue(segment, async () => {
      await this.#repository.writeTail(segment, segment.length)
      await this.#repository.endSegment(segment)
    })
  }

  #enqueue(segment: SegmentBuffer, act: () => Promise<void>): void {
    segment.hold()
    const told = this.#work.then(act).catch((error: unknown) => {
      if (!(error instanceof Failure)) throw error
      this.#notBeforeMs = monotonicMs() + PAUSE_MS
      this.#tellBehind(segment, error)
      if (contradictsArchive(error)) this.#options.onContradiction(error)
    })
    this.#work = told.finally(() => segment.release())
    this.#work.catch(() => {})
  }

  #tellBehind({ name }: SegmentBuffer, failure: Failure | undefined): void {
    const { url } = this.#repository.storage
    this.#options.onEvent({ kind: 'behind', url, segment: name, failure })
  }

  /** Waits for what is under way, for a while. */
  async finish(patienceMs: number): Promise<void> {
    const stop = new AbortController()
    const end = sleep(patienceMs, stop.signal).catch(() => undefined)
    await Promise.race([this.#work, end])
    stop.abort()
  }

  async close(): Promise<void> {
    await this.#repository.close()
  }
}
