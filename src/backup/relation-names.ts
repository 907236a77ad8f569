/**
 * The names of relations as of the backup: (tablespace, database, file node) -> name. The
 * server is asked database by database; a database that cannot be entered is left out, and
 * its relations go by number.
 */
import { isFailure } from '../base/failure.ts'
import { openServerSession, type ServerSession } from '../postgres/server-session.ts'

export interface DatabaseNames {
  readonly oid: number
  readonly name: string
  /** [file node, tablespace oid (0: the database's own), schema, name, kind] */
  readonly relations: readonly (readonly [number, number, string, string, string])[]
}

export async function readRelationNames(
  session: ServerSession,
  connection: string,
): Promise<DatabaseNames[]> {
  const databases = await session.query(
    'SELECT oid::int8::text AS oid, datname AS name FROM pg_database WHERE datallowconn ORDER BY 1',
  )
  const names: DatabaseNames[] = []
  for (const { oid, name } of databases) {
    const relations = await readOneDatabase(connection, String(name))
    names.push({ oid: Number(oid), name: String(name), relations })
  }
  return names
}

async function readOneDatabase(connection: string, database: string) {
  let session: ServerSession
  try {
    session = await openServerSession({
      connection: withDatabase(connection, database),
      applicationName: 'tidemark names',
    })
  } catch (error) {
    if (isFailure(error)) return []
    throw error
  }
  try {
    const rows = await session.query(RELATIONS)
    return rows.map((row) => toRelation(row))
  } finally {
    await session.close()
  }
}

/** pg_relation_filenode() resolves mapped relations; those without storage have none. */
const RELATIONS = `
  SELECT pg_relation_filenode(c.oid)::int8::text AS filenode, c.reltablespace::int8::text AS space,
         n.nspname AS schema, c.relname AS name, c.relkind::text AS kind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE pg_relation_filenode(c.oid) IS NOT NULL
   ORDER BY pg_relation_filenode(c.oid)`

function toRelation(row: Record<string, unknown>) {
  const { filenode, space, schema, name, kind } = row
  const parts = [String(schema), String(name), String(kind)] as const
  return [Number(filenode), Number(space), ...parts] as const
}

/** The same connection to another database of the cluster. */
export function withDatabase(connection: string, database: string): string {
  const match = /^(postgres(?:ql)?:\/\/[^/?]*)(?:\/[^?]*)?(\?.*)?$/.exec(connection)
  if (match === null) return connection
  return `${match[1]}/${encodeURIComponent(database)}${match[2] ?? ''}`
}

/** `bench.public.accounts` for a file node; undefined when it is not known. */
export function findRelationName(
  names: readonly DatabaseNames[],
  databaseOid: number,
  filenode: number,
): string | undefined {
  for (const database of names) {
    if (databaseOid !== 0 && database.oid !== databaseOid) continue
    const relation = database.relations.find(([node]) => node === filenode)
    if (relation !== undefined) return `${database.name}.${relation[2]}.${relation[3]}`
  }
  return undefined
}
