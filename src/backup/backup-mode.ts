/**
 * The low-level backup API: start and stop on one session.
 *
 * Invariant: a backup is good only when stop() returned on the session that started it; a
 * session that dies has ended the backup mode, whatever was copied.
 */
import { sleep } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { type Lsn, parseLsn } from '../postgres/lsn.ts'
import { openServerSession, type ServerSession } from '../postgres/server-session.ts'
import type { PostgresVersion } from '../postgres/versions.ts'

export interface StartedBackup {
  readonly startLsn: Lsn
  /** The server's clock. */
  readonly startedAt: Date
}

export interface StoppedBackup {
  readonly stopLsn: Lsn
  readonly stoppedAt: Date
  readonly backupLabel: string
  readonly tablespaceMap: string
}

/** Any fixed number: two backups of one server must meet on it. */
const ADVISORY_LOCK = '7308324466020151907'

/**
 * Takes the server's own lock for backups: it goes when the session goes, so it needs no
 * cleaning and no clock. TM1301 when another backup holds it.
 */
export async function lockBackups(session: ServerSession, cluster: string): Promise<void> {
  const [row] = await session.query(`SELECT pg_try_advisory_lock(${ADVISORY_LOCK}) AS locked`)
  if (row?.['locked'] === true) return
  const [other] = await session
    .query(
      `SELECT a.pid, a.backend_start, a.client_hostname, a.client_addr::text AS client
         FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> pg_backend_pid()
          AND (l.classid::int8 << 32 | l.objid::int8) = ${ADVISORY_LOCK}`,
    )
    .catch(() => [])
  const since = other?.['backend_start']
  throw new Failure('TM1301', {
    message: `another backup of ${cluster} is under way`,
    because:
      since instanceof Date
        ? `it runs since ${since.toISOString()} (server process ${other?.['pid']}, client ` +
          `${other?.['client'] ?? 'on this host'})`
        : 'it holds the lock that backups of this server share',
    fix: 'wait until it is done, then run the backup again',
  })
}

export async function startBackup(
  session: ServerSession,
  version: PostgresVersion,
  label: string,
): Promise<StartedBackup> {
  const [row] = await session
    .query(`SELECT s.lsn, clock_timestamp() AS at FROM (${version.backupStatements.start}) s`, [
      label,
      true,
    ])
    .catch((error: unknown) => {
      throw refusedStart(error)
    })
  const startLsn = parseLsn(String(row?.['lsn']))
  if (startLsn === undefined || !(row?.['at'] instanceof Date)) throw new Error('no start LSN')
  return { startLsn, startedAt: row['at'] }
}

/**
 * Cancels what the session is doing when the user gives up: a checkpoint of a large server
 * may take minutes, and a statement cannot be taken back on its own session.
 */
export async function cancelOnAbort<T>(
  session: ServerSession,
  connection: string,
  signal: AbortSignal,
  work: Promise<T>,
): Promise<T> {
  const cancel = (): void => void cancelStatement(session, connection).catch(() => undefined)
  signal.addEventListener('abort', cancel, { once: true })
  try {
    return await work
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', cancel)
  }
}

async function cancelStatement(session: ServerSession, connection: string): Promise<void> {
  const other = await openServerSession({
    connection,
    applicationName: 'tidemark cancel',
    forceVersion: true,
  })
  try {
    await other.query('SELECT pg_cancel_backend($1)', [session.facts.backendPid])
  } finally {
    await other.close()
  }
}

const WATCH_EVERY_MS = 100

export interface SessionWatch {
  /** Aborted, with TM1309 as its reason, once the session is lost. */
  readonly signal: AbortSignal
  end(): void
}

/** A session that died has ended the backup mode: to copy on would be in vain. */
export function watchSession(session: ServerSession): SessionWatch {
  const lost = new AbortController()
  const ended = new AbortController()
  const watch = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      const because = session.lostBecause()
      if (because !== undefined) return lost.abort(lostSession(because))
      await sleep(WATCH_EVERY_MS, ended.signal)
    }
  }
  watch().catch(() => undefined)
  return { signal: lost.signal, end: () => ended.abort() }
}

function refusedStart(error: unknown): Failure {
  if (isFailure(error)) return error
  return new Failure('TM1308', {
    message: 'the server refused to start a backup',
    because: error instanceof Error ? error.message : String(error),
    fix: 'the role needs EXECUTE on the backup functions (superuser, or GRANT … TO the role), and wal_level must be replica or logical',
    cause: error,
  })
}

export async function stopBackup(
  session: ServerSession,
  version: PostgresVersion,
): Promise<StoppedBackup> {
  const [row] = await session
    .query(`SELECT s.*, clock_timestamp() AS at FROM (${version.backupStatements.stop}) s`, [false])
    .catch((error: unknown) => {
      throw lostSession(error)
    })
  const stopLsn = parseLsn(String(row?.['lsn']))
  if (row === undefined || stopLsn === undefined || !(row['at'] instanceof Date)) {
    throw new Error('no stop LSN')
  }
  return {
    stopLsn,
    stoppedAt: row['at'],
    backupLabel: String(row['labelfile']),
    tablespaceMap: String(row['spcmapfile'] ?? ''),
  }
}

/** A session that is lost before the end was checked leaves a backup that nobody can vouch for. */
export function whileEnding(error: unknown): never {
  throw isFailure(error, 'TM1106') ? lostSession(error) : error
}

function lostSession(error: unknown): Failure {
  const reasons = isFailure(error) ? [error.message, error.because] : [String(error)]
  return new Failure('TM1309', {
    message: 'the server did not confirm the end of the backup',
    because: reasons.filter((reason) => reason !== undefined).join(': '),
    fix: 'nothing of this backup is kept; run it again when the server is back',
    cause: error,
  })
}
