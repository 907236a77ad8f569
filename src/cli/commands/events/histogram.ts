/**
 * How much happened when: a fixed number of buckets over a range of time that is not known
 * beforehand. When a time lies outside, neighbours are joined until it does not. Pure.
 */
import type { Colours, Drawing } from '../../terminal.ts'
import { formatTime } from '../../format-units.ts'

/** A power of two, and more than a terminal is wide. */
const BUCKETS = 256
const FIRST_WIDTH_MS = 250

export class Histogram {
  readonly #transactions = new Float64Array(BUCKETS)
  readonly #rows = new Float64Array(BUCKETS)
  readonly #notable = new Float64Array(BUCKETS)
  #widthMs = FIRST_WIDTH_MS
  /** Number of the first bucket, in units of the width since 1970. */
  #first: number | undefined

  add(timeMs: number, rows: number, isNotable: boolean): void {
    const at = this.#place(timeMs)
    this.#transactions[at] = (this.#transactions[at] as number) + 1
    this.#rows[at] = (this.#rows[at] as number) + rows
    if (isNotable) this.#notable[at] = 1
  }

  #place(timeMs: number): number {
    for (;;) {
      const number = Math.floor(timeMs / this.#widthMs)
      if (this.#first === undefined) this.#first = number
      if (number < this.#first && this.#makeRoom(number)) continue
      const at = number - this.#first
      if (at >= 0 && at < BUCKETS) return at
      this.#join()
    }
  }

  /** Shifts to the right where nothing falls off; clocks step back a little. */
  #makeRoom(number: number): boolean {
    const shift = (this.#first as number) - number
    const last = this.#transactions.findLastIndex((count) => count > 0)
    if (last + shift >= BUCKETS) return false
    for (const values of [this.#transactions, this.#rows, this.#notable]) {
      values.copyWithin(shift, 0, BUCKETS - shift)
      values.fill(0, 0, shift)
    }
    this.#first = number
    return true
  }

  /** Twice as wide. The first bucket's number must be even, so that pairs stay pairs. */
  #join(): void {
    const first = this.#first as number
    const odd = ((first % 2) + 2) % 2
    for (const values of [this.#transactions, this.#rows, this.#notable]) {
      const joined = new Float64Array(BUCKETS)
      for (let at = 0; at < BUCKETS; at++) {
        const to = (at + odd) >> 1
        joined[to] = (joined[to] as number) + (values[at] as number)
      }
      values.set(joined)
    }
    this.#first = (first - odd) / 2
    this.#widthMs *= 2
  }

  /** From the first that has something to the last, as at most `count` columns. */
  columns(count: number): HistogramColumns | undefined {
    const begin = this.#transactions.findIndex((value) => value > 0)
    const end = this.#transactions.findLastIndex((value) => value > 0)
    if (this.#first === undefined || begin < 0) return undefined
    const group = Math.ceil((end - begin + 1) / count)
    const length = Math.ceil((end - begin + 1) / group)
    const sum = (values: Float64Array): number[] =>
      Array.from({ length }, (_, at) => {
        const from = begin + at * group
        return values.subarray(from, Math.min(from + group, end + 1)).reduce((a, b) => a + b, 0)
      })
    return {
      fromMs: (this.#first + begin) * this.#widthMs,
      widthMs: group * this.#widthMs,
      transactions: sum(this.#transactions),
      rows: sum(this.#rows),
      notable: sum(this.#notable).map((value) => value > 0),
    }
  }
}

export interface HistogramColumns {
  readonly fromMs: number
  /** Of one column. */
  readonly widthMs: number
  readonly transactions: readonly number[]
  readonly rows: readonly number[]
  readonly notable: readonly boolean[]
}

const UTF8_LEVELS = ' ▁▂▃▄▅▆▇█'
const ASCII_LEVELS = ' .:-=+*#@'
const LABEL_WIDTH = 'transactions  '.length
const WIDEST = 100

/** Two bars and a line of marks for what was shown. */
export function drawHistogram(
  histogram: Histogram,
  { columns, isUtf8 }: Drawing,
  colours: Colours,
): string[] {
  const width = Math.min(columns, WIDEST) - LABEL_WIDTH
  const shown = width < 10 ? undefined : histogram.columns(width)
  if (shown === undefined) return []
  const levels = isUtf8 ? UTF8_LEVELS : ASCII_LEVELS
  const { transactions, rows, notable, fromMs, widthMs } = shown
  const label = (text: string): string => text.padEnd(LABEL_WIDTH)
  const mark = isUtf8 ? '▲' : '^'
  const marks = notable.map((one) => (one ? mark : ' ')).join('')
  const end = fromMs + widthMs * transactions.length
  const [left, right] = [formatTime(new Date(fromMs)), formatTime(new Date(end))]
  const room = Math.max(1, transactions.length - left.length - right.length)
  return [
    `${label('transactions')}${colours.green(drawLevels(transactions, levels))}`,
    `${label('rows changed')}${colours.yellow(drawLevels(rows, levels))}`,
    ...(notable.includes(true) ? [`${label('shown above')}${colours.red(marks.trimEnd())}`] : []),
    `${label('')}${left}${' '.repeat(room)}${right}`,
  ]
}

/** What is not nothing is never drawn as nothing. */
export function drawLevels(values: readonly number[], levels: string): string {
  const highest = Math.max(...values)
  const glyphs = [...levels]
  const top = glyphs.length - 1
  return values
    .map((value) => {
      if (value <= 0 || highest <= 0) return glyphs[0]
      return glyphs[Math.max(1, Math.round((value / highest) * top))]
    })
    .join('')
}
