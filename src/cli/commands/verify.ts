/** `verify`: proves what is stored. Always says what was proved; exit status 3 on a finding. */
import { Failure, toFailureMessage } from '../../base/failure.ts'
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
  type RepositoryConfiguration,
} from '../../config/configuration.ts'
import { openRepositoryStorage, unlockStorage } from '../../config/unlock-storage.ts'
import {
  type OtherRepositories,
  type VerifyMode,
  type VerifyOptions,
  type VerifyReport,
  verify,
} from '../../recovery/verify.ts'
import { openRepository } from '../../repository/repository.ts'
import { openStorage } from '../../storage/open-storage.ts'
import type { Storage } from '../../storage/storage.ts'
import type { CommandContext } from '../command-context.ts'
import { wrongUsage } from '../program.ts'
import { formatFailure } from '../report-failure.ts'
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
  const cluster = chooseCluster(context.configuration(), clusterName)
  const repositories =
    options.repository === undefined
      ? cluster.repositories
      : [chooseRepository(cluster, options.repository)]
  const mode = chooseMode(options)
  const workers = parseWorkers(options.workers)
  const rebuildCatalogue = options.rebuildCatalogue === true
  const outcomes: Outcome[] = []
  for (const repository of repositories) {
    const openOthers = async () => await openOtherRepositories(context, cluster, repository)
    const request = { cluster: cluster.name, mode, workers, rebuildCatalogue, openOthers }
    const outcome = await verifyOne(context, repository, request)
    if (!context.json) printOutcome(context, cluster.name, outcome)
    outcomes.push(outcome)
  }
  if (context.json) printJson(context, cluster.name, mode, outcomes)
  return judge(outcomes)
}

type Request = Pick<
  VerifyOptions,
  'cluster' | 'mode' | 'workers' | 'rebuildCatalogue' | 'openOthers'
>

/** Where what is damaged may be whole; one that is away is said and left out. */
async function openOtherRepositories(
  { env }: CommandContext,
  cluster: ClusterConfiguration,
  verified: RepositoryConfiguration,
): Promise<OtherRepositories> {
  const healers: { name: string; storage: Storage }[] = []
  const notes: string[] = []
  for (const repository of cluster.repositories) {
    if (repository.name === verified.name) continue
    try {
      const storage = await openRepositoryStorage(repository, env)
      await openRepository(storage)
      healers.push({ name: repository.name, storage })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      notes.push(
        `${repository.name} could not be looked at for what is damaged here: ${error.message}`,
      )
    }
  }
  return { healers, notes }
}

interface Outcome {
  readonly repository: string
  /** Or why this repository cannot be looked at: the others are all the same. */
  readonly result: VerifyReport | Failure
}

async function verifyOne(
  { env, progress, signal }: CommandContext,
  repository: RepositoryConfiguration,
  request: Request,
): Promise<Outcome> {
  try {
    // Not openRepository(): that its identity is damaged is a finding.
    const specification = await unlockStorage(repository, env)
    const storage = await openStorage(specification)
    const result = await verify({ ...request, storage, specification, progress, signal })
    return { repository: repository.name, result }
  } catch (error) {
    if (!(error instanceof Failure) || signal.aborted) throw error
    return { repository: repository.name, result: error }
  } finally {
    progress.end()
  }
}

function printOutcome({ terminal }: CommandContext, cluster: string, outcome: Outcome): void {
  const { repository, result } = outcome
  const lines =
    result instanceof Failure
      ? [`${cluster} in ${repository}: cannot be verified`, formatFailure(result)]
      : formatReport(cluster, repository, result, terminal.colours)
  for (const line of lines) terminal.print(line)
}

function printJson(
  { terminal }: CommandContext,
  cluster: string,
  mode: VerifyMode,
  outcomes: readonly Outcome[],
): void {
  terminal.printJson({
    cluster,
    mode: mode.kind,
    whole: judge(outcomes) === 0,
    repositories: outcomes.map(({ repository, result }) =>
      result instanceof Failure
        ? { repository, error: toFailureMessage(result) }
        : { repository, error: null, ...reportJson(cluster, repository, result) },
    ),
  })
}

/** A finding says more than a repository that cannot be looked at. */
function judge(outcomes: readonly Outcome[]): number {
  const statuses = outcomes.map(({ result }) => {
    if (result instanceof Failure) return result.exitStatus
    return result.findings.length === 0 ? 0 : EXIT_PROBLEM
  })
  return Math.max(0, ...statuses)
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
