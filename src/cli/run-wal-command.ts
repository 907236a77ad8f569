/**
 * `wal push PATH` and `wal get NAME PATH`: archive_command and restore_command.
 *
 * Invariant: 44, "proved absent", is given only for the outcome `absent` of fetchWalFile();
 * every other end of `wal get` but success is 255. Nothing slow is imported here.
 */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { RepositoryConfiguration } from '../config/configuration.ts'
import { environment } from '../config/environment.ts'
import { loadWalConfiguration, type WalCluster } from '../config/wal-configuration.ts'
import { ACKNOWLEDGEMENTS_DIRECTORY } from '../archive/acknowledgements.ts'
import type { FetchOutcome, FetchWalOptions } from '../archive/fetch-wal.ts'
import type { PushAheadOptions, PushAheadResult } from '../archive/push-ahead.ts'
import type { PushWalOptions, PushWalResult } from '../archive/push-wal.ts'
import { Failure } from '../base/failure.ts'
import { openRepository } from '../repository/repository.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { formatFailureLine, reportFailure, reportWarning } from './report-failure.ts'
import type { WalArguments } from './wal-arguments.ts'

const EXIT_ABSENT = 44
export const EXIT_GET_FAILED = 255

/** `wal push --ahead` stores several segments at once: a hole may be one for a moment. */
const HOLE_PATIENCE_MS = 5000

export async function runWalCommand(options: WalArguments): Promise<number> {
  try {
    const cluster = await findCluster(options)
    if (options.indexNoted) return await indexBehind(options, cluster)
    return options.command === 'push' ? await push(options, cluster) : await get(options, cluster)
  } catch (error) {
    if (options.command === 'push') return await reportPush(error, options)
    reportFailure(error, options)
    return EXIT_GET_FAILED
  }
}

/** In one line, as it goes to the server's log again and again; with how long the disk lasts. */
async function reportPush(error: unknown, options: WalArguments): Promise<number> {
  if (options.json || options.verbose || !(error instanceof Failure)) {
    return reportFailure(error, options)
  }
  const { describeDiskOutlook, readDiskOutlook } = await import('../archive/disk-outlook.ts')
  const outlook = await readDiskOutlook(resolve(options.words[0] as string, '..', '..'))
  const lasts = outlook === undefined ? [] : [describeDiskOutlook(outlook)]
  process.stderr.write(`${formatFailureLine(error, lasts)}\n`)
  return error.exitStatus
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
  const status = await pushInto(options, cluster, required, others).catch(
    async (error: unknown) => await reportPush(error, options),
  )
  process.exit(status)
}

async function pushInto(
  options: WalArguments,
  cluster: WalCluster,
  required: readonly RepositoryConfiguration[],
  others: readonly RepositoryConfiguration[],
): Promise<number> {
  const { systemIdentifier } = options
  const storages = await Promise.all(required.map(open))
  const places: string[] = []
  for (const storage of storages) places.push((await openRepository(storage)).repositoryId)
  const offers = others.length === 0 ? undefined : await import('./offer-to-others.ts')
  const asked = offers?.chooseOthers(others, openChecked) ?? { storages: [], away: [] }
  const request = {
    storages,
    others: asked.storages,
    cluster: cluster.name,
    path: resolve(options.words[0] as string),
    ...(systemIdentifier === undefined ? {} : { systemIdentifier }),
    onWarning: reportWarning,
  }
  const pushed = options.ahead
    ? await pushManyFiles({ ...request, places })
    : await pushOneFile(request)
  offers?.concludeOffers(pushed.asked, asked.away, reportWarning)
  offers?.concludeAhead(pushed.ahead, asked.storages, reportWarning)
  if (options.json) process.stdout.write(`${JSON.stringify(describePushed(pushed))}\n`)
  if (cluster.walIndex) await haveIndexed(pushed, request.path)
  return 0
}

/** Everything is durable. A process that is left behind does the rest. */
async function haveIndexed({ asked, ahead }: Pushed, path: string): Promise<void> {
  const names = [asked, ...ahead].filter(({ kind }) => kind === 'segment').map(({ name }) => name)
  if (names.length === 0) return
  const dataDirectory = resolve(path, '..', '..')
  if (!existsSync(join(dataDirectory, ACKNOWLEDGEMENTS_DIRECTORY))) return
  const { indexTodoOf, noteForIndex } = await import('../events/index-todo.ts')
  if (!(await noteForIndex(indexTodoOf(dataDirectory), names))) return
  const { startIndexer } = await import('./start-filler.ts')
  startIndexer()
}

/** A repository that cannot be opened gets none. */
async function indexBehind(options: WalArguments, cluster: WalCluster): Promise<number> {
  const { indexNoted } = await import('../events/index-noted.ts')
  await indexNoted({
    dataDirectory: resolve(options.words[0] as string, '..', '..'),
    cluster: cluster.name,
    open: async () => {
      const opened = await Promise.allSettled(cluster.repositories.map(openChecked))
      return opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    },
  })
  // A storage that hangs must not outlive the server.
  process.exit(0)
}

type Pushed = Pick<PushAheadResult, 'asked' | 'ahead'>

async function pushOneFile(request: PushWalOptions): Promise<Pushed> {
  const { pushWalFile } = await import('../archive/push-wal.ts')
  return { asked: await pushWalFile(request), ahead: [] }
}

async function pushManyFiles(request: PushAheadOptions): Promise<Pushed> {
  const { pushAhead } = await import('../archive/push-ahead.ts')
  return await pushAhead(request)
}

function describePushed({ asked, ahead }: Pushed) {
  const names = ahead.map(({ name }) => name)
  return { ...printable(asked), ...(names.length === 0 ? {} : { ahead: names }) }
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
  const [name, destination] = options.words as [string, string]
  const storages = await openInTurn(await chooseRepositories(options, cluster))
  const systemIdentifier =
    options.systemIdentifier ?? (await findSystem(cluster.name, storages, destination))
  const dataDirectory = resolve(destination, '..', '..')
  if (options.fill) {
    const { fillSpool } = await import('../archive/fill-spool.ts')
    const source = { storages, cluster: cluster.name, systemIdentifier }
    await fillSpool({ ...source, dataDirectory, timeline: options.timeline })
    return 0
  }
  const request = {
    storages,
    cluster: cluster.name,
    systemIdentifier,
    name,
    destination: resolve(destination),
    holes: options.holes,
    holePatienceMs: HOLE_PATIENCE_MS,
    onWarning: reportWarning,
  }
  const outcome = options.ahead
    ? await getAhead(request, dataDirectory)
    : await (await import('../archive/fetch-wal.ts')).fetchWalFile(request)
  if (options.json) process.stdout.write(`${JSON.stringify({ name, outcome })}\n`)
  if (outcome === 'fetched') return 0
  const place = { cluster: cluster.name, systemIdentifier }
  return (await passesOver(storages, place, name, resolve(destination))) ? 0 : EXIT_ABSENT
}

/** A server that takes over passes over the numbers that others have reserved. */
async function passesOver(
  storages: readonly Storage[],
  place: { readonly cluster: string; readonly systemIdentifier: string },
  name: string,
  destination: string,
): Promise<boolean> {
  if (!name.endsWith('.history')) return false
  const { giveStandIn } = await import('../archive/stand-in-history.ts')
  const dataDirectories = [resolve(destination, '..', '..'), process.cwd()]
  return await giveStandIn({ ...place, storages, name, destination, dataDirectories })
}

async function getAhead(request: FetchWalOptions, dataDirectory: string): Promise<FetchOutcome> {
  const { fetchAhead } = await import('../archive/fetch-ahead.ts')
  const { startFiller } = await import('./start-filler.ts')
  return await fetchAhead({
    ...request,
    dataDirectory,
    startFiller: () => {
      startFiller(dataDirectory)
    },
  })
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
