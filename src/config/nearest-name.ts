/** Finds what a misspelt word was meant to be. Pure. */

/**
 * The candidate with the fewest edits (insert, delete, replace, swap of neighbours), or
 * undefined when even that one needs more than a third of the word's letters.
 */
export function nearestName(word: string, candidates: Iterable<string>): string | undefined {
  let nearest: string | undefined
  let fewest = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const edits = countEdits(word.toLowerCase(), candidate.toLowerCase())
    if (edits < fewest) {
      fewest = edits
      nearest = candidate
    }
  }
  if (nearest === undefined) return undefined
  const allowed = Math.max(1, Math.ceil(Math.max(word.length, nearest.length) / 3))
  return fewest <= allowed && fewest < nearest.length ? nearest : undefined
}

/** Optimal string alignment distance. */
export function countEdits(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      const replaced = (last[column - 1] as number) + (same ? 0 : 1)
      const edits = Math.min(
        (last[column] as number) + 1,
        (current[column - 1] as number) + 1,
        replaced,
      )
      const swapped = row > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      current.push(swapped ? Math.min(edits, (beforeLast[column - 2] as number) + 1) : edits)
    }
    beforeLast = last
    last = current
  }
  return last[b.length] as number
}

/** `; did you mean 'main'?`, or nothing. */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const nearest = nearestName(word, candidates)
  return nearest === undefined ? '' : `; did you mean '${nearest}'?`
}
