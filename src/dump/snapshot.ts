/**
 * The moment of a dump: a session of our own that has taken a snapshot, exported it, and
 * keeps it until the tool has ended.
 *
 * Invariant: a session that was lost is never taken for one that stands: end() asks the
 * server. Since pg_dump imports the snapshot, it reads this very database of this very
 * server (ImportSnapshot() in utils/time/snapmgr.c refuses any other).
 */
import { sleep } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import {
  openServerSession,
  type Row,
  type ServerFacts,
  type ServerSession,
} from '../postgres/server-session.ts'

export interface SnapshotFacts {
  /** What `--snapshot` takes. */
  readonly name: string
  readonly databaseOid: number
  readonly encoding: string
  /** What the snapshot shows was in the WAL up to here; of a standby what it had replayed. */
  readonly lsn: string
  /** By the server's clock. */
  readonly at: Date
}

export interface HeldSnapshot {
  readonly server: ServerFacts
  readonly facts: SnapshotFacts
  /** Aborted with TM2004 once the session is lost. */
  readonly signal: AbortSignal
  /** What the snapshot shows. */
  query<R extends Row>(text: string, params: readonly unknown[], what: string): Promise<R[]>
  /** TM2004 unless the snapshot still stands. */
  end(): Promise<void>
  /** Without asking. */
  close(): Promise<void>
}

interface SnapshotRow extends Row {
  readonly name: string
  readonly lsn: string
  readonly at: Date
  readonly oid: string
  readonly encoding: string
}

/**
 * The clock first, the WAL's end last: what the snapshot shows has ended before both. Columns
 * of one row are computed in their order.
 */
const EXPORT = `
  SELECT pg_catalog.pg_export_snapshot() AS name, pg_catalog.clock_timestamp() AS at,
         CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
              ELSE pg_catalog.pg_current_wal_insert_lsn() END::text AS lsn,
         d.oid::text AS oid, pg_catalog.pg_encoding_to_char(d.encoding)::text AS encoding
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`

/** Failures: those of openServerSession(), TM1109 of a statement. */
export async function holdSnapshot(connection: string): Promise<HeldSnapshot> {
  const session = await openServerSession({ connection, applicationName: 'tidemark dump' })
  try {
    await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const [row] = await session.query<SnapshotRow>(EXPORT, [], 'export a snapshot')
    if (row === undefined) throw new Error('the database of the session is not in pg_database')
    const watch = watchSession(session)
    return {
      server: session.facts,
      facts: {
        name: row.name,
        databaseOid: Number(row.oid),
        encoding: row.encoding,
        lsn: row.lsn,
        at: row.at,
      },
      signal: watch.signal,
      query: async (text, params, what) => await session.query(text, params, what),
      end: async () => await endSnapshot(session, watch),
      close: async () => await closeSnapshot(session, watch),
    }
  } catch (error) {
    await session.close()
    throw error
  }
}

interface SessionWatch {
  readonly signal: AbortSignal
  end(): void
}

const WATCH_EVERY_MS = 100

function watchSession(session: ServerSession): SessionWatch {
  const lost = new AbortController()
  const ended = new AbortController()
  const watch = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      const because = session.lostBecause()
      if (because !== undefined) return lost.abort(lostSnapshot(because))
      await sleep(WATCH_EVERY_MS, ended.signal)
    }
  }
  watch().catch(() => undefined)
  return { signal: lost.signal, end: () => ended.abort() }
}

/** The COMMIT is refused, or gives ROLLBACK, on a session that was lost or broken. */
async function endSnapshot(session: ServerSession, watch: SessionWatch): Promise<void> {
  watch.end()
  try {
    await session.checkSameServer()
    await session.query('COMMIT')
  } catch (error) {
    throw lostSnapshot(error)
  }
}

async function closeSnapshot(session: ServerSession, watch: SessionWatch): Promise<void> {
  watch.end()
  await session.close()
}

function lostSnapshot(cause: unknown): Failure {
  const because = cause instanceof Failure ? (cause.because ?? cause.message) : String(cause)
  return new Failure('TM2004', {
    message: 'the session that held the snapshot of the dump was lost',
    because,
    fix: 'see that the server runs and is reached, then run the dump again',
    cause,
  })
}
