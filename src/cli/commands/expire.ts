/** `expire`: shows what retention removes, and removes it when asked to. */
import { Failure, isFailure, toFailureMessage } from '../../base/failure.ts'
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
  type RepositoryConfiguration,
} from '../../config/configuration.ts'
import { findDumpPolicy, findRetention } from '../../config/retention.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import { type ExpireDumpsResult, expireDumps } from '../../dump/expire-dumps.ts'
import type { DumpPolicy } from '../../dump/plan-dump-expiration.ts'
import { releaseDump } from '../../dump/release-dump.ts'
import { openRepository } from '../../repository/repository.ts'
import { type ExpireResult, expire } from '../../retention/expire.ts'
import { type Released, release } from '../../retention/release.ts'
import type { RetentionPolicy } from '../../retention/retention-policy.ts'
import type { Storage } from '../../storage/storage.ts'
import type { CommandContext } from '../command-context.ts'
import { wrongUsage } from '../program.ts'
import { formatFailure } from '../report-failure.ts'
import { dumpExpiryJson, formatDumpExpiry } from './expire/format-dumps.ts'
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
  /** Dumps expire by themselves: neither keeps the other from it. Undefined: not looked at. */
  readonly dumps: ExpireDumpsResult | Failure | undefined
  readonly dumpPolicy: DumpPolicy | undefined
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
  const statuses = outcomes.flatMap(({ result, dumps }) => [statusOf(result), statusOf(dumps)])
  return Math.max(0, ...statuses)
}

function statusOf(result: object | undefined): number {
  return result instanceof Failure ? result.exitStatus : 0
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
  context: CommandContext,
  cluster: ClusterConfiguration,
  repository: RepositoryConfiguration,
  options: ExpireCommandOptions,
): Promise<Outcome> {
  const { env, progress, signal } = context
  const policy = findRetention(cluster, repository.name)
  const dumpPolicy = findDumpPolicy(cluster)
  const known = { repository: repository.name, policy, dumpPolicy }
  const id = options.release
  try {
    const storage = await orFailure(context, async () => {
      const opened = await openRepositoryStorage(repository, env)
      await openRepository(opened)
      return opened
    })
    if (storage instanceof Failure) return { ...known, result: storage, dumps: undefined }
    const request = { storage, cluster: cluster.name, progress, signal }
    if (id !== undefined) {
      const result = await orFailure(context, async () => {
        return await releaseAny(storage, cluster.name, id)
      })
      return { ...known, result, dumps: undefined }
    }
    const apply = options.apply === true
    const result = await orFailure(context, async () => {
      return await expire({ ...request, policy, apply })
    })
    const dumps = await orFailure(context, async () => {
      return await expireDumps({ ...request, policy: dumpPolicy, apply })
    })
    return { ...known, result, dumps }
  } finally {
    progress.end()
  }
}

async function orFailure<T>(
  { signal }: CommandContext,
  act: () => Promise<T>,
): Promise<T | Failure> {
  try {
    return await act()
  } catch (error) {
    if (!(error instanceof Failure) || signal.aborted) throw error
    return error
  }
}

async function releaseAny(storage: Storage, cluster: string, id: string): Promise<Released> {
  try {
    return await release(storage, cluster, id)
  } catch (error) {
    const dump = isFailure(error, 'TM1903') ? await releaseDump(storage, cluster, id) : undefined
    if (dump === undefined) throw error
    return dump
  }
}

function printOutcome({ terminal }: CommandContext, cluster: string, outcome: Outcome): void {
  const { repository, policy, result, dumps, dumpPolicy } = outcome
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
  if (dumps instanceof Failure) {
    terminal.print(`dumps of ${title}: nothing was removed, or not all`)
    terminal.print(formatFailure(dumps))
  } else if (dumps !== undefined) {
    for (const note of dumps.notes) terminal.remark(note)
    for (const line of formatDumpExpiry(dumps, dumpPolicy, terminal.colours)) terminal.print(line)
  }
}

function printJson(
  { terminal }: CommandContext,
  cluster: string,
  outcomes: readonly Outcome[],
): void {
  terminal.printJson({
    cluster,
    repositories: outcomes.map(({ repository, policy, result, dumps, dumpPolicy }) => {
      const ofDumps =
        dumps instanceof Failure
          ? { error: toFailureMessage(dumps) }
          : dumps && dumpExpiryJson(dumps, dumpPolicy)
      const more = { repository, dumps: ofDumps ?? null }
      if (result instanceof Failure) return { ...more, error: toFailureMessage(result) }
      if ('kind' in result) return { ...more, error: null, released: result }
      return { ...more, error: null, ...expiryJson(result, policy) }
    }),
  })
}
