/** Starts work on some items ahead of the one whose result is wanted. */

/** Results come in the order of the items; when it ends early, what runs is waited for. */
export async function* mapInOrder<Item, Result>(
  items: Iterable<Item>,
  atOnce: number,
  work: (item: Item) => Promise<Result>,
): AsyncGenerator<Result, void, undefined> {
  const running: Promise<Result>[] = []
  const remaining = items[Symbol.iterator]()
  const start = (): void => {
    const { done, value } = remaining.next()
    if (done === true) return
    const result = work(value)
    // Its failure comes out when its turn has come, or never, after that of an earlier one.
    result.catch(() => undefined)
    running.push(result)
  }
  try {
    for (let count = 0; count < atOnce; count++) start()
    for (;;) {
      const next = running.shift()
      if (next === undefined) return
      const result = await next
      start()
      yield result
    }
  } finally {
    await Promise.allSettled(running)
  }
}
