/**
 * Who does what next: a worker stays with the queue that it began, takes the next whole
 * one after that, and helps with the longest one left, from its end, when no whole one is.
 *
 * Invariant: every task is handed out once; those of a queue in order, but for the end of
 * one that was helped with.
 */
import type { ToWorker } from './messages.ts'

interface Queue {
  readonly tasks: readonly ToWorker[]
  /** What is left: tasks [next, end). */
  next: number
  end: number
}

export class TaskQueues {
  readonly #waiting: Queue[]
  readonly #own: (Queue | undefined)[]
  #left: number

  constructor(queues: readonly (readonly ToWorker[])[], workers: number) {
    this.#waiting = queues.map((tasks) => ({ tasks, next: 0, end: tasks.length })).reverse()
    this.#own = new Array<Queue | undefined>(workers).fill(undefined)
    this.#left = queues.reduce((sum, tasks) => sum + tasks.length, 0)
  }

  get isEmpty(): boolean {
    return this.#left === 0
  }

  /** The next task of worker number `worker`; there is one unless all are handed out. */
  take(worker: number): ToWorker {
    let own = this.#own[worker]
    if (own === undefined || own.next === own.end) {
      own = this.#waiting.pop() ?? this.#helpLongest()
      this.#own[worker] = own
    }
    const task = own.tasks[own.next]
    if (task === undefined) throw new Error('no task is left')
    own.next++
    this.#left--
    return task
  }

  /** The second half of what is left of the longest queue. */
  #helpLongest(): Queue {
    let longest: Queue | undefined
    for (const queue of this.#own) {
      if (queue === undefined) continue
      if (longest === undefined || queue.end - queue.next > longest.end - longest.next) {
        longest = queue
      }
    }
    if (longest === undefined || longest.next === longest.end) throw new Error('no task is left')
    const { tasks, next, end } = longest
    longest.end = next + Math.floor((end - next) / 2)
    return { tasks, next: longest.end, end }
  }
}
