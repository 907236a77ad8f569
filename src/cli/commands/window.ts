/** `window`: the intervals in which every moment can be recovered, and what interrupts them. */
import { now } from '../../base/clock.ts'
import {
  type DatedGap,
  type RecoveryWindow,
  type WindowEnd,
  readWindow,
  type WindowInterval,
} from '../../recovery/window.ts'
import { type CommandContext, openCluster } from '../command-context.ts'
import { formatCount } from '../format-units.ts'
import type { Colours, Terminal } from '../terminal.ts'
import { drawWindow } from './window/draw-window.ts'

export interface WindowOptions {
  readonly repository?: string
  readonly check?: boolean
}

const EXIT_PROBLEM = 3

export async function runWindow(
  context: CommandContext,
  clusterName: string | undefined,
  options: WindowOptions,
): Promise<number> {
  const { cluster, repository, storage } = await openCluster(
    context,
    clusterName,
    options.repository,
  )
  const window = await readWindow(storage, cluster.name, context.progress)
  context.progress.end()
  const whole = isWhole(window)
  const { terminal } = context
  if (context.json) {
    terminal.printJson({
      cluster: cluster.name,
      repository: repository.name,
      whole,
      ...windowJson(window),
    })
  } else {
    printWindow(terminal, cluster.name, window)
  }
  return options.check === true && !whole ? EXIT_PROBLEM : 0
}

/** With a bar where somebody looks at it. */
export function printWindow(terminal: Terminal, cluster: string, window: RecoveryWindow): void {
  const { colours, drawing } = terminal
  for (const line of formatWindow(cluster, window, colours)) terminal.print(line)
  if (drawing === undefined) return
  for (const line of drawWindow(window, now(), drawing, colours)) terminal.print(line)
}

/** Something can be recovered, nothing is missing or damaged, and what comes in has a backup. */
export function isWhole(window: RecoveryWindow): boolean {
  const { intervals, unusable, damaged } = window
  const isBroken = intervals.some(({ end }) => end !== 'archive')
  const isBlind = isUnprotected(window)
  return (
    intervals.length > 0 && !isBroken && !isBlind && unusable.length === 0 && damaged.length === 0
  )
}

/** No backup leads into the WAL of the newest timeline. An old branch may have been left. */
function isUnprotected({ withoutBackup, intervals }: RecoveryWindow): boolean {
  const newest = withoutBackup.findLast(({ isBeforeBackup }) => !isBeforeBackup)
  return newest !== undefined && intervals.every(({ timeline }) => timeline <= newest.timeline)
}

export function windowJson(window: RecoveryWindow): Record<string, unknown> {
  return {
    systemIdentifier: window.systemIdentifier ?? null,
    intervals: window.intervals.map(({ gap, damage, tail, to, ...interval }) => ({
      ...interval,
      to: { time: to.time ?? null, lsn: to.lsn },
      tail: tail ?? null,
      gap:
        gap === undefined
          ? null
          : {
              ...gap,
              since: gap.since ?? null,
              until: gap.until ?? null,
              recorded: gap.recorded ?? null,
            },
      damage: damage ?? null,
    })),
    unusable: window.unusable,
    withoutBackup: window.withoutBackup,
    damaged: window.damaged,
  }
}

export function formatWindow(cluster: string, window: RecoveryWindow, colours: Colours): string[] {
  const { intervals, unusable, damaged } = window
  const lines: string[] = []
  if (intervals.length === 0) {
    const nothing = unusable.length + damaged.length > 0
    lines.push(`${cluster}: nothing can be recovered${nothing ? '' : ': there is no backup yet'}`)
  }
  for (const interval of intervals) lines.push(...formatInterval(cluster, interval, colours))
  lines.push(...formatWithoutBackup(window, colours))
  for (const { backup, missing, brokenAt } of unusable) {
    const why =
      brokenAt === undefined ? `WAL segment ${missing} is missing` : `its WAL ends at ${brokenAt}`
    lines.push(colours.red(`backup ${backup} cannot be restored: ${why}`))
  }
  for (const { backup, because } of damaged) {
    lines.push(colours.red(`backup ${backup} cannot be read: ${because}`))
  }
  return lines
}

function formatInterval(cluster: string, interval: WindowInterval, colours: Colours): string[] {
  const { timeline, from, to, backups, lastSegment, tail, gap, damage, end } = interval
  const flushed = tail === undefined ? '' : `, with what was flushed of ${tail}`
  const held = `${formatCount(backups.length, 'backup')} and the WAL up to ${lastSegment}${flushed}`
  const lines = [
    `${cluster}: ${colours.bold(describeMoments(from.time, to.time))}`,
    `  ${from.lsn} to ${to.lsn}, timeline ${timeline}, ${held}`,
  ]
  if (end === 'minimal') {
    lines.push(colours.red(`  then wal_level=minimal at ${to.lsn}: nothing replays that`))
    lines.push('  set wal_level = replica, and take a new backup')
  }
  for (const lsn of interval.withoutPageWritesFrom ?? []) {
    const what = `  full_page_writes was turned off at ${lsn}`
    lines.push(colours.dim(`${what}: a crash of the server may leave torn pages`))
  }
  if (end === 'reset') {
    lines.push(colours.red(`  then pg_resetwal: WAL begins anew at ${interval.brokenAt}`))
    lines.push('  nothing replays that: take a new backup')
  }
  if (damage !== undefined) {
    lines.push(colours.red(`  then damage in ${damage.segment}: ${damage.because}`))
    lines.push('  mend it with the segment from a pg_wal (tidemark wal push FILE)')
  }
  if (gap !== undefined) lines.push(...formatGap(gap, end, colours))
  return lines
}

function formatGap(gap: DatedGap, end: WindowEnd, colours: Colours): string[] {
  const { first, last, segments, since, until, recorded } = gap
  const names = first === last ? first : `${first} to ${last}`
  const lines = [colours.red(`  then a hole of ${formatCount(segments, 'segment')}: ${names}`)]
  if (since !== undefined) {
    const end = until === undefined ? '' : ` until ${until}`
    lines.push(colours.red(`  what was done from ${since}${end} cannot be recovered`))
  }
  if (recorded !== undefined) {
    lines.push(`  recorded ${recorded.foundAt}: ${recorded.because}`)
  }
  if (end === 'reset') return lines
  lines.push(
    '  mend it with the segment from a pg_wal (tidemark wal push FILE), or take a new backup',
  )
  return lines
}

/** What is merely older than the first backup is one dim line; the rest is an alarm. */
function formatWithoutBackup(window: RecoveryWindow, colours: Colours): string[] {
  return window.withoutBackup.map(({ timeline, first, last, segments, isBeforeBackup }) => {
    const names = first === last ? first : `${first} to ${last}`
    const what = `no backup leads into ${formatCount(segments, 'segment')} of timeline ${timeline}`
    const text = `${what}: ${names}`
    if (isBeforeBackup) return colours.dim(`${text} (before a backup)`)
    return colours.red(`${text}; take a backup`)
  })
}

/** Without a transaction after the backup's end there is that one moment only. */
function describeMoments(from: string, to: string | undefined): string {
  if (to !== undefined && Date.parse(to) > Date.parse(from)) return `every moment ${from} to ${to}`
  return `the moment ${from}, the end of the backup`
}
