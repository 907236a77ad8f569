/** `dump`: logical backups of databases into every repository of the cluster, or elsewhere. */
import { chooseCluster } from '../../config/configuration.ts'
import type { DumpResult, TakeDumpOptions } from '../../dump/dump-context.ts'
import { takeDump } from '../../dump/take-dump.ts'
import { type CommandContext, connectionUrl } from '../command-context.ts'
import { openTargets } from '../open-targets.ts'
import { checkWay } from './dump/check-way.ts'
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
  const asked = readOptions(context, options)
  if (way === 'copy') return await runCopy(context, cluster, asked, options)
  if (way === 'export') return await runExport(context, cluster, asked, options)
  const { targets, unusable } = await openTargets(context, cluster, options.repository)
  const request: TakeDumpOptions = {
    ...asked,
    targets,
    cluster: cluster.name,
    connection: connectionUrl(context, cluster),
  }
  const result: DumpResult = await takeDump(request, context.progress, context.signal)
  context.progress.end()
  const reports = [...result.targets, ...unusable]
  if (context.json) context.terminal.printJson(dumpJson(cluster.name, result, reports))
  else printDump(context, cluster.name, result, reports)
  return reports.every(({ outcome }) => outcome === 'stored') ? 0 : EXIT_INCOMPLETE
}
