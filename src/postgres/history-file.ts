/**
 * Timeline history files (`0000000N.history`): the ancestors of timeline N with the LSN
 * where each was left. PostgreSQL: access/transam/timeline.c (readTimeLineHistory,
 * writeTimeLineHistory, tliOfPointInHistory).
 *
 * A line is `<timeline> <white space> <LSN> <white space> <reason>`; `#` begins a comment
 * line. Ancestors ascend, each with a smaller number than the timeline of the file.
 */
import { formatLsn, formatTimeline, type Lsn, parseLsn, type Timeline } from './lsn.ts'

export interface TimelineHistory {
  readonly timeline: Timeline
  /** Oldest first. Empty for a timeline without history, such as 1. */
  readonly ancestors: readonly TimelineAncestor[]
}

export interface TimelineAncestor {
  readonly timeline: Timeline
  /** First LSN that is no longer of this timeline, where the next one begins. */
  readonly endLsn: Lsn
  readonly reason: string
}

export interface HistoryError {
  readonly line: number
  readonly problem: string
}

export type ParsedHistory =
  | { readonly ok: true; readonly history: TimelineHistory }
  | { readonly ok: false; readonly error: HistoryError }

export const NO_ANCESTORS: readonly TimelineAncestor[] = []

export function historyFileName(timeline: Timeline): string {
  return `${formatTimeline(timeline)}.history`
}

/** The timeline in `0000000N.history`, or undefined for another name. */
export function parseHistoryFileName(name: string): Timeline | undefined {
  const match = /^([0-9A-F]{8})\.history$/.exec(name)
  if (match === null) return undefined
  const timeline = Number.parseInt(match[1] as string, 16)
  return timeline === 0 ? undefined : timeline
}

export function parseHistoryFile(timeline: Timeline, content: Uint8Array): ParsedHistory {
  const ancestors: TimelineAncestor[] = []
  const lines = Buffer.from(content).toString('utf8').split('\n')
  for (const [index, line] of lines.entries()) {
    const text = line.trim()
    if (text === '' || text.startsWith('#')) continue
    const next = parseLine(text)
    const problem = problemOf(next, ancestors.at(-1), timeline)
    if (problem !== undefined) return { ok: false, error: { line: index + 1, problem } }
    ancestors.push(next as TimelineAncestor)
  }
  return { ok: true, history: { timeline, ancestors } }
}

function parseLine(text: string): TimelineAncestor | undefined {
  const match = /^(\d{1,10})\s+([0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8})(?:\s+(.*))?$/.exec(text)
  if (match === null) return undefined
  const endLsn = parseLsn(match[2] as string)
  const timeline = Number(match[1])
  if (endLsn === undefined || timeline < 1 || timeline > 0xffffffff) return undefined
  return { timeline, endLsn, reason: match[3] ?? '' }
}

function problemOf(
  next: TimelineAncestor | undefined,
  before: TimelineAncestor | undefined,
  timeline: Timeline,
): string | undefined {
  if (next === undefined) return 'it is not a timeline, an LSN and a reason'
  if (before !== undefined && next.timeline <= before.timeline) {
    return 'timelines do not ascend'
  }
  if (before !== undefined && next.endLsn < before.endLsn) return 'LSNs go back'
  if (next.timeline >= timeline) return `timeline ${next.timeline} cannot be an ancestor`
  return undefined
}

export function formatHistoryFile(history: TimelineHistory): string {
  const line = (one: TimelineAncestor): string =>
    `${one.timeline}\t${formatLsn(one.endLsn)}\t${one.reason}\n`
  return history.ancestors.map(line).join('')
}

/** The timeline of the path that wrote the byte at `position` (tliOfPointInHistory). */
export function timelineAt(history: TimelineHistory, position: Lsn): Timeline {
  const owner = history.ancestors.find((ancestor) => position < ancestor.endLsn)
  return owner?.timeline ?? history.timeline
}

/** Where `timeline` begins on this path; 0 for its oldest; undefined when not on it. */
export function timelineStart(history: TimelineHistory, timeline: Timeline): Lsn | undefined {
  const index = pathOf(history).indexOf(timeline)
  if (index < 0) return undefined
  return index === 0 ? (0n as Lsn) : (history.ancestors[index - 1] as TimelineAncestor).endLsn
}

/** Where this path leaves `timeline`; undefined when it does not, or is never on it. */
export function timelineEnd(history: TimelineHistory, timeline: Timeline): Lsn | undefined {
  return history.ancestors.find((ancestor) => ancestor.timeline === timeline)?.endLsn
}

/** All timelines of the path, oldest first, its own last. */
export function pathOf(history: TimelineHistory): Timeline[] {
  return [...history.ancestors.map((ancestor) => ancestor.timeline), history.timeline]
}

/**
 * Is everything that `timeline` had written before `position` part of this path? True for
 * the path's own timeline, and for an ancestor that was not left before `position`.
 */
export function includes(history: TimelineHistory, timeline: Timeline, position: Lsn): boolean {
  const start = timelineStart(history, timeline)
  if (start === undefined) return false
  const end = timelineEnd(history, timeline)
  return end === undefined || position <= end
}

/** The same ancestors, left at the same places? Reasons may differ. */
export function sameAncestors(
  one: readonly TimelineAncestor[],
  other: readonly TimelineAncestor[],
): boolean {
  const equal = (a: TimelineAncestor, b: TimelineAncestor | undefined): boolean =>
    b !== undefined && a.timeline === b.timeline && a.endLsn === b.endLsn
  return one.length === other.length && one.every((a, index) => equal(a, other[index]))
}
