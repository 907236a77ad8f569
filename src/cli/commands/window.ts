/** `window`: the intervals in which every moment can be recovered, and what interrupts them. */
import { type RecoveryWindow, readWindow } from '../../recovery/window.ts'
import { type CommandContext, openCluster } from '../command-context.ts'
import { formatCount } from '../format-units.ts'
import type { Colours } from '../terminal.ts'

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
    for (const line of formatWindow(cluster.name, window, terminal.colours)) terminal.print(line)
  }
  return options.check === true && !whole ? EXIT_PROBLEM : 0
}

/** Something can be recovered, and nothing is missing or damaged. */
export function isWhole({ intervals, unusable, damaged }: RecoveryWindow): boolean {
  const broken = intervals.filter(({ gap, damage }) => gap !== undefined || damage !== undefined)
  return (
    intervals.length > 0 && broken.length === 0 && unusable.length === 0 && damaged.length === 0
  )
}

export function windowJson(window: RecoveryWindow): Record<string, unknown> {
  return {
    systemIdentifier: window.systemIdentifier ?? null,
    intervals: window.intervals.map(({ gap, damage, tail, to, ...interval }) => ({
      ...interval,
      to: { time: to.time ?? null, lsn: to.lsn },
      tail: tail ?? null,
      gap: gap ?? null,
      damage: damage ?? null,
    })),
    unusable: window.unusable,
    damaged: window.damaged,
  }
}

export function formatWindow(
  cluster: string,
  { intervals, unusable, damaged }: RecoveryWindow,
  colours: Colours,
): string[] {
  const lines: string[] = []
  if (intervals.length === 0) {
    const nothing = unusable.length + damaged.length > 0
    lines.push(`${cluster}: nothing can be recovered${nothing ? '' : ': there is no backup yet'}`)
  }
  for (const { timeline, from, to, backups, lastSegment, gap, damage } of intervals) {
    lines.push(`${cluster}: ${colours.bold(describeMoments(from.time, to.time))}`)
    const last = `the WAL up to ${lastSegment}`
    lines.push(
      `  ${from.lsn} to ${to.lsn}, timeline ${timeline}, ${formatCount(backups.length, 'backup')} and ${last}`,
    )
    if (damage !== undefined) {
      lines.push(colours.red(`  then damage in ${damage.segment}: ${damage.because}`))
      lines.push('  mend it with the segment from a pg_wal (tidemark wal push FILE)')
    }
    if (gap !== undefined) {
      const names = gap.first === gap.last ? gap.first : `${gap.first} to ${gap.last}`
      lines.push(colours.red(`  then a hole of ${formatCount(gap.segments, 'segment')}: ${names}`))
      lines.push(
        '  mend it with the segment from a pg_wal (tidemark wal push FILE), or take a new backup',
      )
    }
  }
  for (const { backup, missing } of unusable) {
    lines.push(
      colours.red(`backup ${backup} cannot be restored: WAL segment ${missing} is missing`),
    )
  }
  for (const { backup, because } of damaged) {
    lines.push(colours.red(`backup ${backup} cannot be read: ${because}`))
  }
  return lines
}

/** Without a transaction after the backup's end there is that one moment only. */
function describeMoments(from: string, to: string | undefined): string {
  if (to !== undefined && Date.parse(to) > Date.parse(from)) return `every moment ${from} to ${to}`
  return `the moment ${from}, the end of the backup`
}
