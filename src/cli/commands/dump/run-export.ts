/** `dump --export`: into plain files, or to standard output. */
import { Failure } from '../../../base/failure.ts'
import type { ClusterConfiguration } from '../../../config/configuration.ts'
import type { DumpRequest } from '../../../dump/dump-context.ts'
import { type ExportCompression, type ExportResult, exportDump } from '../../../dump/export-dump.ts'
import { type CommandContext, connectionUrl } from '../../command-context.ts'
import { formatBytes, formatDuration } from '../../format-units.ts'
import { parseSplit } from '../parse-split.ts'
import type { DumpCommandOptions } from './read-options.ts'

export async function runExport(
  context: CommandContext,
  cluster: ClusterConfiguration,
  asked: Omit<DumpRequest, 'connection'>,
  options: DumpCommandOptions,
): Promise<number> {
  const path = options.export ?? ''
  const isStream = path === '-'
  if (isStream) judgeStream(context)
  const result = await exportDump(
    {
      dump: { ...asked, connection: connectionUrl(context, cluster) },
      output: isStream ? process.stdout : path,
      compression: options.compress as ExportCompression | undefined,
      splitBytes: parseSplit(options.split),
      overwrite: options.overwrite === true,
    },
    context.progress,
    context.signal,
  )
  context.progress.end()
  if (context.json) context.terminal.printJson(describe(cluster.name, asked, result))
  else print(context, result, isStream)
  return 0
}

/** TM2100 */
function judgeStream({ json }: CommandContext): void {
  if (json) {
    throw new Failure('TM2100', {
      message: '--json and --export - exclude each other',
      because: 'both would go to standard output',
      fix: 'name a file, or leave out --json',
    })
  }
  if (process.stdout.isTTY !== true) return
  throw new Failure('TM2100', {
    message: 'standard output is a terminal',
    fix: 'name a file, or let another program read it: … --export - | …',
  })
}

function describe(
  cluster: string,
  { format }: Pick<DumpRequest, 'format'>,
  { dumped, startedAt, files, notes }: ExportResult,
): Record<string, unknown> {
  const { server, toolVersion, selection, databases, finishedAt } = dumped
  return {
    cluster,
    format,
    startedAt: startedAt.toISOString(),
    finishedAt,
    server,
    toolVersion,
    selection,
    globals: dumped.globals !== undefined,
    databases: databases.map(({ name, oid, encoding, lsn, at, objects }) => {
      return { name, oid, encoding, lsn, at, objects }
    }),
    files,
    notes,
  }
}

function print(
  { terminal }: CommandContext,
  { dumped, startedAt, files, notes }: ExportResult,
  isStream: boolean,
): void {
  for (const note of notes) terminal.remark(note)
  const tell = isStream
    ? (line: string): void => terminal.remark(line)
    : (line: string): void => terminal.print(line)
  const took = formatDuration(Date.parse(dumped.finishedAt) - startedAt.getTime())
  tell(`exported ${dumped.databases.map(({ name }) => name).join(', ')} in ${took}`)
  for (const { path, bytes } of files) tell(`  ${path}  ${formatBytes(bytes)}`)
  for (const { name, lsn, at } of dumped.databases) tell(`  ${name}: as of ${lsn} (${at})`)
}
