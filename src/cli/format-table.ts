/** Aligned columns. Pure; knows that colour codes take no room. */
import { stripVTControlCharacters } from 'node:util'

export interface Column {
  readonly title: string
  readonly align?: 'left' | 'right'
}

const GAP = '  '

export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string[] {
  const titles = columns.map((column) => column.title)
  const all = titles.some((title) => title !== '') ? [titles, ...rows] : rows
  const widths = columns.map((_, at) => Math.max(0, ...all.map((row) => width(row[at] ?? ''))))
  return all.map((row) =>
    columns
      .map((column, at) => pad(row[at] ?? '', widths[at] as number, column.align ?? 'left'))
      .join(GAP)
      .trimEnd(),
  )
}

/** `label   value` lines. */
export function formatPairs(pairs: readonly (readonly [string, string])[]): string[] {
  return formatTable([{ title: '' }, { title: '' }], pairs)
}

function width(text: string): number {
  return stripVTControlCharacters(text).length
}

function pad(text: string, to: number, align: 'left' | 'right'): string {
  const fill = ' '.repeat(to - width(text))
  return align === 'left' ? text + fill : fill + text
}
