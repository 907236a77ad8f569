/**
 * The workers of a file restore and the queue before them. The first failure ends all.
 */
import { Worker } from 'node:worker_threads'
import { Failure, fromFailureMessage } from '../../base/failure.ts'
import type { PassedOverListener } from '../../storage/fallback-storage.ts'
import type { Batch } from './batch.ts'
import type { FromWorker, ToWorker, WorkerSettings } from './messages.ts'
import { TaskQueues } from './task-queues.ts'

export type TaskResult = Extract<FromWorker, { kind: 'done' }>

/** Tasks that a worker holds: one that it works on, one whose frames it reads, one in hand. */
const HELD_TASKS = 3
/** A worker needs some MB of heap; what it holds of packs and frames is outside of it. */
const WORKER_HEAP_MB = 96
/** Buffers outside the heap are freed by its collections: a small nursery keeps them few. */
const WORKER_YOUNG_MB = 2

/** What a file restore asks of its workers. */
export interface RestorePool {
  run(batch: Batch, onResult: (result: TaskResult) => void): Promise<void>
  fail(error: Error): void
  throwFailure(): void
  close(): Promise<void>
}

export class WorkerPool implements RestorePool {
  readonly #workers: Worker[] = []
  #failure: Error | undefined
  #wake: (() => void) | undefined
  #onResult: (result: TaskResult) => void = () => {}
  readonly #held = new Map<Worker, number>()
  /** Hears of what a worker had to take from another repository. */
  onPassedOver: PassedOverListener = () => {}
  #ended = 0

  constructor(settings: WorkerSettings, count: number) {
    const url = new URL('./restore-worker.ts', import.meta.url)
    for (let number = 0; number < count; number++) {
      const worker = new Worker(url, {
        workerData: settings,
        resourceLimits: {
          maxOldGenerationSizeMb: WORKER_HEAP_MB,
          maxYoungGenerationSizeMb: WORKER_YOUNG_MB,
        },
      })
      worker.on('message', (message: FromWorker) => {
        this.#take(worker, message)
      })
      worker.on('error', (error) => {
        this.fail(error instanceof Error ? error : new Error(String(error)))
      })
      // Whoever waits for an answer that will never come must learn of it.
      worker.on('messageerror', (error) => {
        this.fail(error)
      })
      worker.on('exit', () => {
        this.fail(new Error('a restore worker ended early'))
      })
      this.#workers.push(worker)
    }
  }

  /** Runs all tasks of a batch; fulfilled when every file of it was handed to the kernel. */
  async run(batch: Batch, onResult: (result: TaskResult) => void): Promise<void> {
    this.#onResult = onResult
    this.#ended = 0
    for (const worker of this.#workers) {
      const { files, fingerprints } = batch
      this.#send(worker, { kind: 'batch', files, fingerprints })
      this.#held.set(worker, 0)
    }
    const queues = new TaskQueues(batch.queues, this.#workers.length)
    while (!queues.isEmpty) {
      const number = this.#idlest()
      if (number === undefined) {
        await this.#change()
        continue
      }
      const worker = this.#workers[number] as Worker
      this.#held.set(worker, (this.#held.get(worker) ?? 0) + 1)
      this.#send(worker, queues.take(number))
    }
    for (const worker of this.#workers) this.#send(worker, { kind: 'end' })
    while (this.#ended < this.#workers.length) await this.#change()
  }

  /** Makes run() fail with `error`, unless something failed before. */
  fail(error: Error): void {
    this.#failure ??= error
    this.#wake?.()
  }

  /** What fail() was told, for whoever waits for something else than run(). */
  throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map(async (worker) => await worker.terminate()))
  }

  #send(worker: Worker, message: ToWorker): void {
    worker.postMessage(message)
  }

  /** The number of the worker with the least to do; undefined while all have enough. */
  #idlest(): number | undefined {
    let best: number | undefined
    let least = HELD_TASKS
    for (const [number, worker] of this.#workers.entries()) {
      const held = this.#held.get(worker) ?? 0
      if (held < least) {
        best = number
        least = held
      }
    }
    return best
  }

  async #change(): Promise<void> {
    if (this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    this.throwFailure()
  }

  #take(worker: Worker, message: FromWorker): void {
    switch (message.kind) {
      case 'done':
        this.#held.set(worker, (this.#held.get(worker) ?? 1) - 1)
        this.#onResult(message)
        break
      case 'ended':
        this.#ended++
        break
      case 'passed-over':
        this.onPassedOver(message.event)
        return
      case 'failed':
        this.fail(fromFailureMessage(message.failure))
        return
      case 'crashed':
        this.fail(new Error(message.error))
        return
    }
    this.#wake?.()
  }
}

/** What ends a restore that the user interrupts. */
export function interrupted(): Failure {
  return new Failure('TM1217', {
    message: 'the restore was interrupted',
    fix: 'run the same restore again: it clears what this one wrote',
  })
}
