/**
 * Stands in for the workers of a file restore: takes every task, writes nothing, and answers as
 * they would, so that the restore's own accounts must still come out right.
 */
import type { RestoreFilesOptions } from '../../src/recovery/restore-files.ts'

type RestorePool = ReturnType<NonNullable<RestoreFilesOptions['openPool']>>
type Batch = Parameters<RestorePool['run']>[0]
type TaskResult = Parameters<Parameters<RestorePool['run']>[1]>[0]
type ToWorker = Batch['queues'][number][number]

/** Of a run: pack, frame, slot, pages, file, first page, first fingerprint. */
const RUN_FIELDS = 7
const PAGE_BYTES = 8192
const NOTHING = new Uint32Array(0)

export class SinkPool implements RestorePool {
  async run(batch: Batch, onResult: (result: TaskResult) => void): Promise<void> {
    for (const queue of batch.queues) {
      for (const task of queue) {
        const result = answer(batch, task)
        if (result !== undefined) onResult(result)
      }
    }
  }

  fail(error: Error): void {
    throw error
  }

  throwFailure(): void {}

  async close(): Promise<void> {}
}

function answer(batch: Batch, task: ToWorker): TaskResult | undefined {
  if (task.kind === 'pages') return answerPages(task.runs)
  if (task.kind !== 'content') return undefined
  const contents = Uint32Array.from(task.files.flatMap((file) => [file, 0]))
  const bytes = task.files.reduce((sum, file) => sum + (batch.files[file]?.size ?? 0), 0)
  return { kind: 'done', bytes, pieces: NOTHING, contents }
}

/** Neighbouring runs make one piece, as pages that are written together do. */
function answerPages(runs: Uint32Array): TaskResult {
  const pieces: number[] = []
  let bytes = 0
  for (let at = 0; at < runs.length; at += RUN_FIELDS) {
    const [pages = 0, file = 0, first = 0] = runs.subarray(at + 3, at + 6)
    const last = pieces.length - 4
    const continues =
      pieces[last] === file && (pieces[last + 1] ?? 0) + (pieces[last + 2] ?? 0) === first
    if (last >= 0 && continues) pieces[last + 2] = (pieces[last + 2] ?? 0) + pages
    else pieces.push(file, first, pages, 0)
    bytes += pages * PAGE_BYTES
  }
  return { kind: 'done', bytes, pieces: Uint32Array.from(pieces), contents: NOTHING }
}
