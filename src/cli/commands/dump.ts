/** `dump`: logical backups of databases into every repository of the cluster, or elsewhere. */
import { type ClusterConfiguration, chooseCluster } from '../../config/configuration.ts'
import type { DumpResult, TakeDumpOptions } from '../../dump/dump-context.ts'
import { takeCopy } from '../../dump/take-copy.ts'
import { takeDump } from '../../dump/take-dump.ts'
import type { CopyFormat } from '../../repository/dump-record.ts'
import { type CommandContext, connectionUrl } from '../command-context.ts'
import { openTargets } from '../open-targets.ts'
import { parseLabels } from './backup.ts'
import { checkWay } from './dump/check-way.ts'
import { isCopyFormat, readCopyOptions, refuseCopyOptions } from './dump/copy.ts'
import { type DumpCommandOptions, readOptions } from './dump/read-options.ts'
import { dumpJson, printDump } from './dump/report.ts'
import { runCopy } from './dump/run-copy.ts'
import { runExport } from './dump/run-export.ts'

/** The dump is there, but not in every repository. */
const EXIT_INCOMPLETE = 3

export async function runDump(
  context: CommandContext,
  clusterName: string | undefined,
  options: DumpCommandOptions,
): Promise<number> {
  const way = checkWay(options)
  const cluster = chooseCluster(context.configuration(), clusterName)
  const { format } = options
  if (isCopyFormat(format))
    return await runDumpInto(context, cluster, options, readCopy(context, options, format))
  refuseCopyOptions(options)
  const asked = readOptions(context, options, format)
  if (way === 'copy') return await runCopy(context, cluster, asked, options)
  if (way === 'export') return await runExport(context, cluster, asked, options)
  return await runDumpInto(context, cluster, options, async (place) => {
    return await takeDump({ ...asked, ...place }, context.progress, context.signal)
  })
}

type Place = Pick<TakeDumpOptions, 'targets' | 'cluster' | 'connection'>
type Take = (place: Place) => Promise<DumpResult>

function readCopy(
  { progress, signal }: CommandContext,
  options: DumpCommandOptions,
  format: CopyFormat,
): Take {
  const copy = readCopyOptions(options, format)
  const labels = parseLabels(options.label)
  return async (place) => await takeCopy({ ...copy, labels, ...place }, progress, signal)
}

/** Options were judged before: here repositories are opened. */
async function runDumpInto(
  context: CommandContext,
  cluster: ClusterConfiguration,
  { repository }: DumpCommandOptions,
  take: Take,
): Promise<number> {
  const { targets, unusable } = await openTargets(context, cluster, repository)
  const connection = connectionUrl(context, cluster)
  const result = await take({ targets, cluster: cluster.name, connection })
  context.progress.end()
  const reports = [...result.targets, ...unusable]
  if (context.json) context.terminal.printJson(dumpJson(cluster.name, result, reports))
  else printDump(context, cluster.name, result, reports)
  return reports.every(({ outcome }) => outcome === 'stored') ? 0 : EXIT_INCOMPLETE
}
