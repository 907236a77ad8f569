/**
 * The demo's servers: addresses, connections, and what is asked of them.
 */
import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { monotonicMs, sleep } from '../../base/clock.ts'
import { Failure } from '../../base/failure.ts'

const PORT = 5432
const ARCHIVE_LIMIT_MS = 30_000
const POLL_MS = 50

/** Everything else is as `initdb` leaves it: archiving is set up by `tidemark init`. */
export function writeServerSettings(dataDirectory: string, socketDirectory: string): void {
  const settings = [
    `listen_addresses = ''`,
    `unix_socket_directories = '${socketDirectory}'`,
    `port = ${PORT}`,
    `cluster_name = 'tidemark-demo'`,
  ]
  appendFileSync(join(dataDirectory, 'postgresql.conf'), `\n${settings.join('\n')}\n`)
}

export function connectionUrl(socketDirectory: string): string {
  return `postgresql:///postgres?host=${socketDirectory}&port=${PORT}&user=postgres`
}

export interface ServerAddress {
  readonly host: string
  readonly port: number
}

/** Where the server of a data directory listens (LOCK_FILE_LINE_PORT and _SOCKET_DIR). */
export function readAddress(dataDirectory: string): ServerAddress {
  const lines = readFileSync(join(dataDirectory, 'postmaster.pid'), 'utf8').split('\n')
  return { port: Number(lines[3]), host: (lines[4] ?? '').trim() }
}

export async function connectTo({ host, port }: ServerAddress): Promise<pg.Client> {
  const client = new pg.Client({ host, port, user: 'postgres', database: 'postgres' })
  // The end of the demo ends the servers first; queries under way fail on their own.
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** One row of one query; the first column under its name. */
async function queryRow<T extends pg.QueryResultRow>(
  client: pg.ClientBase,
  sql: string,
): Promise<T> {
  const { rows } = await client.query<T>(sql)
  const row = rows[0]
  if (row === undefined) throw new Error(`no row: ${sql}`)
  return row
}

export interface Accident {
  /** The transaction that dropped the table, as `pg_current_xact_id()` gives it. */
  readonly xid: string
  /** The server's clock just after the commit. */
  readonly committedAt: Date
}

/** Notes the transaction's id, for the story: nobody does in real life. */
export async function dropCustomers(client: pg.ClientBase): Promise<Accident> {
  await client.query('BEGIN')
  const { xid } = await queryRow<{ xid: string }>(
    client,
    'SELECT pg_current_xact_id()::text AS xid',
  )
  await client.query('DROP TABLE customers')
  await client.query('COMMIT')
  const { now } = await queryRow<{ now: Date }>(client, 'SELECT clock_timestamp() AS now')
  return { xid, committedAt: now }
}

/** Switches to a new WAL segment and waits until the one before is archived. */
export async function archiveUpToNow(client: pg.ClientBase, signal: AbortSignal): Promise<void> {
  const { segment } = await queryRow<{ segment: string }>(
    client,
    'SELECT pg_walfile_name(pg_switch_wal()) AS segment',
  )
  const limit = monotonicMs() + ARCHIVE_LIMIT_MS
  for (;;) {
    const { archived } = await queryRow<{ archived: boolean }>(
      client,
      `SELECT coalesce(last_archived_wal >= '${segment}', false) AS archived FROM pg_stat_archiver`,
    )
    if (archived) return
    if (monotonicMs() > limit) throw notArchived(segment)
    await sleep(POLL_MS, signal)
  }
}

function notArchived(segment: string): Failure {
  return new Failure('TM1813', {
    message: `the demo's server did not archive the WAL segment ${segment}`,
    because: `archive_command did not succeed within ${ARCHIVE_LIMIT_MS / 1000} s`,
    fix: 'run the demo again with --keep, and look into server.log in its directory',
    details: { segment },
  })
}

/** What must be the same after the recovery of a copy, if the living server was left alone. */
export interface LivingState {
  readonly startedAt: string
  readonly timeline: number
  readonly customers: string | null
  readonly failedPushes: number
}

export async function readLivingState(client: pg.ClientBase): Promise<LivingState> {
  return await queryRow<LivingState & pg.QueryResultRow>(
    client,
    `SELECT pg_postmaster_start_time()::text AS "startedAt",
            (pg_control_checkpoint()).timeline_id AS timeline,
            to_regclass('customers')::text AS customers,
            (SELECT failed_count FROM pg_stat_archiver)::int AS "failedPushes"`,
  )
}

export interface Exposure {
  /** Milliseconds since the newest segment was archived: what a lost machine would cost now. */
  readonly ageMs: number
  /** archive_timeout: under load or not, a segment is archived at least that often. */
  readonly limitSeconds: number
}

export async function readExposure(client: pg.ClientBase): Promise<Exposure> {
  const { ms, limit } = await queryRow<{ ms: number; limit: number }>(
    client,
    `SELECT (extract(epoch FROM clock_timestamp() - last_archived_time) * 1000)::float8 AS ms,
            (SELECT setting::int FROM pg_settings WHERE name = 'archive_timeout') AS limit
       FROM pg_stat_archiver`,
  )
  return { ageMs: Math.round(ms), limitSeconds: limit }
}
