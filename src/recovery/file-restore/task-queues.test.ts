import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ToWorker } from './messages.ts'
import { TaskQueues } from './task-queues.ts'

/** Task `number` of queue `queue`, told apart by its files. */
function task(queue: number, number: number): ToWorker {
  return { kind: 'create', files: [queue, number] }
}

function filesOf(given: ToWorker): readonly number[] {
  assert.equal(given.kind, 'create')
  return (given as { files: readonly number[] }).files
}

test('every task is handed out once, in whatever order the workers ask', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 12 }),
      fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 50 }),
      (lengths, askers) => {
        const queues = lengths.map((length, queue) =>
          Array.from({ length }, (_, number) => task(queue, number)),
        )
        const handed = new TaskQueues(queues, 4)
        const seen: string[] = []
        for (let turn = 0; !handed.isEmpty; turn++) {
          const worker = askers[turn % askers.length] as number
          seen.push(filesOf(handed.take(worker)).join('/'))
        }
        const all = queues.flat().map((given) => filesOf(given).join('/'))
        assert.deepEqual(seen.toSorted(), all.toSorted())
      },
    ),
  )
})

test('a worker stays with its queue, and helps at the end of the longest one left', () => {
  const queues = [[0, 1, 2, 3, 4, 5].map((number) => task(0, number)), [task(1, 0)]]
  const handed = new TaskQueues(queues, 2)
  const take = (worker: number): string => filesOf(handed.take(worker)).join('/')
  assert.deepEqual([take(0), take(1), take(0)], ['0/0', '1/0', '0/1'])
  // Four are left of the first queue: the other worker takes the second half of them.
  assert.deepEqual([take(1), take(0), take(1), take(0)], ['0/4', '0/2', '0/5', '0/3'])
  assert.ok(handed.isEmpty)
})
