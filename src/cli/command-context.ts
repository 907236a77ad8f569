/**
 * What every command gets besides its own options. A command is a function of it that
 * returns the exit status (0, or 3 when a check found a problem) and throws a Failure
 * otherwise.
 */
import {
  type ClusterConfiguration,
  type Configuration,
  chooseCluster,
  chooseRepository,
  type RepositoryConfiguration,
} from '../config/configuration.ts'
import { applyEnvironment } from '../config/apply-environment.ts'
import { type Environment, environment } from '../config/environment.ts'
import { loadConfiguration } from '../config/load-configuration.ts'
import {
  type Connection,
  resolveConnection,
  resolveStandbys,
} from '../config/resolve-connection.ts'
import { openRepositoryStorage } from '../config/unlock-storage.ts'
import { type Repository, openRepository } from '../repository/repository.ts'
import type { Storage } from '../storage/storage.ts'
import { openProgress, type ShownProgress } from './progress-bar.ts'
import { describeStorage, storageJson } from './storage-report.ts'
import { openTerminal, type Terminal } from './terminal.ts'

/** Options that stand before the command's name. */
export interface GlobalOptions {
  readonly config?: string
  readonly json?: boolean
  readonly quiet?: boolean
  readonly verbose?: boolean
  readonly progress?: boolean
}

export interface CommandContext {
  /** --config as it was given. */
  readonly configOption: string | undefined
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
  readonly env: Environment
  readonly terminal: Terminal
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal
  /** A bar, lines or nothing; ends by itself. */
  readonly progress: ShownProgress
  /** Loads tidemark.yaml when first asked. */
  configuration(): Configuration
  close(): void
}

export function createContext(options: GlobalOptions, signal: AbortSignal): CommandContext {
  const env = environment()
  const quiet = options.quiet === true
  const terminal = withStorageReport(openTerminal({ quiet, env }), options.verbose === true)
  const progress = openProgress({
    stream: terminal.progressStream,
    asked: options.progress,
    quiet: options.quiet === true,
  })
  let configuration: Configuration | undefined
  return {
    configOption: options.config,
    json: options.json === true,
    quiet: options.quiet === true,
    verbose: options.verbose === true,
    env,
    terminal,
    signal,
    progress,
    configuration() {
      configuration ??= loadConfiguration(options.config, env)
      return configuration
    },
    close() {
      progress.end()
      if (options.verbose !== true || options.json === true) return
      for (const line of describeStorage()) terminal.remark(line)
    },
  }
}

/** With --json and --verbose the document says at its end what was asked of each repository. */
function withStorageReport(terminal: Terminal, verbose: boolean): Terminal {
  if (!verbose) return terminal
  return {
    ...terminal,
    printJson(value) {
      const isDocument = typeof value === 'object' && value !== null && !Array.isArray(value)
      terminal.printJson(isDocument ? { ...value, storage: storageJson() } : value)
    },
  }
}

/** A cluster of the configuration with the repository that a reading command looks at. */
export interface OpenedCluster {
  readonly cluster: ClusterConfiguration
  readonly repository: RepositoryConfiguration
  readonly storage: Storage
  readonly opened: Repository
}

/** TM1004 for an unknown name; TM1503 when the URL holds no repository. */
export async function openCluster(
  context: CommandContext,
  clusterName: string | undefined,
  repositoryName?: string,
): Promise<OpenedCluster> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const repository = chooseRepository(cluster, repositoryName)
  const storage = await openRepositoryStorage(repository, context.env)
  return { cluster, repository, storage, opened: await openRepository(storage) }
}

/** The URL to connect with, password and all. Not to be printed. */
export function connectionUrl(context: CommandContext, cluster: ClusterConfiguration): string {
  return urlOf(context, resolveConnection(cluster, context.env))
}

/** That of the cluster, then those of its standbys. Not to be printed. */
export function allConnectionUrls(
  context: CommandContext,
  cluster: ClusterConfiguration,
): [string, ...string[]] {
  const standbys = resolveStandbys(cluster, context.env)
  return [connectionUrl(context, cluster), ...standbys.map((one) => urlOf(context, one))]
}

function urlOf(context: CommandContext, { connection, password }: Connection): string {
  if (password === undefined) return applyEnvironment(connection.reveal(), context.env)
  const url = connection.reveal()
  const separator = url.includes('?') ? '&' : '?'
  const whole = `${url}${separator}password=${encodeURIComponent(password.reveal())}`
  return applyEnvironment(whole, context.env)
}
