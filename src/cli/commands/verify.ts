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
import { isBackupId } from '../../repository/keys.ts'
import { openRepository } from '../../repository/repository.ts'
import { openStorage } from '../../storage/open-storage.ts'
import type { Storage } from '../../storage/storage.ts'
import type { CommandContext } from '../command-context.ts'
import { wrongUsage } from '../program.ts'
import { formatFailure } from '../report-failure.ts'
import { parseWorkers } from './backup.ts'
import { dumpsJson, formatDumps, type ToldDumps } from './verify/format-dumps.ts'
import { formatReport, reportJson } from './verify/format-report.ts'
import { parseBudget } from './verify/parse-budget.ts'
import { findClusterOfDump, noSuchDump, tellDumps } from './verify/tell-dumps.ts'

export interface VerifyCommandOptions {
  readonly full?: boolean
  readonly backup?: string
  readonly dump?: string
  readonly budget?: string
  readonly days?: string
  readonly rebuildCatalogue?: boolean
  readonly repository?: string
  readonly workers?: string
}

const EXIT_PROBLEM = 3

export async function runVerify(
  context: CommandContext,
  clusterOrDump: string | undefined,
  given: VerifyCommandOptions,
): Promise<number> {
  const { clusterName, options } = await readArguments(context, clusterOrDump, given)
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
    const outcome = await verifyOne(context, repository, request, options.dump)
    if (!context.json) printOutcome(context, cluster.name, outcome)
    outcomes.push(outcome)
  }
  if (options.dump !== undefined && outcomes.every(isWithoutDump)) {
    throw noSuchDump(options.dump, [cluster.name])
  }
  if (context.json)
    printJson(context, cluster.name, options.dump === undefined ? mode.kind : 'dump', outcomes)
  return judge(outcomes)
}

/** A name begins with a letter, an id with a digit: `verify ID` is `verify --dump ID`. */
async function readArguments(
  context: CommandContext,
  first: string | undefined,
  options: VerifyCommandOptions,
): Promise<{ readonly clusterName: string | undefined; readonly options: VerifyCommandOptions }> {
  if (first === undefined || !isBackupId(first)) return { clusterName: first, options }
  const clusterName = await findClusterOfDump(context, context.configuration(), first)
  return { clusterName, options: { ...options, dump: first } }
}

function isWithoutDump({ result, dumps }: Outcome): boolean {
  return result === undefined && dumps === undefined
}

type VerifyRequest = Pick<VerifyOptions, 'cluster' | 'mode' | 'workers' | 'rebuildCatalogue'> & {
  readonly openOthers: () => Promise<OtherRepositories>
}

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
  /** Or why it cannot be looked at: the others are. Undefined: one dump was asked for. */
  readonly result: VerifyReport | Failure | undefined
  readonly dumps: ToldDumps | undefined
}

async function verifyOne(
  context: CommandContext,
  repository: RepositoryConfiguration,
  request: VerifyRequest,
  dumpId: string | undefined,
): Promise<Outcome> {
  const { env, progress, signal } = context
  const { cluster, mode, openOthers } = request
  try {
    // Not openRepository(): that its identity is damaged is a finding.
    const specification = await unlockStorage(repository, env)
    const storage = await openStorage(specification)
    const result =
      dumpId === undefined
        ? await verify({ ...request, storage, specification, progress, signal })
        : undefined
    const asked = { storage, cluster, mode, report: result, dumpId, openOthers }
    const dumps = await tellDumps(context, asked)
    return { repository: repository.name, result, dumps }
  } catch (error) {
    if (!(error instanceof Failure) || signal.aborted) throw error
    return { repository: repository.name, result: error, dumps: undefined }
  } finally {
    progress.end()
  }
}

function printOutcome({ terminal }: CommandContext, cluster: string, outcome: Outcome): void {
  const { repository, result, dumps } = outcome
  const { colours } = terminal
  const lines =
    result instanceof Failure
      ? [`${cluster} in ${repository}: cannot be verified`, formatFailure(result)]
      : result === undefined
        ? []
        : formatReport(cluster, repository, result, colours)
  const ofDumps = dumps === undefined ? [] : formatDumps({ cluster, repository }, dumps, colours)
  for (const line of [...lines, ...ofDumps]) terminal.print(line)
}

function printJson(
  { terminal }: CommandContext,
  cluster: string,
  mode: VerifyMode['kind'] | 'dump',
  outcomes: readonly Outcome[],
): void {
  terminal.printJson({
    cluster,
    mode,
    whole: judge(outcomes) === 0,
    repositories: outcomes.map(({ repository, result, dumps: told }) => {
      const dumps = told === undefined ? null : dumpsJson({ cluster, repository }, told)
      if (result instanceof Failure) return { repository, error: toFailureMessage(result) }
      if (result === undefined) return { repository, error: null, dumps }
      return { repository, error: null, ...reportJson(cluster, repository, result), dumps }
    }),
  })
}

/** A finding says more than a repository that cannot be looked at. */
function judge(outcomes: readonly Outcome[]): number {
  const statuses = outcomes.map(({ result, dumps }) => {
    if (result instanceof Failure) return result.exitStatus
    const findings = (result?.findings.length ?? 0) + (dumps?.findings.length ?? 0)
    return findings === 0 ? 0 : EXIT_PROBLEM
  })
  return Math.max(0, ...statuses)
}

/** TM1001 for options that contradict each other. */
function chooseMode(options: VerifyCommandOptions): VerifyMode {
  const { full, backup, dump, budget, days = '30' } = options
  const given = [full === true && '--full', backup !== undefined && '--backup'].filter(Boolean)
  if (dump !== undefined) given.push('--dump')
  if (budget !== undefined) given.push('--budget')
  if (given.length > 1) {
    throw wrongUsage(
      `${given.join(' and ')} cannot be given together`,
      '--full, --backup and --dump leave nothing out; --budget bounds the ordinary run',
      'choose one of them',
    )
  }
  if (full === true || dump !== undefined) return { kind: 'full' }
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
