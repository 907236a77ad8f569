/**
 * The window as a bar for each timeline, from the first moment that can be recovered to now.
 * Pure. A cell that holds a moment which cannot be recovered never looks whole.
 */
import type { RecoveryWindow, WindowInterval } from '../../../recovery/window.ts'
import { formatTime } from '../../format-units.ts'
import type { Colours, Drawing } from '../../terminal.ts'

const WIDEST = 100
const NARROWEST = 10
const TIME_WIDTH = '2026-11-20 10:00:00Z'.length

interface Glyphs {
  readonly whole: string
  readonly part: string
  readonly none: string
}

const UTF8: Glyphs = { whole: '█', part: '▒', none: '·' }
const ASCII: Glyphs = { whole: '#', part: '+', none: '.' }

/** Milliseconds since 1970. */
interface Span {
  readonly from: number
  readonly to: number
}

/** Nothing where no interval is longer than a moment, or the terminal too narrow. */
export function drawWindow(
  window: RecoveryWindow,
  now: Date,
  { columns, isUtf8 }: Drawing,
  colours: Colours,
): string[] {
  const spans = window.intervals.map(spanOf)
  const all = { from: Math.min(...spans.map(({ from }) => from)), to: now.getTime() }
  for (const { to } of spans) all.to = Math.max(all.to, to)
  const timelines = [...new Set(window.intervals.map(({ timeline }) => timeline))]
  const labels = timelines.map((timeline) => `timeline ${timeline}`)
  const labelWidth = Math.max(0, ...labels.map(({ length }) => length)) + 2
  const width = Math.min(columns, WIDEST) - labelWidth
  if (spans.length === 0 || all.to <= all.from || width < NARROWEST) return []
  const glyphs = isUtf8 ? UTF8 : ASCII
  const rows = timelines.map((timeline, at) => {
    const own = spans.filter((_, number) => window.intervals[number]?.timeline === timeline)
    const bar = drawBar(own, all, width)
    return `${(labels[at] ?? '').padEnd(labelWidth)}${paint(bar, glyphs, colours)}`
  })
  return ['', ...rows, `${' '.repeat(labelWidth)}${formatAxis(all, width)}`]
}

function spanOf({ from, to }: WindowInterval): Span {
  const begin = Date.parse(from.time)
  return { from: begin, to: Math.max(begin, Date.parse(to.time ?? from.time)) }
}

type Cell = 'whole' | 'part' | 'none'

/** What each of `width` equal parts of `all` holds. Spans may overlap. */
export function drawBar(spans: readonly Span[], all: Span, width: number): Cell[] {
  const cellMs = (all.to - all.from) / width
  const union = mergeSpans(spans)
  return Array.from({ length: width }, (_, at) => {
    const from = all.from + at * cellMs
    const to = from + cellMs
    const isLast = at === width - 1
    const touching = union.filter((one) => {
      return one.to >= from && (one.from < to || (isLast && one.from <= to))
    })
    if (touching.length === 0) return 'none'
    return touching.some((one) => one.from <= from && one.to >= to) ? 'whole' : 'part'
  })
}

function mergeSpans(spans: readonly Span[]): Span[] {
  const merged: Span[] = []
  for (const span of spans.toSorted((a, b) => a.from - b.from)) {
    const last = merged.at(-1)
    if (last === undefined || span.from > last.to) merged.push(span)
    else merged[merged.length - 1] = { from: last.from, to: Math.max(last.to, span.to) }
  }
  return merged
}

/** Runs of one kind are coloured together. */
function paint(cells: readonly Cell[], glyphs: Glyphs, colours: Colours): string {
  const paints = { whole: colours.green, part: colours.yellow, none: colours.red }
  let text = ''
  for (let at = 0; at < cells.length; ) {
    const kind = cells[at] as Cell
    let end = at
    while (cells[end] === kind) end++
    text += paints[kind](glyphs[kind].repeat(end - at))
    at = end
  }
  return text
}

function formatAxis({ from, to }: Span, width: number): string {
  const [left, right] = [formatTime(new Date(from)), formatTime(new Date(to))]
  const room = width - 2 * TIME_WIDTH
  return room < 1 ? left : `${left}${' '.repeat(room)}${right}`
}
