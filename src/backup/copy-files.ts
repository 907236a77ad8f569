/**
 * Runs the copy workers: batches out, results in. Knows nothing of PostgreSQL.
 *
 * Invariant: when run() is fulfilled all packs of the workers are durable. When anything
 * fails or the caller aborts, the workers close what is open and leave no visible pack of
 * this moment; closed packs belong to the attempt and are removed through its hold. After
 * close() no thread is left.
 */
import { Worker } from 'node:worker_threads'
import { type Failure, fromFailureMessage } from '../base/failure.ts'
import type { PackSummary } from '../repository/pack-writer.ts'
import type { StorageSpecification } from '../storage/open-storage.ts'
import type { WriteGroup } from '../storage/write-group.ts'
import { CopyEngine } from './copy/copy-engine.ts'
import type {
  CopyPiece,
  CopyResult,
  CopySetup,
  FromWorker,
  ToWorker,
  WorkerStart,
} from './copy/protocol.ts'

/** Batches that wait in a worker: it never idles, and an abort is not far. */
const BATCHES_AHEAD = 2

type Batches = Iterable<readonly CopyPiece[]>

export interface CopyHooks {
  readonly onBytes: (bytes: number) => void
  readonly onResult: (result: CopyResult) => void
  /** A thread has dropped a target. */
  readonly onDropped: (target: number, failure: Failure) => void
  readonly signal: AbortSignal
}

export interface CopyRunner {
  /** The runner's packs have sequence numbers below it, and with a step of one more. */
  readonly workers: number
  /** Much is to be copied soon: a runner with threads starts them. */
  expectMuch(): void
  /** `bytes` is how much is to be read in all. */
  run(batches: Batches, setup: CopySetup, hooks: CopyHooks, bytes: number): Promise<PackSummary[]>
  close(): Promise<void>
}

export type StartCopyRunner = (
  group: WriteGroup,
  workers: number,
  specifications: readonly StorageSpecification[],
) => CopyRunner

/** Sequence numbers from `workers` on are free for the caller's own packs: step by this. */
export function sequenceStep(workers: number): number {
  return workers + 1
}

/** So little is read in the caller's thread: starting threads would take longer. */
const INLINE_BYTES = 8 * 1024 * 1024

/**
 * Threads where there is much to read. Told early, they load their code while the caller
 * still waits for the server's checkpoint.
 */
export function startCopy(
  group: WriteGroup,
  workers: number,
  specifications: readonly StorageSpecification[],
): CopyRunner {
  const stop = new SharedArrayBuffer(4)
  const targets = specifications.map((storage, number) => {
    return { storage, required: group.members[number]?.required ?? false }
  })
  const start: WorkerStart = { targets, dropped: group.memory, stop }
  let threads: readonly CopyThread[] | undefined
  const startThreads = (): readonly CopyThread[] => {
    threads ??= Array.from({ length: workers }, () => new CopyThread(start))
    return threads
  }
  return {
    workers,
    expectMuch: () => void startThreads(),
    run: async (batches, setup, hooks, bytes) => {
      if (bytes <= INLINE_BYTES) {
        return await copyInThread(group, workers, batches, setup, hooks)
      }
      return await runThreads(startThreads(), batches, setup, hooks, stop)
    },
    close: async () => {
      Atomics.store(new Int32Array(stop), 0, 1)
      await Promise.all((threads ?? []).map((thread) => thread.end()))
    },
  }
}

async function runThreads(
  threads: readonly CopyThread[],
  batches: Batches,
  setup: CopySetup,
  hooks: CopyHooks,
  stop: SharedArrayBuffer,
): Promise<PackSummary[]> {
  const queue = batches[Symbol.iterator]()
  const failed = new AbortController()
  const signal = AbortSignal.any([hooks.signal, failed.signal])
  const raise = (): void => void Atomics.store(new Int32Array(stop), 0, 1)
  signal.addEventListener('abort', raise, { once: true })
  const step = sequenceStep(threads.length)
  const runs = threads.map((thread, number) => {
    const begin = { ...setup, firstSequence: number, sequenceStep: step }
    return thread.run(begin, queue, { ...hooks, signal }).catch((error: unknown) => {
      failed.abort()
      throw error
    })
  })
  const outcomes = await Promise.allSettled(runs)
  signal.removeEventListener('abort', raise)
  const reasons = outcomes.flatMap((outcome) =>
    outcome.status === 'rejected' ? [outcome.reason as unknown] : [],
  )
  hooks.signal.throwIfAborted()
  const first = reasons.find((reason) => !isAbort(reason)) ?? reasons[0]
  if (first !== undefined) throw first
  return outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? outcome.value : []))
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

/** One thread: started early, run once, ended in whatever way. */
class CopyThread {
  readonly #worker: Worker
  #early: Error | undefined
  #onMessage: ((message: FromWorker) => void) | undefined
  #onDeath: ((error: Error) => void) | undefined

  constructor(start: WorkerStart) {
    this.#worker = new Worker(new URL('./copy/copy-worker.ts', import.meta.url), {
      resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 512 },
      workerData: start,
    })
    this.#worker.on('message', (message: FromWorker) => this.#onMessage?.(message))
    this.#worker.on('error', (error: Error) => this.#die(error))
    this.#worker.on('exit', () => this.#die(new Error('a copy worker ended early')))
  }

  #die(error: Error): void {
    this.#early ??= error
    this.#onDeath?.(error)
  }

  async run(
    setup: Extract<ToWorker, { type: 'begin' }>['setup'],
    queue: Iterator<readonly CopyPiece[]>,
    hooks: CopyHooks,
  ): Promise<PackSummary[]> {
    if (this.#early !== undefined) throw this.#early
    const send = (message: ToWorker): void => this.#worker.postMessage(message)
    const abort = (): void => send({ type: 'abort' })
    const feed = makeFeed(queue, hooks.signal, send)
    try {
      return await new Promise<PackSummary[]>((resolve, reject) => {
        this.#onDeath = reject
        this.#onMessage = (message) => {
          if (message.type === 'copied') {
            hooks.onBytes(message.bytes)
            feed(1)
          } else if (message.type === 'results') message.results.forEach(hooks.onResult)
          else if (message.type === 'dropped') {
            hooks.onDropped(message.target, fromFailureMessage(message.failure))
          } else if (message.type === 'finished') resolve([...message.packs])
          else if (message.type === 'failed') reject(workerFailure(message))
          else reject(new DOMException('aborted', 'AbortError'))
        }
        send({ type: 'begin', setup })
        if (hooks.signal.aborted) return abort()
        hooks.signal.addEventListener('abort', abort, { once: true })
        feed(0)
      })
    } finally {
      hooks.signal.removeEventListener('abort', abort)
      this.#onMessage = undefined
      this.#onDeath = undefined
    }
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

/** Keeps a few batches waiting in a worker, and says `finish` after the last one. */
function makeFeed(
  queue: Iterator<readonly CopyPiece[]>,
  signal: AbortSignal,
  send: (message: ToWorker) => void,
): (done: number) => void {
  let waiting = 0
  let finishing = false
  return (done) => {
    waiting -= done
    while (!finishing && !signal.aborted && waiting < BATCHES_AHEAD) {
      const next = queue.next()
      if (next.done === true) {
        finishing = true
        send({ type: 'finish' })
      } else {
        waiting++
        send({ type: 'copy', pieces: next.value })
      }
    }
  }
}

function workerFailure(message: Extract<FromWorker, { type: 'failed' }>): Error {
  if (message.failure !== undefined) return fromFailureMessage(message.failure)
  return new Error(`a copy worker failed: ${message.text}`)
}

/**
 * The same work in the caller's own thread and storage alone: for simulations, which must
 * see every call to the storage, in an order that does not change.
 */
export function startCopyInThread(group: WriteGroup): CopyRunner {
  return {
    workers: 1,
    expectMuch() {},
    run: async (batches, setup, hooks) => await copyInThread(group, 1, batches, setup, hooks),
    async close() {},
  }
}

async function copyInThread(
  group: WriteGroup,
  workers: number,
  batches: Batches,
  setup: CopySetup,
  hooks: CopyHooks,
): Promise<PackSummary[]> {
  const numbers = { firstSequence: 0, sequenceStep: sequenceStep(workers) }
  const engine = new CopyEngine(group, { ...setup, ...numbers })
  try {
    for (const pieces of batches) {
      hooks.onBytes(await engine.copyBatch(pieces, () => hooks.signal.aborted))
      engine.takeResults().forEach(hooks.onResult)
    }
    const packs = await engine.finish()
    engine.takeResults().forEach(hooks.onResult)
    return [...packs]
  } catch (error) {
    await engine.abort().catch(() => undefined)
    hooks.signal.throwIfAborted()
    throw error
  }
}
