/** `verify`: proves what is stored. Always says what was proved; exit status 3 on a finding. */
import { chooseCluster, chooseRepository } from '../../config/configuration.ts'
import { type VerifyMode, verify } from '../../recovery/verify.ts'
import { openStorage } from '../../storage/open-storage.ts'
import type { CommandContext } from '../command-context.ts'
import { wrongUsage } from '../program.ts'
import { parseWorkers } from './backup.ts'
import { formatReport, reportJson } from './verify/format-report.ts'
import { parseBudget } from './verify/parse-budget.ts'

export interface VerifyCommandOptions {
  readonly full?: boolean
  readonly backup?: string
  readonly budget?: string
  readonly days?: string
  readonly rebuildCatalogue?: boolean
  readonly repository?: string
  readonly workers?: string
}

const EXIT_PROBLEM = 3

export async function runVerify(
  context: CommandContext,
  clusterName: string | undefined,
  options: VerifyCommandOptions,
): Promise<number> {
  const { terminal, progress, signal } = context
  const cluster = chooseCluster(context.configuration(), clusterName)
  const repository = chooseRepository(cluster, options.repository)
  const mode = chooseMode(options)
  const workers = parseWorkers(options.workers)
  // Not openRepository(): that its identity is damaged is a finding.
  const specification = { url: repository.url }
  const report = await verify({
    storage: await openStorage(specification),
    specification,
    cluster: cluster.name,
    mode,
    workers,
    rebuildCatalogue: options.rebuildCatalogue === true,
    progress,
    signal,
  })
  progress.end()
  const about = { cluster: cluster.name, repository: repository.name, mode: mode.kind }
  if (context.json) terminal.printJson({ ...about, ...reportJson(report) })
  else for (const line of formatReport(about, report, terminal.colours)) terminal.print(line)
  return report.findings.length === 0 ? 0 : EXIT_PROBLEM
}

/** TM1001 for options that contradict each other. */
function chooseMode({ full, backup, budget, days = '30' }: VerifyCommandOptions): VerifyMode {
  const given = [full === true && '--full', backup !== undefined && '--backup'].filter(Boolean)
  if (budget !== undefined) given.push('--budget')
  if (given.length > 1) {
    throw wrongUsage(
      `${given.join(' and ')} cannot be given together`,
      '--full and --backup leave nothing out; --budget bounds the ordinary run',
      'choose one of them',
    )
  }
  if (full === true) return { kind: 'full' }
  if (backup !== undefined) return { kind: 'backup', id: backup }
  if (!/^\d{1,4}$/.test(days)) {
    throw wrongUsage(
      `--days cannot be '${days}'`,
      'it is a number of days',
      'for example: --days 7',
    )
  }
  const limits = budget === undefined ? {} : { budget: parseBudget(budget) }
  return { kind: 'incremental', days: Number(days), ...limits }
}
