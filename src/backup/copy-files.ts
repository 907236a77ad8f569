/**
 * Runs the copy workers: batches out, results in. Knows nothing of PostgreSQL.
 *
 * Invariant: when copy() is fulfilled all packs of the workers are durable. When anything
 * fails or the caller aborts, the workers close what is open and leave no visible pack of
 * this moment; closed packs belong to the attempt and are removed through its hold.
 */
import { Worker } from 'node:worker_threads'
import { Failure, fromFailureMessage } from '../base/failure.ts'
import type { PackSummary } from '../repository/pack-writer.ts'
import type { CopyPiece, CopyResult, FromWorker, ToWorker, WorkerSetup } from './copy/protocol.ts'

/** Batches that wait in a worker: it never idles, and an abort is not far. */
const BATCHES_AHEAD = 2

export interface CopyOptions {
  readonly setup: Omit<WorkerSetup, 'firstSequence' | 'sequenceStep'>
  readonly workers: number
  readonly onBytes: (bytes: number) => void
  readonly onResult: (result: CopyResult) => void
  readonly signal: AbortSignal
}

/** Sequence numbers from this on are free for the caller's own packs: step by the same. */
export function sequenceStep(workers: number): number {
  return workers + 1
}

export async function copyFiles(
  batches: Iterable<readonly CopyPiece[]>,
  options: CopyOptions,
): Promise<PackSummary[]> {
  const queue = batches[Symbol.iterator]()
  const failed = new AbortController()
  const signal = AbortSignal.any([options.signal, failed.signal])
  const runs = Array.from({ length: options.workers }, (_, number) =>
    runWorker(number, queue, options, signal).catch((error: unknown) => {
      failed.abort()
      throw error
    }),
  )
  const outcomes = await Promise.allSettled(runs)
  options.signal.throwIfAborted()
  const firstFailure = outcomes.find(
    (outcome) => outcome.status === 'rejected' && !isAbort(outcome.reason),
  )
  if (firstFailure?.status === 'rejected') throw firstFailure.reason
  return outcomes.flatMap((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason
    return outcome.value
  })
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

function startWorker(number: number, { setup, workers }: CopyOptions): Worker {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return new Worker(new URL(`./copy/copy-worker.${extension}`, import.meta.url), {
    resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 512 },
    workerData: { ...setup, firstSequence: number, sequenceStep: sequenceStep(workers) },
  })
}

function runWorker(
  number: number,
  queue: Iterator<readonly CopyPiece[]>,
  options: CopyOptions,
  signal: AbortSignal,
): Promise<PackSummary[]> {
  const worker = startWorker(number, options)
  const send = (message: ToWorker): void => worker.postMessage(message)
  let waiting = 0
  let finishing = false
  const feed = (): void => {
    while (!finishing && waiting < BATCHES_AHEAD) {
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
  return new Promise<PackSummary[]>((resolve, reject) => {
    const abort = (): void => {
      finishing = true
      send({ type: 'abort' })
    }
    let ending = false
    const end = (settle: () => void): void => {
      ending = true
      signal.removeEventListener('abort', abort)
      void worker.terminate().then(settle, settle)
    }
    worker.on('error', (error) => end(() => reject(error)))
    worker.on('exit', () => {
      if (!ending) reject(new Error('a copy worker ended early'))
    })
    worker.on('message', (message: FromWorker) => {
      switch (message.type) {
        case 'copied':
          waiting--
          options.onBytes(message.bytes)
          return feed()
        case 'results':
          return message.results.forEach(options.onResult)
        case 'finished':
          return end(() => resolve([...message.packs]))
        case 'aborted':
          return end(() => reject(new DOMException('aborted', 'AbortError')))
        case 'failed':
          return end(() => reject(workerFailure(message)))
      }
    })
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    feed()
  })
}

function workerFailure(message: Extract<FromWorker, { type: 'failed' }>): Error {
  if (message.failure !== undefined) return fromFailureMessage(message.failure)
  return new Error(`a copy worker failed: ${message.text}`)
}

export function isInterrupted(error: unknown): boolean {
  return isAbort(error) && !(error instanceof Failure)
}
