/** What `dump` says at its end: the dump, and what became of it in each repository. */
import type { TargetReport } from '../../../backup/targets.ts'
import type { DumpResult } from '../../../dump/dump-context.ts'
import type { DumpRecord } from '../../../repository/dump-record.ts'
import type { CommandContext } from '../../command-context.ts'
import { formatBytes, formatCount, formatDuration } from '../../format-units.ts'

export function dumpJson(
  cluster: string,
  { record, notes }: DumpResult,
  reports: readonly TargetReport[],
): Record<string, unknown> {
  return {
    cluster,
    dump: describeDump(record),
    notes,
    repositories: reports.map((report) => ({
      name: report.name,
      url: report.url,
      required: report.required,
      outcome: report.outcome,
      code: report.failure?.code ?? null,
      because: report.failure?.message ?? null,
    })),
  }
}

function describeDump(record: DumpRecord): Record<string, unknown> {
  return {
    id: record.id,
    format: record.format,
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
    durationMs: durationOf(record),
    server: record.server,
    toolVersion: record.toolVersion,
    selection: record.selection,
    globals: record.globals !== undefined,
    databases: record.databases.map((database) => ({
      name: database.name,
      oid: database.oid,
      encoding: database.encoding,
      lsn: database.lsn,
      at: database.at,
      bytes: bytesOf(record, database.files),
      files: database.files.length,
      objects: database.objects,
    })),
    base: record.base ?? null,
    sizes: record.sizes,
    labels: record.labels,
  }
}

function durationOf({ startedAt, finishedAt }: DumpRecord): number {
  return Date.parse(finishedAt) - Date.parse(startedAt)
}

function bytesOf(record: DumpRecord, files: readonly number[]): number {
  return files.reduce((sum, file) => sum + (record.files[file]?.bytes ?? 0), 0)
}

export function printDump(
  context: CommandContext,
  cluster: string,
  { record, notes }: DumpResult,
  reports: readonly TargetReport[],
): void {
  const { terminal } = context
  for (const note of notes) terminal.remark(note)
  const stored = reports.filter(({ outcome }) => outcome === 'stored').map(({ name }) => name)
  const took = formatDuration(durationOf(record))
  const { sizes } = record
  terminal.print(
    `dump ${terminal.colours.bold(record.id)} of ${record.cluster} is in ` +
      `${stored.join(' and in ')}, in ${took}`,
  )
  terminal.print(
    `  ${formatBytes(sizes.rawBytes)} (${record.format}); ` +
      `${formatBytes(sizes.reusedBytes)} were there already, ` +
      `the rest takes ${formatBytes(sizes.storedBytes)}`,
  )
  for (const database of record.databases) {
    const objects =
      database.objectLists.length === 0 ? '' : `, ${formatCount(database.objects, 'object')}`
    const bytes = formatBytes(bytesOf(record, database.files))
    terminal.print(`  ${database.name}: ${bytes}${objects}, at ${database.lsn} (${database.at})`)
  }
  if (record.globals !== undefined) terminal.print('  with roles, tablespaces and settings')
  for (const report of reports) {
    if (report.outcome !== 'stored') warn(context, cluster, report)
  }
}

function warn({ terminal }: CommandContext, cluster: string, report: TargetReport): void {
  const { name, failure } = report
  const code = failure === undefined ? '' : ` ${failure.code}`
  terminal.print(terminal.colours.yellow(`warning${code}: ${name} has not this dump`))
  if (failure !== undefined) {
    terminal.print(`  because: ${failure.message}: ${failure.because ?? ''}`)
    terminal.print(`  fix: ${failure.fix}`)
  }
  terminal.print(`  then: tidemark dump ${cluster} --repository ${name}`)
}
