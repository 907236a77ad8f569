/**
 * A worker thread of a backup: takes batches of pieces, writes its own packs, answers with
 * references. Shares nothing with other workers.
 *
 * Invariant: a result is sent only when every frame it refers to was added to a pack; the
 * packs are durable when `finished` is sent, and nothing may be published before that.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { Failure, toFailureMessage } from '../../base/failure.ts'
import { PackWriter } from '../../repository/pack-writer.ts'
import { makeLeafReader } from '../../repository/read-leaves.ts'
import { openStorage } from '../../storage/open-storage.ts'
import { closeQuietly, copyContent, openForCopy, unreadableFile } from './content-copier.ts'
import { LeafStore } from './leaf-store.ts'
import { PageCopier } from './page-copier.ts'
import type { CopyPiece, CopyResult, FromWorker, ToWorker, WorkerSetup } from './protocol.ts'

const port = parentPort
if (port === null) throw new Error('copy-worker.ts runs as a worker thread')
const setup = workerData as WorkerSetup
const say = (message: FromWorker): void => port.postMessage(message)

const storage = await openStorage({ url: setup.storageUrl })
const packs = new PackWriter({
  storage,
  cluster: setup.cluster,
  attemptId: setup.attemptId,
  firstSequence: setup.firstSequence,
  sequenceStep: setup.sequenceStep,
  compressionLevel: setup.compressionLevel,
})
const leaves = new LeafStore(packs)
const baseLeaves = makeLeafReader(storage, setup.cluster, 'the backup compared with')
const copier = new PageCopier(packs, leaves, baseLeaves, {
  verifyChecksums: setup.verifyChecksums,
  startLsn: setup.startLsn,
})
let results: CopyResult[] = []

async function copyBatch(pieces: readonly CopyPiece[]): Promise<void> {
  let bytes = 0
  for (const piece of pieces) bytes += await copyPiece(piece)
  await copier.flushFrame()
  if (leaves.isFull) await leaves.flush()
  sendResults()
  say({ type: 'copied', bytes })
}

/** Results whose leaves wait for their frame come later, by the leaf store's answer. */
async function copyPiece(piece: CopyPiece): Promise<number> {
  const fd = openForCopy(piece.location, piece.path)
  if (fd === undefined) {
    results.push({ form: 'vanished', file: piece.file })
    return 0
  }
  try {
    if (piece.form === 'content') {
      const result = await copyContent(piece, fd, packs)
      results.push(result)
      return result.size
    }
    await copier.copy(piece, fd, (result) => results.push(result))
    return piece.pages * 8192
  } catch (error) {
    if (error instanceof Failure) throw error
    throw unreadableFile(piece.location, piece.path, error)
  } finally {
    closeQuietly(fd)
  }
}

function sendResults(): void {
  if (results.length === 0) return
  say({ type: 'results', results })
  results = []
}

async function handle(message: ToWorker): Promise<void> {
  switch (message.type) {
    case 'copy':
      return await copyBatch(message.pieces)
    case 'finish':
      await leaves.flush()
      await packs.finish()
      sendResults()
      return say({ type: 'finished', packs: packs.packs })
    case 'abort':
      await packs.abort()
      return say({ type: 'aborted' })
  }
}

let work: Promise<void> = Promise.resolve()
port.on('message', (message: ToWorker) => {
  work = work.then(() => handle(message)).catch(reportFailure)
})

async function reportFailure(error: unknown): Promise<void> {
  await packs.abort().catch(() => undefined)
  const failure = error instanceof Failure ? toFailureMessage(error) : undefined
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  say({ type: 'failed', failure, text })
}
