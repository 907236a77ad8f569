/**
 * `events`: what happened when, out of the WAL: what a person looks for after an accident, each
 * with the target that recovers to just before it. Streams: nothing is gathered but what is
 * open, and the counts of the histogram.
 */
import { now } from '../../base/clock.ts'
import { Failure } from '../../base/failure.ts'
import { chooseCluster } from '../../config/configuration.ts'
import { type DroppedDatabase, findDatabaseMark } from '../../events/find-database-mark.ts'
import { openNameResolver } from '../../events/name-resolver.ts'
import { type EventBound, readEvents } from '../../events/read-events.ts'
import { reportEvents } from '../../events/report-events.ts'
import { EVENT_KINDS, type EventKind, type ReportedEvent } from '../../events/reported-event.ts'
import { formatTime } from '../../recovery/parse-target.ts'
import type { CommandContext } from '../command-context.ts'
import { formatCount } from '../format-units.ts'
import { type EventFilter, isShown } from './events/filter-events.ts'
import { eventJson, type FormatOptions, formatEvent } from './events/format-event.ts'
import { drawHistogram, Histogram } from './events/histogram.ts'
import { type OpenedEvents, openEvents } from './events/open-events.ts'
import { parseMoment } from './events/parse-moment.ts'

export interface EventsOptions {
  readonly since?: string
  readonly until?: string
  readonly kind?: string
  readonly relation?: string
  readonly database?: string
  readonly xid?: string
  readonly minRows?: string
  readonly all?: boolean
  readonly timeline?: string
  readonly limit?: string
  readonly repository?: string
}

export async function runEvents(
  context: CommandContext,
  clusterName: string | undefined,
  options: EventsOptions,
): Promise<number> {
  const range = readRange(options, now())
  const filter = readFilter(options)
  const limit = readNumber('--limit', options.limit, Number.MAX_SAFE_INTEGER)
  const timeline = readNumber('--timeline', options.timeline, 0xffffffff)
  const cluster = chooseCluster(context.configuration(), clusterName)
  const { repository } = options
  const opened = await openEvents(
    cluster,
    { timeline, ...(repository === undefined ? {} : { repository }) },
    context.env,
  )
  for (const note of opened.notes) context.terminal.remark(`note: ${note}`)
  const printer = new EventPrinter(context, opened, filter, {
    cluster: cluster.name,
    config: context.configOption,
    repository,
    timeline: opened.walPath.path.timeline === opened.usualTimeline ? undefined : timeline,
  })
  await printRange(context, opened, range, printer, limit)
  if (await context.terminal.flush()) printer.finish(range)
  return 0
}

async function printRange(
  context: CommandContext,
  { walPath }: OpenedEvents,
  range: Range,
  printer: EventPrinter,
  limit: number | undefined,
): Promise<void> {
  const { progress, signal, terminal } = context
  progress.phase('reading what the WAL did', undefined, 'segments')
  const names = await openNameResolver(walPath)
  const events = readEvents({
    ...walPath,
    from: lookBack(range.from),
    to: range.to,
    onSegment: () => progress.advance(1),
    onWarning: (failure) => terminal.remark(`warning: ${failure.code}: ${failure.message}`),
  })
  const findMark = async (dropped: DroppedDatabase) => await findDatabaseMark(walPath, dropped)
  for await (const event of reportEvents(events, names, findMark)) {
    signal.throwIfAborted()
    if (isBefore(event, range.from)) continue
    if (printer.take(event) && !(await terminal.flush())) break
    if (limit !== undefined && printer.shown >= limit) break
  }
  progress.end()
}

/** What a transaction did at once may lie before the range in which it ended. */
const LOOK_BACK_MICROS = 600_000_000n

function lookBack(from: Range['from']): Range['from'] {
  if (from === 'start' || !('time' in from)) return from
  return { time: from.time - LOOK_BACK_MICROS }
}

function isBefore({ time, after }: ReportedEvent, from: Range['from']): boolean {
  if (from === 'start' || !('time' in from)) return false
  const at = time ?? after
  return at !== undefined && at < from.time
}

/** Counts everything, and prints what the filter lets through. */
class EventPrinter {
  readonly #context: CommandContext
  readonly #opened: OpenedEvents
  readonly #filter: EventFilter
  readonly #restore: FormatOptions['restore']
  readonly #histogram = new Histogram()
  #transactions = 0
  #rows = 0
  #incomplete = 0
  shown = 0

  constructor(
    context: CommandContext,
    opened: OpenedEvents,
    filter: EventFilter,
    restore: FormatOptions['restore'],
  ) {
    this.#context = context
    this.#opened = opened
    this.#filter = filter
    this.#restore = restore
  }

  /** True: it was printed. */
  take(event: ReportedEvent): boolean {
    const isPrinted = isShown(event, this.#filter)
    this.#count(event, isPrinted)
    if (!isPrinted) return false
    this.shown++
    const { terminal, progress, json } = this.#context
    const options: FormatOptions = {
      restore: this.#restore,
      isRecoverable: this.#opened.isRecoverable(event.beforeLsn),
      isNotable: isShown(event, NOTABLE),
    }
    progress.end()
    if (json) {
      terminal.printJsonLine(eventJson(event, options))
      return true
    }
    for (const line of formatEvent(event, options, terminal.colours)) terminal.print(line)
    return true
  }

  #count(event: ReportedEvent, isPrinted: boolean): void {
    const { transaction, time } = event
    if (event.isIncomplete) this.#incomplete++
    if (transaction === undefined) return
    const rows = transaction.inserted + transaction.updated + transaction.deleted
    this.#transactions++
    this.#rows += rows
    if (time !== undefined) this.#histogram.add(Number(time / 1000n), rows, isPrinted)
  }

  finish(range: Range): void {
    const { terminal, json, quiet } = this.#context
    const counts = {
      transactions: this.#transactions,
      rows: this.#rows,
      shown: this.shown,
      incomplete: this.#incomplete,
    }
    if (json) {
      terminal.printJsonLine({ kind: 'end', ...rangeJson(range), ...counts })
      return
    }
    const { drawing, colours } = terminal
    if (drawing !== undefined && !quiet) {
      const lines = drawHistogram(this.#histogram, drawing, colours)
      if (lines.length > 0) terminal.print()
      for (const line of lines) terminal.print(line)
    }
    const transactions = formatCount(counts.transactions, 'transaction')
    const total = `${transactions} changed ${formatCount(counts.rows, 'row')}`
    terminal.remark(`${total}; ${formatCount(counts.shown, 'event')} shown${this.#advice()}`)
  }

  #advice(): string {
    const { all, kinds, minRows, xid } = this.#filter
    const isUsual = !all && kinds === undefined && minRows === undefined && xid === undefined
    return isUsual ? '; --all shows every transaction' : ''
  }
}

const NOTABLE: EventFilter = {
  kinds: undefined,
  relation: undefined,
  database: undefined,
  xid: undefined,
  minRows: undefined,
  all: false,
}

interface Range {
  readonly from: EventBound | 'start'
  readonly to: EventBound | 'end'
}

const USUAL_SINCE = '24h'

function readRange({ since = USUAL_SINCE, until }: EventsOptions, at: Date): Range {
  const from = since === 'start' ? undefined : parseMoment(since, '--since', at)
  const to = until === undefined ? undefined : parseMoment(until, '--until', at)
  if (from !== undefined && to !== undefined && from >= to) {
    throw new Failure('TM1482', {
      message: `the range is empty: ${formatTime(from)} to ${formatTime(to)}`,
      because: '--until is not behind --since',
      fix: 'write the day with both, as in 2026-11-20T14:00:00Z',
    })
  }
  return {
    from: from === undefined ? 'start' : { time: from },
    to: to === undefined ? 'end' : { time: to },
  }
}

function rangeJson({ from, to }: Range): Record<string, string | null> {
  const text = (bound: EventBound | string): string | null =>
    typeof bound === 'object' && 'time' in bound ? formatTime(bound.time) : null
  return { since: text(from), until: text(to) }
}

function readFilter(options: EventsOptions): EventFilter {
  return {
    kinds: options.kind === undefined ? undefined : readKinds(options.kind),
    relation: options.relation,
    database: options.database,
    xid: readNumber('--xid', options.xid, 0xffffffff),
    minRows: readNumber('--min-rows', options.minRows, Number.MAX_SAFE_INTEGER),
    all: options.all === true,
  }
}

function readKinds(text: string): EventKind[] {
  return text.split(',').map((word) => {
    const kind = EVENT_KINDS.find((one) => one === word.trim().toLowerCase())
    if (kind !== undefined) return kind
    throw new Failure('TM1482', {
      message: `there is no kind of event '${word}'`,
      fix: `name one or several of ${EVENT_KINDS.join(', ')}`,
    })
  })
}

function readNumber(option: string, text: string | undefined, most: number): number | undefined {
  if (text === undefined) return undefined
  const value = /^\d{1,16}$/.test(text) ? Number(text) : 0
  if (value >= 1 && value <= most) return value
  throw new Failure('TM1001', {
    message: `${option} cannot be '${text}'`,
    fix: `it is a number from 1 to ${most}`,
  })
}
