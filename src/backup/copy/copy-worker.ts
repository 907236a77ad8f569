/**
 * A worker thread of a backup: hands batches to its engine, answers with references.
 * Shares nothing with other workers but the flag that stops them all.
 *
 * Invariant: after a failure or an abort nothing is written any more, whatever messages
 * still wait.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { Failure, toFailureMessage } from '../../base/failure.ts'
import { openStorage } from '../../storage/open-storage.ts'
import { WriteGroup } from '../../storage/write-group.ts'
import { CopyEngine } from './copy-engine.ts'
import type { CopyPiece, FromWorker, ToWorker, WorkerStart } from './protocol.ts'

const port = parentPort
if (port === null) throw new Error('copy-worker.ts runs as a worker thread')
const start = workerData as WorkerStart
const stop = new Int32Array(start.stop)
const say = (message: FromWorker): void => port.postMessage(message)

const members = await Promise.all(
  start.targets.map(async ({ storage, required }) => {
    return { storage: await openStorage(storage), required }
  }),
)
const group = new WriteGroup(
  members,
  (target, failure) => say({ type: 'dropped', target, failure: toFailureMessage(failure) }),
  start.dropped,
)
let engine: CopyEngine | undefined
let ended = false

async function copyBatch(engine: CopyEngine, pieces: readonly CopyPiece[]): Promise<void> {
  const bytes = await engine.copyBatch(pieces, () => Atomics.load(stop, 0) !== 0)
  sendResults(engine)
  say({ type: 'copied', bytes })
}

function sendResults(engine: CopyEngine): void {
  const results = engine.takeResults()
  if (results.length > 0) say({ type: 'results', results })
}

async function handle(message: ToWorker): Promise<void> {
  if (ended) return
  if (message.type === 'begin') {
    engine = new CopyEngine(group, message.setup)
    return
  }
  if (message.type === 'abort') return await abort()
  if (engine === undefined) throw new Error(`${message.type} before begin`)
  if (message.type === 'copy') return await copyBatch(engine, message.pieces)
  const packs = await engine.finish()
  ended = true
  sendResults(engine)
  say({ type: 'finished', packs })
}

async function abort(): Promise<void> {
  ended = true
  await engine?.abort().catch(() => undefined)
  say({ type: 'aborted' })
}

let work: Promise<void> = Promise.resolve()
port.on('message', (message: ToWorker) => {
  work = work.then(() => handle(message)).catch(reportFailure)
})

async function reportFailure(error: unknown): Promise<void> {
  if (error instanceof DOMException && error.name === 'AbortError') return await abort()
  ended = true
  await engine?.abort().catch(() => undefined)
  const failure = error instanceof Failure ? toFailureMessage(error) : undefined
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  say({ type: 'failed', failure, text })
}
