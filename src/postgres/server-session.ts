/**
 * One session with a PostgreSQL server, through the `pg` library.
 *
 * Invariants: every statement of a session runs on one and the same server process, never
 * inside a transaction block, and without any time limit of the server's; a session that
 * was lost stays lost (it never reconnects: backup mode would be gone without notice).
 * Passwords appear in no message.
 */
import type pg from 'pg'
import { describeSystemError, Failure } from '../base/failure.ts'
import {
  type Address,
  describeAddress,
  sessionLost,
  translateQueryError,
} from './connect-failure.ts'
import { connectServer } from './connect-server.ts'
import { type ConnectionDefaults, parseConnectionUrl } from './connection-url.ts'
import { CopyInQuery, CopyOutQuery, type CopyReceiver } from './copy-query.ts'
import { type DescribedVersion, describeVersion } from './versions.ts'

export type Row = Record<string, unknown>

export interface ServerSessionOptions {
  /** The connection URL. */
  readonly connection: string
  readonly applicationName: string
  /** What PG… variables say, where the URL says nothing. */
  readonly defaults?: ConnectionDefaults
  /** Use the rules of the newest known version for an unknown newer one. */
  readonly forceVersion?: boolean
}

export interface ServerFacts {
  readonly version: DescribedVersion
  /** 150018. */
  readonly versionNum: number
  /** As server_version says it: `15.18 (Debian …)`. */
  readonly versionText: string
  readonly systemIdentifier: bigint
  /** Undefined where the role may not see it (needs pg_read_all_settings). */
  readonly dataDirectory: string | undefined
  readonly postmasterStartedAt: Date
  readonly isInRecovery: boolean
  readonly walSegmentSizeBytes: number
  readonly backendPid: number
  readonly user: string
  readonly database: string
  readonly isSuperuser: boolean
  /** Undefined: a Unix socket. */
  readonly serverAddress: string | undefined
}

export interface ServerSetting {
  /** With its unit, as SHOW gives it. */
  readonly value: string
  /** In `unit`, as pg_settings gives it. */
  readonly setting: string
  readonly unit: string | undefined
  /** When it can change: `postmaster` needs a restart. */
  readonly context: string
  readonly source: string
  readonly sourceFile: string | undefined
  readonly isRestartPending: boolean
}

export interface ServerSession {
  /** For people: a socket or a host and port. */
  readonly address: string
  readonly facts: ServerFacts
  /** Rows of one statement. `what` completes "the server could not …" in failures. */
  query<R extends Row = Row>(text: string, params?: readonly unknown[], what?: string): Promise<R[]>
  /** All settings that the role may see, as they are now. */
  readSettings(): Promise<ReadonlyMap<string, ServerSetting>>
  /**
   * Failure TM1107 (another process answers) or TM1106 (the server was restarted), asked
   * of the server; returns whether it is in recovery now.
   */
  checkSameServer(): Promise<{ readonly isInRecovery: boolean }>
  /** The failure that ended the session, if one did. */
  lostBecause(): Failure | undefined
  close(): Promise<void>
}

export interface ResultColumn {
  readonly name: string
  readonly typeOid: number
  readonly typeModifier: number
}

/** For COPY. What fails in the middle of one may cost the session. */
export interface CopySession extends ServerSession {
  /** `text` is COPY … TO STDOUT; gives the number of rows. Aborting costs the session. */
  copyOut(
    text: string,
    receive: CopyReceiver,
    options: { readonly what: string; readonly signal: AbortSignal },
  ): Promise<number>
  /** `text` is COPY … FROM STDIN; gives the number of rows. An error of the source is thrown. */
  copyIn(text: string, source: AsyncIterable<Uint8Array>, what: string): Promise<number>
  /** What a statement gives; it must be one statement. */
  describe(text: string, what: string): Promise<ResultColumn[]>
}

/** Failures: TM1101 to TM1109, TM1113 to TM1116. */
export async function openServerSession(options: ServerSessionOptions): Promise<ServerSession> {
  return await openCopySession(options)
}

/** Failures: as openServerSession(). */
export async function openCopySession(options: ServerSessionOptions): Promise<CopySession> {
  const target = parseConnectionUrl(options.connection, options.defaults)
  const { client, address } = await connectServer(target, options.applicationName)
  const channel = new Channel(client, address)
  try {
    await prepareSession(channel)
    const facts = await readFacts(channel, options.forceVersion === true)
    refusePooler(client, facts.backendPid, address)
    return new PgServerSession(channel, facts)
  } catch (error) {
    await channel.close()
    throw error
  }
}

/** Runs statements one after the other and remembers when the session was lost. */
class Channel {
  readonly address: Address
  readonly #client: pg.Client
  #last: Promise<unknown> = Promise.resolve()
  #lost: Failure | undefined
  #isClosing = false

  constructor(client: pg.Client, address: Address) {
    this.#client = client
    this.address = address
    client.on('error', (error) => this.#lose(error))
    client.on('end', () => this.#lose(undefined))
  }

  get lost(): Failure | undefined {
    return this.#lost
  }

  #lose(error: Error | undefined): void {
    if (this.#isClosing || this.#lost !== undefined) return
    const because = error === undefined ? 'the server closed it' : describeSystemError(error)
    this.#lost = sessionLost(because, error)
  }

  async run<R extends Row>(text: string, params: readonly unknown[], what: string): Promise<R[]> {
    const turn = this.#last.then(async () => await this.#runNow<R>(text, params, what))
    this.#last = turn.catch(() => {})
    return await turn
  }

  async #runNow<R extends Row>(
    text: string,
    params: readonly unknown[],
    what: string,
  ): Promise<R[]> {
    return await this.#translating(what, async () => {
      const result = await this.#client.query(text, [...params])
      return result.rows as R[]
    })
  }

  /** A message with parameters is one statement; without any it may be several. */
  async describe(text: string, what: string): Promise<ResultColumn[]> {
    return await this.inTurn(what, async (client) => {
      const { fields } = await client.query({ text, queryMode: 'extended' } as pg.QueryConfig)
      return fields.map(({ name, dataTypeID: typeOid, dataTypeModifier: typeModifier }) => {
        return { name, typeOid, typeModifier }
      })
    })
  }

  async inTurn<T>(what: string, act: (client: pg.Client) => Promise<T>): Promise<T> {
    const turn = this.#last.then(async () => {
      return await this.#translating(what, async () => await act(this.#client))
    })
    this.#last = turn.catch(() => {})
    return await turn
  }

  /** No more can be said to the server: what it does ends when it notices. */
  cut(): void {
    this.#client.connection.stream.destroy()
  }

  async #translating<T>(what: string, act: () => Promise<T>): Promise<T> {
    if (this.#lost !== undefined) throw this.#lost
    try {
      return await act()
    } catch (error) {
      const failure = translateQueryError(error, this.address.user, what)
      if (failure.code === 'TM1106') this.#lost ??= failure
      throw failure
    }
  }

  async close(): Promise<void> {
    this.#isClosing = true
    await this.#last
    // Closing a connection that is gone already is no failure.
    await this.#client.end().catch(() => {})
  }
}

class PgServerSession implements CopySession {
  readonly address: string
  readonly facts: ServerFacts
  readonly #channel: Channel

  constructor(channel: Channel, facts: ServerFacts) {
    this.address = describeAddress(channel.address)
    this.facts = facts
    this.#channel = channel
  }

  async query<R extends Row = Row>(
    text: string,
    params: readonly unknown[] = [],
    what = 'run a statement',
  ): Promise<R[]> {
    return await this.#channel.run<R>(text, params, what)
  }

  async copyOut(
    text: string,
    receive: CopyReceiver,
    { what, signal }: { readonly what: string; readonly signal: AbortSignal },
  ): Promise<number> {
    signal.throwIfAborted()
    const cut = (): void => this.#channel.cut()
    signal.addEventListener('abort', cut, { once: true })
    try {
      return await this.#channel.inTurn(what, async (client) => {
        return await submit(client, new CopyOutQuery(text, receive))
      })
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      signal.removeEventListener('abort', cut)
    }
  }

  async copyIn(text: string, source: AsyncIterable<Uint8Array>, what: string): Promise<number> {
    return await this.#channel.inTurn(what, async (client) => {
      return await submit(client, new CopyInQuery(text, source))
    })
  }

  async describe(text: string, what: string): Promise<ResultColumn[]> {
    return await this.#channel.describe(text, what)
  }

  async readSettings(): Promise<ReadonlyMap<string, ServerSetting>> {
    return await readSettings(this.#channel)
  }

  async checkSameServer(): Promise<{ readonly isInRecovery: boolean }> {
    const now = await readIdentity(this.#channel)
    if (now.postmasterStartedAt.getTime() !== this.facts.postmasterStartedAt.getTime()) {
      throw sessionLost('the server was restarted since the session began')
    }
    if (now.backendPid !== this.facts.backendPid) throw poolerFailure(this.#channel.address)
    return { isInRecovery: now.isInRecovery }
  }

  lostBecause(): Failure | undefined {
    return this.#channel.lost
  }

  async close(): Promise<void> {
    await this.#channel.close()
  }
}

async function submit(client: pg.Client, query: CopyOutQuery | CopyInQuery): Promise<number> {
  // Its types have another Connection than the one that it gives.
  client.query(query as unknown as pg.Submittable)
  return await query.done
}

/** Session settings; those that the server's version does not have are passed over. */
const SESSION_SETTINGS: Readonly<Record<string, string>> = {
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  transaction_timeout: '0',
  search_path: 'pg_catalog',
  datestyle: 'ISO',
  timezone: 'UTC',
  bytea_output: 'hex',
  default_transaction_read_only: 'off',
  client_min_messages: 'warning',
}

async function prepareSession(channel: Channel): Promise<void> {
  await channel.run(
    `SELECT pg_catalog.set_config(s.name, w.value, false)
       FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
              AS w (name, value)
       JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = w.name`,
    [Object.keys(SESSION_SETTINGS), Object.values(SESSION_SETTINGS)],
    'prepare the session',
  )
}

interface Identity {
  readonly backendPid: number
  readonly postmasterStartedAt: Date
  readonly isInRecovery: boolean
}

async function readIdentity(channel: Channel): Promise<Identity> {
  const [row] = await channel.run<Row & Identity>(
    `SELECT pg_backend_pid() AS "backendPid", pg_is_in_recovery() AS "isInRecovery",
            pg_postmaster_start_time() AS "postmasterStartedAt"`,
    [],
    'say which server it is',
  )
  if (row === undefined) throw new Error('a SELECT without FROM gave no row')
  return row
}

interface FactsRow extends Row {
  readonly versionNum: number
  readonly versionText: string
  readonly systemIdentifier: string
  readonly dataDirectory: string | null
  readonly walSegmentSizeBytes: number
  readonly user: string
  readonly database: string
  readonly isSuperuser: boolean
  readonly serverAddress: string | null
}

const FACTS = `
  SELECT current_setting('server_version_num')::int AS "versionNum",
         current_setting('server_version') AS "versionText",
         (SELECT system_identifier::text FROM pg_control_system()) AS "systemIdentifier",
         (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS "dataDirectory",
         (SELECT setting::int FROM pg_settings WHERE name = 'wal_segment_size')
           AS "walSegmentSizeBytes",
         session_user::text AS "user", current_database()::text AS "database",
         current_setting('is_superuser') = 'on' AS "isSuperuser",
         host(inet_server_addr()) AS "serverAddress"`

async function readFacts(channel: Channel, force: boolean): Promise<ServerFacts> {
  const identity = await readIdentity(channel)
  const [row] = await channel.run<FactsRow>(FACTS, [], 'say which server it is')
  if (row === undefined) throw new Error('a SELECT without FROM gave no row')
  return {
    ...identity,
    version: describeVersion(row.versionNum, { force }),
    versionNum: row.versionNum,
    versionText: row.versionText,
    systemIdentifier: BigInt(row.systemIdentifier),
    dataDirectory: row.dataDirectory ?? undefined,
    walSegmentSizeBytes: row.walSegmentSizeBytes,
    user: row.user,
    database: row.database,
    isSuperuser: row.isSuperuser,
    serverAddress: row.serverAddress ?? undefined,
  }
}

/**
 * A pooler sends a process number of its own at start-up (to find the right server when a
 * cancel request comes), so it differs from what the server process says of itself, even
 * while the pooler happens to give us the same process every time.
 */
function refusePooler(client: pg.Client, backendPid: number, address: Address): void {
  const { processID } = client as unknown as { readonly processID: number | null }
  if (processID !== null && processID !== backendPid) throw poolerFailure(address)
}

function poolerFailure(address: Address): Failure {
  return new Failure('TM1107', {
    message: `a connection pooler answers at ${describeAddress(address)}`,
    because: 'statements run on another server process than the one that was connected to',
    fix: 'name the socket, or the host and port, of the server itself in the connection',
    details: { host: address.host, port: address.port },
  })
}

interface SettingRow extends Row {
  readonly name: string
  readonly value: string | null
  readonly setting: string | null
  readonly unit: string | null
  readonly context: string
  readonly source: string
  readonly sourcefile: string | null
  readonly pending_restart: boolean
}

async function readSettings(channel: Channel): Promise<ReadonlyMap<string, ServerSetting>> {
  const rows = await channel.run<SettingRow>(
    `SELECT name, current_setting(name, true) AS value, setting, unit, context, source,
            sourcefile, pending_restart FROM pg_settings`,
    [],
    'show its settings',
  )
  return new Map(
    rows.map((row) => [
      row.name,
      {
        value: row.value ?? '',
        setting: row.setting ?? '',
        unit: row.unit ?? undefined,
        context: row.context,
        source: row.source,
        sourceFile: row.sourcefile ?? undefined,
        isRestartPending: row.pending_restart,
      },
    ]),
  )
}
