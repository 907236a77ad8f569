/**
 * Hands tasks to worker threads, or runs them on this thread. The first failure ends all;
 * damage is no failure but an answer.
 */
import { Worker } from 'node:worker_threads'
import { fromFailureMessage } from '../../base/failure.ts'
import type { StorageSpecification } from '../../storage/open-storage.ts'
import type { Storage } from '../../storage/storage.ts'
import type {
  Answer,
  FromWorker,
  Knowledge,
  Task,
  ToWorker,
  VerifySettings,
  VerifyWorkerData,
} from './messages.ts'
import { TaskRunner } from './task-runner.ts'

export interface VerifyPool {
  /** Tasks that are worth handing over at once. */
  readonly width: number
  run<T extends Task>(task: T): Promise<Answer<T>>
  /** For all tasks that follow. */
  tell(knowledge: Knowledge): void
  close(): Promise<void>
}

/** A worker holds some indexes and frames of leaves; what it reads is outside its heap. */
const WORKER_HEAP_MB = 192
const WORKER_YOUNG_MB = 4
/** One that it works on, and one in hand. */
const HELD_TASKS = 2

export function openPool(
  storage: StorageSpecification,
  settings: VerifySettings,
  workers: number,
): VerifyPool {
  return new ThreadPool({ ...settings, storage }, workers)
}

/** For storages that only this thread can reach. */
export function openPoolHere(storage: Storage, settings: VerifySettings): VerifyPool {
  const runner = new TaskRunner(storage, settings)
  return {
    width: 1,
    run: async <T extends Task>(task: T) => (await runner.run(task)) as Answer<T>,
    tell: (knowledge) => runner.take(knowledge),
    close: async () => {},
  }
}

interface Waiting {
  readonly worker: Worker
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: Error) => void
}

class ThreadPool implements VerifyPool {
  readonly width: number
  readonly #workers: Worker[] = []
  readonly #held = new Map<Worker, number>()
  readonly #waiting = new Map<number, Waiting>()
  #number = 0
  #failure: Error | undefined

  constructor(data: VerifyWorkerData, count: number) {
    this.width = count * HELD_TASKS
    const url = new URL('./verify-worker.ts', import.meta.url)
    for (let number = 0; number < count; number++) {
      const worker = new Worker(url, {
        workerData: data,
        resourceLimits: {
          maxOldGenerationSizeMb: WORKER_HEAP_MB,
          maxYoungGenerationSizeMb: WORKER_YOUNG_MB,
        },
      })
      worker.on('message', (message: FromWorker) => this.#take(message))
      worker.on('error', (error) => {
        this.#fail(error instanceof Error ? error : new Error(String(error)))
      })
      this.#workers.push(worker)
      this.#held.set(worker, 0)
    }
  }

  async run<T extends Task>(task: T): Promise<Answer<T>> {
    if (this.#failure !== undefined) throw this.#failure
    const worker = this.#idlest()
    const number = this.#number++
    this.#held.set(worker, (this.#held.get(worker) ?? 0) + 1)
    const answer = await new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(number, { worker, resolve, reject })
      this.#send(worker, { kind: 'task', number, task })
    })
    return answer as Answer<T>
  }

  tell(knowledge: Knowledge): void {
    for (const worker of this.#workers) this.#send(worker, { kind: 'knowledge', knowledge })
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map(async (worker) => await worker.terminate()))
  }

  #send(worker: Worker, message: ToWorker): void {
    worker.postMessage(message)
  }

  #idlest(): Worker {
    const byLoad = [...this.#held].sort(([, a], [, b]) => a - b)
    return (byLoad[0] as [Worker, number])[0]
  }

  #take(message: FromWorker): void {
    if (message.kind !== 'answer') {
      const isFailure = message.kind === 'failed'
      this.#fail(isFailure ? fromFailureMessage(message.failure) : new Error(message.error))
      return
    }
    const waiting = this.#waiting.get(message.number)
    if (waiting === undefined) return
    this.#waiting.delete(message.number)
    this.#held.set(waiting.worker, (this.#held.get(waiting.worker) ?? 1) - 1)
    waiting.resolve(message.answer)
  }

  #fail(error: Error): void {
    this.#failure ??= error
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}

/**
 * Runs tasks, as many at once as the pool is wide; `next` gives the next task or undefined.
 * Fulfilled when all have been answered.
 */
export async function runAll<T extends Task>(
  pool: VerifyPool,
  tasks: Iterable<T> | AsyncIterable<T>,
  onAnswer: (task: T, answer: Answer<T>) => void | Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const running = new Set<Promise<void>>()
  let failure: unknown
  for await (const task of tasks) {
    signal?.throwIfAborted()
    const one: Promise<void> = pool
      .run(task)
      .then(async (answer) => await onAnswer(task, answer))
      .catch((error: unknown) => {
        failure ??= error
      })
      .finally(() => running.delete(one))
    running.add(one)
    while (running.size >= pool.width) await Promise.race(running)
    if (failure !== undefined) throw failure
  }
  await Promise.all(running)
  signal?.throwIfAborted()
  if (failure !== undefined) throw failure
}
