/**
 * What a backup has to know of the server, and whether the local files are that server's
 * (design: a connection may end at another host than the one we read on).
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { now } from '../base/clock.ts'
import { describeSystemError, Failure } from '../base/failure.ts'
import { type ControlFile, readControlFile } from '../postgres/control-file.ts'
import { type Lsn, parseLsn } from '../postgres/lsn.ts'
import type { ServerSession } from '../postgres/server-session.ts'

export interface ServerFacts {
  readonly dataDirectory: string
  readonly dataDirectoryMode: number
  readonly settings: Readonly<Record<string, string>>
  readonly configurationFiles: readonly string[]
  readonly bootId: string
  /** Undefined where the kernel does not tell. */
  readonly bootedAtMs: number | undefined
}

/** Settings that a restored server needs, besides all that are not at their defaults. */
const NEEDED_SETTINGS = [
  'max_connections',
  'max_worker_processes',
  'max_wal_senders',
  'max_prepared_transactions',
  'max_locks_per_transaction',
  'max_replication_slots',
  'wal_level',
  'full_page_writes',
  'archive_mode',
  'archive_command',
  'archive_library',
  'shared_preload_libraries',
  'data_directory',
  'config_file',
  'hba_file',
  'ident_file',
  'server_encoding',
  'lc_collate',
  'lc_ctype',
]
/** May hold a password. */
const SECRET_SETTINGS = ['primary_conninfo', 'ssl_passphrase_command']

export async function readServerFacts(session: ServerSession): Promise<ServerFacts> {
  const settings = await readSettings(session)
  const dataDirectory = settings['data_directory']
  if (dataDirectory === undefined || dataDirectory === '') {
    throw new Failure('TM1302', {
      message: 'the role may not see where the data directory is',
      because: 'the setting data_directory is shown to superusers and pg_read_all_settings only',
      fix: 'GRANT pg_read_all_settings TO the role of the connection',
    })
  }
  return {
    dataDirectory,
    dataDirectoryMode: modeOf(dataDirectory),
    settings,
    configurationFiles: await listConfigurationFiles(session, settings, dataDirectory),
    bootId: readKernelText('/proc/sys/kernel/random/boot_id') ?? '',
    bootedAtMs: readBootTime(),
  }
}

function readKernelText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** /proc/uptime counts from the boot, whatever is done to the clock. */
function readBootTime(): number | undefined {
  const uptime = /^\d+\.\d+/.exec(readKernelText('/proc/uptime') ?? '')?.[0]
  return uptime === undefined ? undefined : now().getTime() - Number(uptime) * 1000
}

/** Where the WAL of the server ends, on a standby what it has replayed; undefined: not told. */
export async function readWalPosition(session: ServerSession): Promise<Lsn | undefined> {
  const [row] = await session.query(
    `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                 ELSE pg_current_wal_lsn() END::text AS lsn`,
  )
  return parseLsn(String(row?.['lsn']))
}

/** Names of tablespaces by oid; what the role may not see has none. */
export async function readTablespaceNames(
  session: ServerSession,
): Promise<ReadonlyMap<number, string>> {
  const rows = await session
    .query('SELECT oid::int8::text AS oid, spcname AS name FROM pg_tablespace')
    .catch(() => [])
  return new Map(rows.map((row) => [Number(row['oid']), String(row['name'])]))
}

async function readSettings(session: ServerSession): Promise<Record<string, string>> {
  const rows = await session.query(
    `SELECT name, setting FROM pg_settings
      WHERE (source NOT IN ('default', 'client', 'session') OR name = ANY ($1))
        AND NOT name = ANY ($2) ORDER BY name`,
    [NEEDED_SETTINGS, SECRET_SETTINGS],
  )
  return Object.fromEntries(rows.map((row) => [String(row['name']), String(row['setting'])]))
}

/** Files that the configuration is made of and that lie outside the data directory. */
async function listConfigurationFiles(
  session: ServerSession,
  settings: Readonly<Record<string, string>>,
  dataDirectory: string,
): Promise<string[]> {
  const named = ['config_file', 'hba_file', 'ident_file'].map((name) => settings[name] ?? '')
  const included = await session
    .query('SELECT DISTINCT sourcefile FROM pg_file_settings WHERE sourcefile IS NOT NULL')
    .catch(() => [])
  const all = [...named, ...included.map((row) => String(row['sourcefile']))]
  return [...new Set(all)].filter((path) => path !== '' && !path.startsWith(`${dataDirectory}/`))
}

function modeOf(dataDirectory: string): number {
  try {
    return statSync(dataDirectory).mode & 0o7777
  } catch (cause) {
    throw new Failure('TM1302', {
      message: `the data directory ${dataDirectory} cannot be reached from here`,
      because: describeSystemError(cause),
      fix: 'run the backup on the host of the server, as the owner of its data directory',
      cause,
    })
  }
}

/** The data directory when it is the server's own and on this machine. */
export async function findLocalDirectory(session: ServerSession): Promise<string | undefined> {
  const directory = session.facts.dataDirectory
  if (directory === undefined) return undefined
  try {
    await requireLocalServer(session, directory)
    return directory
  } catch (error) {
    if (error instanceof Failure) return undefined
    throw error
  }
}

/**
 * Proves that the files here are those of the server that answers: system identifier, the
 * running postmaster's start time, and its data directory. TM1303 when they are not.
 */
export async function requireLocalServer(
  session: ServerSession,
  dataDirectory: string,
): Promise<ControlFile> {
  const { control } = await readControlFile(dataDirectory)
  if (control.systemIdentifier !== session.facts.systemIdentifier) {
    throw otherServer(
      dataDirectory,
      `its files have system identifier ${control.systemIdentifier}, the server that answers ` +
        `has ${session.facts.systemIdentifier}`,
    )
  }
  const lines = readPostmasterFile(dataDirectory)
  const startedAt = Number(lines[2])
  const answered = Math.floor(session.facts.postmasterStartedAt.getTime() / 1000)
  // The file holds the second in which the postmaster began, the server the moment a bit later.
  if (!Number.isFinite(startedAt) || Math.abs(answered - startedAt) > 2) {
    throw otherServer(
      dataDirectory,
      'its postmaster.pid names another start time than the server that answers',
    )
  }
  return control
}

function readPostmasterFile(dataDirectory: string): string[] {
  try {
    return readFileSync(join(dataDirectory, 'postmaster.pid'), 'utf8').split('\n')
  } catch (cause) {
    throw otherServer(dataDirectory, `postmaster.pid: ${describeSystemError(cause)}`)
  }
}

function otherServer(dataDirectory: string, because: string): Failure {
  return new Failure('TM1303', {
    message: `the files in ${dataDirectory} are not those of the server that answers`,
    because,
    fix: 'let the connection of the cluster go to the server on this host, by its Unix socket',
  })
}
