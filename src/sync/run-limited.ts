/** Several at once, begun in their order: the first failure ends it, after all that run. */

export async function runLimited<T>(
  items: Iterable<T> | AsyncIterable<T>,
  limit: number,
  act: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = openIterator(items)
  let failed = false
  const work = async (): Promise<void> => {
    while (!failed) {
      const next = await iterator.next()
      if (next.done === true) return
      await act(next.value)
    }
  }
  const guarded = async (): Promise<void> => {
    try {
      await work()
    } catch (error) {
      failed = true
      throw error
    }
  }
  const outcomes = await Promise.allSettled(Array.from({ length: Math.max(1, limit) }, guarded))
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
}

function openIterator<T>(items: Iterable<T> | AsyncIterable<T>): Iterator<T> | AsyncIterator<T> {
  return Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]()
}
