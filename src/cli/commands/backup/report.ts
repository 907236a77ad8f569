/** What `backup` says at its end: the backup, and what became of it in each repository. */
import type { BackupResult } from '../../../backup/backup-context.ts'
import type { TargetReport } from '../../../backup/targets.ts'
import type { CommandContext } from '../../command-context.ts'
import { backupJson } from '../../describe-backup.ts'
import { formatBytes, formatCount, formatDuration } from '../../format-units.ts'

/** `backups`: of each repository that has it, as when every one had a backup of its own. */
export function resultJson(
  cluster: string,
  { record, notes }: BackupResult,
  reports: readonly TargetReport[],
): Record<string, unknown> {
  const stored = reports.filter(({ outcome }) => outcome === 'stored')
  return {
    cluster,
    backups: stored.map(({ name }) => ({ repository: name, ...backupJson(record), notes })),
    repositories: reports.map((report) => ({
      name: report.name,
      url: report.url,
      required: report.required,
      outcome: report.outcome,
      code: codeOf(report) ?? null,
      because: report.failure?.message ?? null,
    })),
  }
}

function codeOf({ outcome, failure }: TargetReport): string | undefined {
  return outcome === 'behind' ? 'TM1320' : failure?.code
}

export function printResult(
  context: CommandContext,
  cluster: string,
  { record, notes }: BackupResult,
  reports: readonly TargetReport[],
): void {
  const { terminal } = context
  const { statistics } = record
  for (const note of notes) terminal.remark(note)
  const stored = reports.filter(({ outcome }) => outcome === 'stored').map(({ name }) => name)
  const took = formatDuration(statistics.durationMs)
  const rate = (statistics.bytesRead * 1000) / Math.max(1, statistics.durationMs)
  terminal.print(
    `backup ${terminal.colours.bold(record.id)} of ${record.cluster} is in ` +
      `${stored.join(' and in ')}, in ${took}`,
  )
  terminal.print(
    `  ${formatBytes(record.files.bytes)} in ` +
      `${formatCount(record.files.entries, 'entry', 'entries')}; ` +
      `read ${formatBytes(statistics.bytesRead)} (${formatBytes(rate)}/s), ` +
      `stored ${formatBytes(statistics.bytesStored)}`,
  )
  const base = record.comparedWith
  terminal.print(base === undefined ? '  everything was stored' : `  what changed since ${base}`)
  terminal.print(`  recoverable from ${record.stopLsn} on timeline ${record.timeline}`)
  for (const { relation, path, blocks } of record.damage) {
    const what = `${formatCount(blocks.length, 'damaged page')} in ${relation ?? path}`
    terminal.print(terminal.colours.red(`  ${what}: kept as they are (tidemark show ${record.id})`))
  }
  for (const report of reports) {
    if (report.outcome !== 'stored') warn(context, cluster, report, stored[0] ?? '')
  }
}

function warn(
  { terminal }: CommandContext,
  cluster: string,
  report: TargetReport,
  source: string,
): void {
  const { name, failure } = report
  const [what, because] =
    failure === undefined
      ? [`${name} is behind`, 'it lacks the backup that this one was compared with']
      : [`${name} was left out`, `${failure.message}: ${failure.because ?? ''}`]
  terminal.print(
    terminal.colours.yellow(`warning ${codeOf(report)}: ${what}: it has not this backup`),
  )
  terminal.print(`  because: ${because}`)
  terminal.print(`  fix: tidemark sync ${cluster} --from ${source} --to ${name}`)
}
