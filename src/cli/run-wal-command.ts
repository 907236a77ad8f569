/**
 * `wal push PATH` and `wal get NAME PATH`: archive_command and restore_command.
 *
 * Invariant: 44, "proved absent", is given only for the outcome `absent` of fetchWalFile();
 * every other end of `wal get` but success is 255. Nothing slow is imported here.
 */
import { resolve } from 'node:path'
import type { RepositoryConfiguration } from '../config/configuration.ts'
import { environment } from '../config/environment.ts'
import { loadWalConfiguration, type WalCluster } from '../config/wal-configuration.ts'
import type { PushWalResult } from '../archive/push-wal.ts'
import { openRepository } from '../repository/repository.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { reportFailure, reportWarning } from './report-failure.ts'
import type { WalArguments } from './wal-arguments.ts'

const EXIT_ABSENT = 44
export const EXIT_GET_FAILED = 255

export async function runWalCommand(options: WalArguments): Promise<number> {
  try {
    const cluster = await findCluster(options)
    return options.command === 'push' ? await push(options, cluster) : await get(options, cluster)
  } catch (error) {
    const status = reportFailure(error, options)
    return options.command === 'get' ? EXIT_GET_FAILED : status
  }
}

async function findCluster(options: WalArguments): Promise<WalCluster> {
  const configuration = await loadWalConfiguration(options.config, environment())
  const [only] = configuration.clusters.values()
  const named = options.cluster
  const found = named === undefined ? undefined : configuration.clusters.get(named)
  if (found !== undefined) return found
  if (named === undefined && configuration.clusters.size === 1 && only !== undefined) return only
  const { chooseCluster } = await import('../config/configuration.ts')
  return chooseCluster(configuration, named)
}

/**
 * Repositories that are not required may still be busy at the end, or hang: this process does not
 * wait for them.
 */
async function push(options: WalArguments, cluster: WalCluster): Promise<number> {
  const isRequired = ({ name }: RepositoryConfiguration): boolean => cluster.required.includes(name)
  const others = cluster.repositories.filter((repository) => !isRequired(repository))
  if (others.length === 0) return await pushInto(options, cluster, cluster.repositories, [])
  const required = cluster.repositories.filter(isRequired)
  const status = await pushInto(options, cluster, required, others).catch((error: unknown) =>
    reportFailure(error, options),
  )
  process.exit(status)
}

async function pushInto(
  options: WalArguments,
  cluster: WalCluster,
  required: readonly RepositoryConfiguration[],
  others: readonly RepositoryConfiguration[],
): Promise<number> {
  const { pushWalFile } = await import('../archive/push-wal.ts')
  const { systemIdentifier } = options
  const storages = await Promise.all(required.map(open))
  for (const storage of storages) await openRepository(storage)
  const offers = others.length === 0 ? undefined : await import('./offer-to-others.ts')
  const asked = offers?.chooseOthers(others, openChecked) ?? { storages: [], away: [] }
  const result = await pushWalFile({
    storages,
    others: asked.storages,
    cluster: cluster.name,
    path: resolve(options.words[0] as string),
    ...(systemIdentifier === undefined ? {} : { systemIdentifier }),
    onWarning: reportWarning,
  })
  offers?.concludeOffers(result, asked.away, reportWarning)
  if (options.json) process.stdout.write(`${JSON.stringify(printable(result))}\n`)
  await index(result, storages, cluster.name, options)
  return 0
}

/** Everything is durable: what follows can neither fail the push nor hold it up for long. */
async function index(
  { kind, systemIdentifier }: PushWalResult,
  storages: readonly Storage[],
  cluster: string,
  { words }: WalArguments,
): Promise<void> {
  if (kind !== 'segment') return
  const { indexAfterPush } = await import('./index-after-push.ts')
  const path = resolve(words[0] as string)
  const indexed = await indexAfterPush({ storages, cluster, systemIdentifier, path })
  // A storage that hangs must not keep PostgreSQL waiting for what is archived already.
  if (indexed === 'late') process.exit(0)
}

function printable({ offers, ...result }: PushWalResult) {
  if (offers.length === 0) return result
  const missed = offers.filter(({ outcome }) => outcome === undefined)
  const taken = offers.flatMap(({ url, outcome }) =>
    outcome === undefined ? [] : [{ url, outcome }],
  )
  const outcomes = [...result.outcomes, ...taken]
  return {
    ...result,
    outcomes,
    missed: missed.map(({ url, failure }) => ({ url, code: failure?.code ?? null })),
  }
}

async function openChecked(repository: RepositoryConfiguration): Promise<Storage> {
  const storage = await open(repository)
  await openRepository(storage)
  return storage
}

/** Most repositories are directories, which need no keys: that code is not loaded for them. */
async function open(repository: RepositoryConfiguration): Promise<Storage> {
  const { url, s3, bandwidth, encryption } = repository
  const isPlain = s3 === undefined && bandwidth === undefined && encryption === undefined
  if (isPlain) return await openStorage({ url })
  const { openRepositoryStorage } = await import('../config/unlock-storage.ts')
  return await openRepositoryStorage(repository, environment())
}

async function get(options: WalArguments, cluster: WalCluster): Promise<number> {
  const { fetchWalFile } = await import('../archive/fetch-wal.ts')
  const [name, destination] = options.words as [string, string]
  const storages = await openInTurn(await chooseRepositories(options, cluster))
  const systemIdentifier =
    options.systemIdentifier ?? (await findSystem(cluster.name, storages, destination))
  const outcome = await fetchWalFile({
    storages,
    cluster: cluster.name,
    systemIdentifier,
    name,
    destination: resolve(destination),
    holes: options.holes,
    onWarning: reportWarning,
  })
  if (options.json) process.stdout.write(`${JSON.stringify({ name, outcome })}\n`)
  return outcome === 'fetched' ? 0 : EXIT_ABSENT
}

/** Those that are named, or all; the nearest first. */
async function chooseRepositories(
  { repositories: names }: WalArguments,
  cluster: WalCluster,
): Promise<readonly RepositoryConfiguration[]> {
  if (cluster.repositories.length === 1 && names === undefined) return cluster.repositories
  const { chooseRepository, nearestFirst } = await import('../config/configuration.ts')
  const chosen = names?.map((name) => chooseRepository(cluster, name)) ?? cluster.repositories
  return nearestFirst(chosen)
}

/**
 * Each is opened when those before it have not given the file: one that stands by and is away
 * costs a recovery nothing. One that cannot be opened proves no absence.
 */
async function openInTurn(repositories: readonly RepositoryConfiguration[]): Promise<Storage[]> {
  const [only] = repositories
  if (only !== undefined && repositories.length === 1) return [await openChecked(only)]
  const { openLazyStorage } = await import('../storage/lazy-storage.ts')
  return repositories.map((repository) => {
    return openLazyStorage(repository.url, async () => await openChecked(repository))
  })
}

/**
 * Whose WAL is wanted: that of the data directory which the destination lies in
 * (`pg_wal/RECOVERYXLOG`), of the working directory (PostgreSQL runs restore_command in its
 * data directory), or of the only server that the repository knows under this name.
 */
async function findSystem(
  cluster: string,
  storages: readonly Storage[],
  destination: string,
): Promise<string> {
  const { findSystemIdentifier } = await import('../archive/read-wal-file.ts')
  const directories = [resolve(destination, '..', '..'), process.cwd()]
  for (const directory of directories) {
    const found = await findSystemIdentifier(directory)
    if (found !== undefined) return found
  }
  const { onlySystemIdentifier } = await import('./only-system.ts')
  let refusal: unknown
  for (const storage of storages) {
    try {
      return await onlySystemIdentifier(cluster, storage)
    } catch (error) {
      refusal ??= error
    }
  }
  throw refusal
}
