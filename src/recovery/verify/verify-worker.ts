/** A worker of verify: tasks in, answers out, one after the other. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { Failure, toFailureMessage } from '../../base/failure.ts'
import { openStorage } from '../../storage/open-storage.ts'
import type { FromWorker, ToWorker, VerifyWorkerData } from './messages.ts'
import { TaskRunner } from './task-runner.ts'

function describe(error: unknown): FromWorker {
  if (error instanceof Failure) return { kind: 'failed', failure: toFailureMessage(error) }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { kind: 'crashed', error: text }
}

async function answer(port: MessagePort, runner: TaskRunner, message: ToWorker): Promise<void> {
  if (message.kind === 'knowledge') return runner.take(message.knowledge)
  try {
    const { number, task } = message
    const reply: FromWorker = { kind: 'answer', number, answer: await runner.run(task) }
    port.postMessage(reply)
  } catch (error) {
    port.postMessage(describe(error))
  }
}

async function main(): Promise<void> {
  const port = parentPort
  if (port === null) throw new Error('not a worker thread')
  const data = workerData as VerifyWorkerData
  const runner = new TaskRunner(await openStorage(data.storage), data)
  let last = Promise.resolve()
  port.on('message', (message: ToWorker) => {
    last = last.then(async () => await answer(port, runner, message))
  })
}

await main()
