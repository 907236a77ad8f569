/**
 * Threads that encode and decode WAL segments, so that all processors take part. Each works on one
 * job at a time; jobs are begun in the order in which they were given.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { fromFailureMessage } from '../base/failure.ts'
import type { DecodeJob, EncodedSegment, FromWorker, ToWorker } from './codec/messages.ts'

export type { EncodedSegment } from './codec/messages.ts'

const WORKER_HEAP_MB = 64
const WORKER_YOUNG_MB = 2
const MOST_THREADS = 4
/** What all threads together may hold in buffers: a segment each, and its encoded form. */
const BUFFER_BYTES = 512 * 1024 * 1024

/** How many threads are of use for so many segments; 0: they are too large to hold several. */
export function chooseThreads(segments: number, walSegmentSizeBytes: number): number {
  const fitting = Math.floor(BUFFER_BYTES / (2 * walSegmentSizeBytes))
  // Starting a thread takes as long as two or three segments.
  return Math.min(availableParallelism(), MOST_THREADS, fitting, Math.ceil(segments / 3))
}

interface Pending {
  readonly job: ToWorker
  readonly resolve: (message: FromWorker) => void
  readonly reject: (error: Error) => void
}

export class CodecPool {
  readonly #workers: Worker[] = []
  readonly #idle: Worker[] = []
  readonly #waiting: Pending[] = []
  readonly #running = new Map<Worker, Pending>()
  #failure: Error | undefined

  constructor(threads: number) {
    const url = new URL('./codec/wal-worker.ts', import.meta.url)
    for (let number = 0; number < threads; number++) {
      const worker = new Worker(url, {
        resourceLimits: {
          maxOldGenerationSizeMb: WORKER_HEAP_MB,
          maxYoungGenerationSizeMb: WORKER_YOUNG_MB,
        },
      })
      worker.on('message', (message: FromWorker) => {
        this.#take(worker, message)
      })
      for (const event of ['error', 'messageerror'] as const) {
        worker.on(event, (error) => {
          this.#fail(error instanceof Error ? error : new Error(String(error)))
        })
      }
      worker.on('exit', () => {
        this.#fail(new Error('a WAL thread ended early'))
      })
      this.#workers.push(worker)
      this.#idle.push(worker)
    }
  }

  /** Reads, hashes and compresses a segment; TM1406 when it is none. */
  async encode(path: string): Promise<EncodedSegment> {
    const message = await this.#run({ kind: 'encode', path })
    if (message.kind !== 'encoded') throw new Error(`a WAL thread said ${message.kind}`)
    return message.segment
  }

  /** Verifies an object and writes its content; TM1601, TM1411. */
  async decode(job: Omit<DecodeJob, 'kind'>): Promise<void> {
    await this.#run({ kind: 'decode', ...job })
  }

  async close(): Promise<void> {
    for (const worker of this.#workers) worker.removeAllListeners('exit')
    await Promise.all(this.#workers.map(async (worker) => await worker.terminate()))
    this.#fail(new Error('the WAL threads are closed'))
  }

  async #run(job: ToWorker): Promise<FromWorker> {
    if (this.#failure !== undefined) throw this.#failure
    const answer = new Promise<FromWorker>((resolve, reject) => {
      this.#waiting.push({ job, resolve, reject })
    })
    this.#next()
    const message = await answer
    if (message.kind === 'failed') throw fromFailureMessage(message.failure)
    if (message.kind === 'crashed') throw new Error(message.error)
    return message
  }

  #next(): void {
    const worker = this.#idle.pop()
    if (worker === undefined) return
    const pending = this.#waiting.shift()
    if (pending === undefined) {
      this.#idle.push(worker)
      return
    }
    this.#running.set(worker, pending)
    worker.postMessage(pending.job)
  }

  #take(worker: Worker, message: FromWorker): void {
    this.#running.get(worker)?.resolve(message)
    this.#running.delete(worker)
    this.#idle.push(worker)
    this.#next()
  }

  /** Whoever waits for an answer that will never come must learn of it. */
  #fail(error: Error): void {
    this.#failure ??= error
    for (const pending of [...this.#running.values(), ...this.#waiting]) pending.reject(error)
    this.#running.clear()
    this.#waiting.length = 0
  }
}
