/**
 * Asks the server that is to be loaded what judge-load.ts needs to know. Changes nothing.
 */
import { isFailure } from '../base/failure.ts'
import { withDatabase } from '../postgres/connection-url.ts'
import { openServerSession, type Row, type ServerSession } from '../postgres/server-session.ts'
import type { FoundDatabase, LoadTarget } from './judge-load.ts'

export const LOAD_APPLICATION = 'tidemark load'

export async function openLoadSession(connection: string): Promise<ServerSession> {
  return await openServerSession({ connection, applicationName: LOAD_APPLICATION })
}

/** A session beside the database that is to be made: with postgres, else with template1. */
export async function openMaintenanceSession(connection: string): Promise<ServerSession> {
  try {
    return await openLoadSession(withDatabase(connection, 'postgres'))
  } catch (error) {
    if (!isFailure(error, 'TM1103')) throw error
    return await openLoadSession(withDatabase(connection, 'template1'))
  }
}

/** `dumpedEncoding` is asked about: can the server convert it? */
export async function readLoadTarget(
  connection: string,
  database: string,
  dumpedEncoding: string,
): Promise<LoadTarget> {
  let session: ServerSession
  let isThere = true
  try {
    session = await openLoadSession(withDatabase(connection, database))
  } catch (error) {
    if (!isFailure(error, 'TM1103')) throw error
    isThere = false
    session = await openMaintenanceSession(connection)
  }
  try {
    const { systemIdentifier, version, isInRecovery, postmasterStartedAt } = session.facts
    return {
      address: session.address,
      database,
      found: isThere ? await readDatabase(session, dumpedEncoding) : undefined,
      systemIdentifier: systemIdentifier.toString(),
      startedAt: postmasterStartedAt,
      major: version.major,
      isInRecovery,
      roles: await readNames(session, 'SELECT rolname AS name FROM pg_roles'),
      tablespaces: await readNames(session, 'SELECT spcname AS name FROM pg_tablespace'),
    }
  } finally {
    await session.close()
  }
}

export async function readNames(session: ServerSession, statement: string): Promise<Set<string>> {
  const rows = await session.query<Row & { name: string }>(
    statement,
    [],
    'list roles or tablespaces',
  )
  return new Set(rows.map(({ name }) => name))
}

async function readDatabase(session: ServerSession, dumped: string): Promise<FoundDatabase> {
  const [row] = await session.query<Row & { oid: string; encoding: string; converts: boolean }>(
    DATABASE,
    [dumped],
    'describe its database',
  )
  if (row === undefined) throw new Error('the database of a session is not in pg_database')
  const counts = await session.query<Row & { kind: string; count: string }>(
    OBJECTS,
    [],
    'say what is in the database',
  )
  return {
    oid: Number(row.oid),
    encoding: row.encoding,
    converts: row.converts,
    objects: new Map(counts.map(({ kind, count }) => [kind, Number(count)])),
  }
}

/** SQL_ASCII on either side: bytes go over as they are, and the server checks them. */
const DATABASE = `
  SELECT d.oid::text AS oid, pg_encoding_to_char(d.encoding)::text AS encoding,
         $1::text = pg_encoding_to_char(d.encoding) OR $1 = 'SQL_ASCII'
           OR pg_encoding_to_char(d.encoding) = 'SQL_ASCII'
           OR EXISTS (SELECT FROM pg_conversion c WHERE c.condefault
                AND c.conforencoding = pg_char_to_encoding($1) AND c.contoencoding = d.encoding)
           AS converts
    FROM pg_database d WHERE d.datname = current_database()`

/**
 * FirstNormalObjectId is 16384: what initdb makes lies below. Types of tables and arrays, and
 * what TOAST has, belong to what is counted anyway.
 */
const OBJECTS = `
  SELECT kind, count(*)::text AS count FROM (
    SELECT CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'f' THEN 'foreign table'
                        WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                        WHEN 'S' THEN 'sequence' ELSE 'type' END AS kind
      FROM pg_class c WHERE oid >= 16384 AND relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c')
       AND relpersistence <> 't' AND relnamespace <> 99
    UNION ALL SELECT 'schema' FROM pg_namespace
      WHERE oid >= 16384 AND nspname !~ '^pg_(temp|toast_temp)_' AND nspname <> 'public'
    UNION ALL SELECT 'function' FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'type' FROM pg_type WHERE oid >= 16384 AND typrelid = 0
        AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = pg_type.oid) AND typtype <> 'm'
    UNION ALL SELECT 'large object' FROM pg_largeobject_metadata
    UNION ALL SELECT 'extension' FROM pg_extension WHERE oid >= 16384
    UNION ALL SELECT 'event trigger' FROM pg_event_trigger WHERE oid >= 16384
    UNION ALL SELECT 'foreign server' FROM pg_foreign_server WHERE oid >= 16384
    UNION ALL SELECT 'publication' FROM pg_publication WHERE oid >= 16384
    UNION ALL SELECT 'operator' FROM pg_operator WHERE oid >= 16384
    UNION ALL SELECT 'cast' FROM pg_cast WHERE oid >= 16384
    UNION ALL SELECT 'collation' FROM pg_collation WHERE oid >= 16384
    UNION ALL SELECT 'text search configuration' FROM pg_ts_config WHERE oid >= 16384
  ) o GROUP BY kind ORDER BY kind`

/** Does the server that was asked before still stand, without a restart since? */
export async function isStillThere(connection: string, target: LoadTarget): Promise<boolean> {
  try {
    const session = await openLoadSession(connection)
    const { postmasterStartedAt } = session.facts
    await session.close()
    return postmasterStartedAt.getTime() === target.startedAt.getTime()
  } catch (error) {
    if (!isFailure(error)) throw error
    // It answers, if only that the database was not made.
    return error.code === 'TM1103'
  }
}
