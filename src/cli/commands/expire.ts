/** `expire`: shows what retention removes, and removes it when asked to. */
import { Failure, toFailureMessage } from '../../base/failure.ts'
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
  type RepositoryConfiguration,
} from '../../config/configuration.ts'
import { findRetention } from '../../config/retention.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import { openRepository } from '../../repository/repository.ts'
import { type ExpireResult, expire } from '../../retention/expire.ts'
import { type Released, release } from '../../retention/release.ts'
import type { RetentionPolicy } from '../../retention/retention-policy.ts'
import type { CommandContext } from '../command-context.ts'
import { wrongUsage } from '../program.ts'
import { formatFailure } from '../report-failure.ts'
import { expiryJson, formatExpiry } from './expire/format-plan.ts'

export interface ExpireCommandOptions {
  readonly apply?: boolean
  readonly repository?: string
  readonly release?: string
}

interface Outcome {
  readonly repository: string
  readonly policy: RetentionPolicy | undefined
  /** Or why this repository was left alone: the others are treated all the same. */
  readonly result: ExpireResult | Released | Failure
}

export async function runExpire(
  context: CommandContext,
  clusterName: string | undefined,
  options: ExpireCommandOptions,
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const repositories =
    options.repository === undefined
      ? cluster.repositories
      : [chooseRepository(cluster, options.repository)]
  requireOneRepository(options, repositories)
  const outcomes: Outcome[] = []
  for (const repository of repositories) {
    const outcome = await expireIn(context, cluster, repository, options)
    if (!context.json) printOutcome(context, cluster.name, outcome)
    outcomes.push(outcome)
  }
  if (context.json) printJson(context, cluster.name, outcomes)
  const statuses = outcomes.map(({ result }) => (result instanceof Failure ? result.exitStatus : 0))
  return Math.max(0, ...statuses)
}

function requireOneRepository(
  { apply, release: id }: ExpireCommandOptions,
  repositories: readonly RepositoryConfiguration[],
): void {
  if (id === undefined) return
  if (apply === true) {
    throw wrongUsage(
      '--apply and --release cannot be given together',
      'what is released is looked at by the run after it',
      'give --release alone, then run tidemark expire',
    )
  }
  if (repositories.length === 1) return
  throw wrongUsage(
    '--release needs --repository',
    'the cluster has several, and each has holds of its own',
    `name one: ${repositories.map(({ name }) => name).join(', ')}`,
  )
}

async function expireIn(
  { env, progress, signal }: CommandContext,
  cluster: ClusterConfiguration,
  repository: RepositoryConfiguration,
  options: ExpireCommandOptions,
): Promise<Outcome> {
  const policy = findRetention(cluster, repository.name)
  try {
    const storage = await openRepositoryStorage(repository, env)
    await openRepository(storage)
    const request = { storage, cluster: cluster.name, policy, progress, signal }
    const result =
      options.release === undefined
        ? await expire({ ...request, apply: options.apply === true })
        : await release(storage, cluster.name, options.release)
    return { repository: repository.name, policy, result }
  } catch (error) {
    if (!(error instanceof Failure) || signal.aborted) throw error
    return { repository: repository.name, policy, result: error }
  } finally {
    progress.end()
  }
}

function printOutcome({ terminal }: CommandContext, cluster: string, outcome: Outcome): void {
  const { repository, policy, result } = outcome
  const title = `${cluster} in ${repository}`
  if (result instanceof Failure) {
    terminal.print(`${title}: nothing was removed, or not all`)
    terminal.print(formatFailure(result))
  } else if ('kind' in result) {
    terminal.print(`${title}: released the ${result.kind.replace('-', ' ')} ${result.id}`)
  } else {
    for (const note of result.notes) terminal.remark(note)
    for (const line of formatExpiry(title, result, policy, terminal.colours)) terminal.print(line)
  }
}

function printJson(
  { terminal }: CommandContext,
  cluster: string,
  outcomes: readonly Outcome[],
): void {
  terminal.printJson({
    cluster,
    repositories: outcomes.map(({ repository, policy, result }) => {
      if (result instanceof Failure) return { repository, error: toFailureMessage(result) }
      if ('kind' in result) return { repository, error: null, released: result }
      return { repository, error: null, ...expiryJson(result, policy) }
    }),
  })
}
