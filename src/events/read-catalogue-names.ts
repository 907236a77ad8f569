/**
 * Asks a server which file node is which relation, database by database. Names are a help: a
 * database that cannot be asked in time has none.
 */
import { isFailure } from '../base/failure.ts'
import { type ConnectionDefaults, withDatabase } from '../postgres/connection-url.ts'
import { type Lsn, parseLsn } from '../postgres/lsn.ts'
import { openServerSession, type ServerSession } from '../postgres/server-session.ts'
import type { CatalogueNames, NamedDatabase, NamedRelation } from './names-snapshot.ts'

export interface NamesSource {
  /** To any database of the server. */
  readonly session: ServerSession
  /** The URL of that session; further sessions are opened with it. */
  readonly connection: string
  readonly defaults?: ConnectionDefaults
}

/** Failures are those of the session; a single database that fails is left out. */
export async function readCatalogueNames(source: NamesSource): Promise<CatalogueNames> {
  const { session } = source
  const before = await readPosition(session)
  const databases: NamedDatabase[] = []
  for (const row of await session.query(DATABASES)) {
    const [oid, name] = [Number(row['oid']), String(row['name'])]
    const read = row['mayconnect'] === true ? await readDatabase(source, name) : undefined
    const tablespace = Number(row['space'])
    const content = read ?? { schemas: [], relations: [] }
    databases.push({ oid, name, tablespace, isRead: read !== undefined, ...content })
  }
  const after = await readPosition(session)
  const { timeline, lsn: firstLsn, at } = before
  return { timeline, firstLsn, lastLsn: after.lsn, at, databases }
}

interface Position {
  readonly timeline: number
  readonly lsn: Lsn
  readonly at: string
}

async function readPosition(session: ServerSession): Promise<Position> {
  const [row] = await session.query(POSITION)
  const found = parseLsn(String(row?.['lsn']))
  if (found === undefined) throw new Error('the server told no LSN')
  const at = row?.['at']
  return {
    timeline: Number(row?.['timeline']),
    lsn: found,
    at: at instanceof Date ? at.toISOString() : '',
  }
}

/** A standby names its timeline by its receiver, else by its last restart point. */
const POSITION = `
  SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
              ELSE pg_current_wal_insert_lsn() END::text AS lsn,
         CASE WHEN pg_is_in_recovery()
              THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
                            (SELECT timeline_id FROM pg_control_checkpoint()))
              ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
         END AS timeline,
         clock_timestamp() AS at`

const DATABASES = `
  SELECT oid::int8::text AS oid, datname AS name, dattablespace::int8::text AS space,
         datallowconn AS mayconnect
    FROM pg_database ORDER BY oid`

/** VACUUM FULL of a catalogue holds a lock that must not hold up anything here. */
const LIMITS = `
  SELECT set_config('lock_timeout', '2s', false), set_config('statement_timeout', '15s', false)`

/** pg_relation_filenode() resolves mapped relations; those without storage have none. */
const RELATIONS = `
  SELECT pg_relation_filenode(oid)::int8::text AS node, reltablespace::int8::text AS space,
         relnamespace::int8::text AS schema, relname AS name, relkind::text AS kind,
         oid::int8::text AS oid, reltuples::float8 AS rows, relpages AS pages
    FROM pg_class WHERE pg_relation_filenode(oid) IS NOT NULL
   ORDER BY pg_relation_filenode(oid), oid`

const SCHEMAS = 'SELECT oid::int8::text AS oid, nspname AS name FROM pg_namespace ORDER BY oid'

type DatabaseContent = Pick<NamedDatabase, 'schemas' | 'relations'>

async function readDatabase(
  { connection, defaults }: NamesSource,
  database: string,
): Promise<DatabaseContent | undefined> {
  try {
    const session = await openServerSession({
      connection: withDatabase(connection, database),
      applicationName: 'tidemark names',
      forceVersion: true,
      ...(defaults === undefined ? {} : { defaults }),
    })
    try {
      if (session.facts.database !== database) return undefined
      await session.query(LIMITS)
      const relations = (await session.query(RELATIONS)).map(toRelation)
      const schemas = (await session.query(SCHEMAS)).map(
        (row) => [Number(row['oid']), String(row['name'])] as const,
      )
      return { schemas, relations }
    } finally {
      await session.close()
    }
  } catch (error) {
    if (isFailure(error)) return undefined
    throw error
  }
}

function toRelation(row: Record<string, unknown>): NamedRelation {
  const { node, space, schema, name, kind, oid, rows, pages } = row
  const place = [Number(node), Number(space), Number(schema)] as const
  return [...place, String(name), String(kind), Number(oid), Number(rows), Number(pages)]
}
