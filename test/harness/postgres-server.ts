/**
 * Real PostgreSQL servers for tests: each in its own directory, on its own Unix socket,
 * never on TCP, so any number may run beside each other and beside the machine's own.
 *
 * Invariant: a server that was started here does not outlive the test process
 * (temporary-directory.ts). fsync is off unless a test asks for it: tests kill processes,
 * not machines.
 */
import { chownSync, existsSync, mkdirSync } from 'node:fs'
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { defaultMajor, findTool, serverDirectory } from './postgres-binaries.ts'
import { makeCluster } from './initdb-template.ts'
import { Postmaster } from './postmaster.ts'
import { type RunOptions, type RunResult, runChecked } from './run-program.ts'
import { type Owner, serverUser } from './server-user.ts'
import { removeDirectory, stopServerAtExit, temporaryDirectory } from './temporary-directory.ts'

export const MAJORS = [13, 14, 15, 16, 17, 18] as const

/**
 * For what differs little between neighbours and is proved on all of them elsewhere as well
 * (versions.pg.test.ts): `npm test` takes three, `npm run soak` all.
 */
export const SAMPLED_MAJORS: readonly (typeof MAJORS)[number][] =
  process.env['TEST_MAJORS'] === 'all' ? MAJORS : [13, 15, 18]

export type Settings = Readonly<Record<string, string>>

interface ServerOptions {
  /** Debian's newest unless given, else the embedded 17. */
  readonly major?: number
  /** true: the embedded build; false: Debian's; unset: Debian's where there is one. */
  readonly embedded?: boolean
  readonly settings?: Settings
  /** Environment of the server, so of archive_command and restore_command. */
  readonly env?: Readonly<Record<string, string>>
}

export interface StartOptions extends ServerOptions {
  /** Data checksums; on unless false. */
  readonly checksums?: boolean
  readonly walSegmentSizeMb?: number
  /** The data directory to create; its parent must exist. A temporary one unless given. */
  readonly directory?: string
  /** `C` unless given. */
  readonly locale?: string
}

export interface OpenOptions extends ServerOptions {
  /** `none`: do not wait for readiness; see waitForExit(). `ready` unless given. */
  readonly wait?: 'ready' | 'none'
}

export type StopMode = 'smart' | 'fast' | 'immediate'

export type Row = Record<string, unknown>

export interface PostgresServer extends AsyncDisposable {
  readonly major: number
  readonly binDirectory: string
  readonly dataDirectory: string
  readonly socketDirectory: string
  readonly port: number
  readonly user: string
  /** Whom the server runs as where that is not the test's own user. */
  readonly runAs: Owner | undefined
  /** A form that libpq, node-postgres and Tidemark all take. */
  url(database?: string): string
  /** A connection of the caller's own, to be ended by him. */
  connect(database?: string): Promise<pg.Client>
  sql<R extends Row = Row>(
    text: string,
    params?: readonly unknown[],
    database?: string,
  ): Promise<R[]>
  /** Runs a client tool as the server's user, with PGHOST, PGPORT and PGUSER set. */
  tool(name: string, args: readonly string[], options?: RunOptions): Promise<RunResult>
  log(): Promise<string>
  isRunning(): boolean
  stop(mode?: StopMode): Promise<void>
  /** SIGKILL of every process of the server, as the end of a machine would. */
  kill(): Promise<void>
  start(extraSettings?: Settings): Promise<void>
  restart(extraSettings?: Settings): Promise<void>
  /** Waits until the server ends by itself (recovery_target_action=shutdown, or FATAL). */
  waitForExit(timeoutMs?: number): Promise<number | undefined>
  dispose(): Promise<void>
}

/** Creates a cluster, as initdb makes it, and starts it. */
export async function startPostgres(options: StartOptions = {}): Promise<PostgresServer> {
  const major = options.major ?? defaultMajor()
  const place = makePlace(major, options)
  const data = options.directory ?? join(place.base, 'data')
  await initdb(place, data, major, options)
  const settings = { ...DEFAULTS, ...ownAddress(place), ...options.settings }
  await appendFile(join(data, 'postgresql.conf'), formatSettings(settings))
  const server = new LocalServer(place, data, {})
  await server.startOrDispose('ready')
  return server
}

/**
 * Starts a server on a directory that exists: one that a restore made, with its own
 * postgresql.conf. Address and fsync come from the command line, so that the copy never
 * takes the living server's socket; `settings` are added to them.
 */
export async function openServerOn(
  dataDirectory: string,
  options: OpenOptions = {},
): Promise<PostgresServer> {
  const major = Number((await readFile(join(dataDirectory, 'PG_VERSION'), 'utf8')).trim())
  const place = makePlace(major, options)
  const server = new LocalServer(place, dataDirectory, {
    fsync: 'off',
    logging_collector: 'off',
    log_destination: 'stderr',
    ...ownAddress(place),
    ...options.settings,
  })
  await server.startOrDispose(options.wait ?? 'ready')
  return server
}

const DEFAULTS: Settings = {
  fsync: 'off',
  shared_buffers: '32MB',
  max_connections: '40',
  timezone: 'UTC',
  log_timezone: 'UTC',
  lc_messages: 'C',
  log_line_prefix: '%m [%p] ',
  log_checkpoints: 'off',
}

/** Sockets are private to a directory, so every server may have the same port. */
const PORT = 5499

/** What a server needs besides its data directory. */
interface Place {
  readonly major: number
  readonly bin: string
  /** Holds the socket and the log, and the data directory unless the caller gave one. */
  readonly base: string
  readonly runAs: Owner | undefined
  readonly env: Readonly<Record<string, string>>
}

function makePlace(major: number, options: ServerOptions): Place {
  const runAs = serverUser()
  const bin = serverDirectory(options.major ?? major, options.embedded)
  const base = temporaryDirectory(runAs, `tidemark-pg${major}-`)
  return { major, bin, base, runAs, env: { HOME: base, ...options.env } }
}

function ownAddress(place: Place): Settings {
  return {
    listen_addresses: '',
    unix_socket_directories: place.base,
    port: String(PORT),
  }
}

async function initdb(
  place: Place,
  data: string,
  major: number,
  options: StartOptions,
): Promise<void> {
  if (!existsSync(data)) mkdirSync(data, { mode: 0o700 })
  if (place.runAs !== undefined) chownSync(data, place.runAs.uid, place.runAs.gid)
  const args = ['-U', 'postgres', '-A', 'trust', '-N']
  args.push('-E', 'UTF8', `--locale=${options.locale ?? 'C'}`)
  if (options.checksums !== false) args.push('-k')
  else if (major >= 18) args.push('--no-data-checksums')
  if (options.walSegmentSizeMb !== undefined) {
    args.push(`--wal-segsize=${options.walSegmentSizeMb}`)
  }
  const program = join(place.bin, 'initdb')
  await makeCluster(data, { program, args, runAs: place.runAs, env: place.env })
}

export function formatSettings(settings: Settings): string {
  const quote = (value: string): string => `'${value.replaceAll("'", "''")}'`
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${quote(value)}\n`)
  return `\n${lines.join('')}`
}

class LocalServer implements PostgresServer {
  readonly port = PORT
  readonly user = 'postgres'
  readonly major: number
  readonly binDirectory: string
  readonly socketDirectory: string
  readonly runAs: Owner | undefined
  readonly dataDirectory: string
  readonly #place: Place
  readonly #postmaster: Postmaster
  readonly #commandLine: Settings

  constructor(place: Place, dataDirectory: string, commandLine: Settings) {
    this.dataDirectory = dataDirectory
    this.major = place.major
    this.binDirectory = place.bin
    this.socketDirectory = place.base
    this.runAs = place.runAs
    this.#place = place
    this.#commandLine = commandLine
    this.#postmaster = new Postmaster({
      program: join(place.bin, 'postgres'),
      dataDirectory,
      logFile: join(place.base, 'server.log'),
      runAs: place.runAs,
      env: place.env,
    })
    stopServerAtExit(dataDirectory)
  }

  async startOrDispose(wait: 'ready' | 'none'): Promise<void> {
    try {
      this.#postmaster.spawn(this.#commandLine)
      if (wait === 'ready') await this.#postmaster.waitUntilReady()
    } catch (error) {
      await this.dispose()
      throw error
    }
  }

  url(database = 'postgres'): string {
    const host = encodeURIComponent(this.socketDirectory)
    return `postgresql:///${database}?host=${host}&port=${this.port}&user=${this.user}`
  }

  async connect(database = 'postgres'): Promise<pg.Client> {
    const client = new pg.Client({
      host: this.socketDirectory,
      port: this.port,
      user: this.user,
      database,
    })
    // A server that stops under a test breaks its idle connections; queries still fail.
    client.on('error', () => {})
    await client.connect()
    return client
  }

  async sql<R extends Row = Row>(
    text: string,
    params: readonly unknown[] = [],
    database = 'postgres',
  ): Promise<R[]> {
    const client = await this.connect(database)
    try {
      const simple = params.length === 0
      const result = await (simple ? client.query(text) : client.query(text, [...params]))
      // Several statements in one text give an array of results: the last one counts.
      const last = Array.isArray(result) ? result.at(-1) : result
      return (last?.rows ?? []) as R[]
    } finally {
      await client.end()
    }
  }

  async tool(name: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const path = findTool(name, this.major)
    if (path === undefined) throw new Error(`no ${name} for PostgreSQL ${this.major} here`)
    return await runChecked(path, args, {
      runAs: this.runAs,
      ...options,
      env: {
        ...this.#place.env,
        PGHOST: this.socketDirectory,
        PGPORT: String(this.port),
        PGUSER: this.user,
        ...options.env,
      },
    })
  }

  async log(): Promise<string> {
    return await this.#postmaster.log()
  }

  isRunning(): boolean {
    return this.#postmaster.isRunning()
  }

  async stop(mode: StopMode = 'fast'): Promise<void> {
    await this.#postmaster.stop(mode)
  }

  async kill(): Promise<void> {
    await this.#postmaster.kill()
  }

  async start(extraSettings: Settings = {}): Promise<void> {
    this.#postmaster.spawn({ ...this.#commandLine, ...extraSettings })
    await this.#postmaster.waitUntilReady()
  }

  async restart(extraSettings: Settings = {}): Promise<void> {
    await this.stop()
    await this.start(extraSettings)
  }

  async waitForExit(timeoutMs?: number): Promise<number | undefined> {
    return await this.#postmaster.waitForExit(timeoutMs)
  }

  async dispose(): Promise<void> {
    await this.kill()
    await removeDirectory(this.#place.base)
    await removeDirectory(this.dataDirectory)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }
}
