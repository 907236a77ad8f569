/**
 * Threads that compute indexes, so that whoever takes WAL in does not wait for them.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { EncodedIndex, IndexAnswer, IndexJob, IndexWorkerData } from './pool/index-worker.ts'

const WORKER_HEAP_MB = 512
/** What all threads together may hold in segments. */
const BUFFER_BYTES = 512 * 1024 * 1024
const MOST_THREADS = 4

/** How many threads are of use for so many segments. */
export function chooseIndexThreads(segments: number, walSegmentSizeBytes: number): number {
  const fitting = Math.max(1, Math.floor(BUFFER_BYTES / (3 * walSegmentSizeBytes)))
  return Math.max(1, Math.min(availableParallelism(), MOST_THREADS, fitting, segments))
}

interface Waiting {
  readonly resolve: (index: EncodedIndex) => void
  readonly reject: (error: Error) => void
}

export class IndexPool {
  readonly #workers: Worker[]
  readonly #waiting = new Map<number, Waiting>()
  #next = 0

  /** `isNice`: other threads of this process come first where a processor is wanted. */
  constructor(threads: number, isNice = false) {
    const url = new URL('./pool/index-worker.ts', import.meta.url)
    this.#workers = Array.from({ length: threads }, () => this.#start(url, { isNice }))
  }

  /** The encoded index of a segment. Jobs go to the threads in turn. */
  async encode(systemIdentifier: string, name: string, bytes: Uint8Array): Promise<EncodedIndex> {
    const number = this.#next++
    const job: IndexJob = { number, systemIdentifier: BigInt(systemIdentifier), name, bytes }
    const answer = new Promise<EncodedIndex>((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject })
    })
    this.#workers[number % this.#workers.length]?.postMessage(job)
    return await answer
  }

  async close(): Promise<void> {
    for (const worker of this.#workers) worker.removeAllListeners('exit')
    await Promise.all(this.#workers.map(async (worker) => await worker.terminate()))
    this.#fail(new Error('the index threads are closed'))
  }

  #start(url: URL, workerData: IndexWorkerData): Worker {
    const resourceLimits = { maxOldGenerationSizeMb: WORKER_HEAP_MB }
    const worker = new Worker(url, { resourceLimits, workerData })
    worker.on('message', (answer: IndexAnswer) => this.#take(answer))
    worker.on('error', (error) => {
      this.#fail(error instanceof Error ? error : new Error(String(error)))
    })
    worker.on('exit', () => this.#fail(new Error('an index thread ended early')))
    return worker
  }

  #take({ number, index, error }: IndexAnswer): void {
    const waiting = this.#waiting.get(number)
    this.#waiting.delete(number)
    if (index !== undefined) waiting?.resolve(index)
    else waiting?.reject(new Error(error ?? 'an index thread failed'))
  }

  /** Whoever waits for an answer that will never come must learn of it. */
  #fail(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}
