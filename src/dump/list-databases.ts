/** Which databases of the server are dumped. */
import { Failure } from '../base/failure.ts'
import type { Row, ServerSession } from '../postgres/server-session.ts'

export interface ServerDatabase {
  readonly name: string
  readonly allowsConnections: boolean
}

export async function listDatabases(session: ServerSession): Promise<ServerDatabase[]> {
  return await session.query<ServerDatabase & Row>(
    `SELECT datname::text AS name, datallowconn AS "allowsConnections"
       FROM pg_catalog.pg_database ORDER BY datname`,
    [],
    'list its databases',
  )
}

/** Names that `all` passes over, for a note. */
export function listClosedDatabases(there: readonly ServerDatabase[]): string[] {
  const closed = there.filter(({ allowsConnections }) => !allowsConnections)
  return closed.map(({ name }) => name).filter((name) => name !== 'template0')
}

/**
 * `all`: every one that allows connections, but template0. Named ones in the order given, each
 * once. TM2007 for one that is not there or allows no connections.
 */
export function chooseDatabases(
  there: readonly ServerDatabase[],
  wanted: readonly string[] | 'all',
): string[] {
  const open = there.filter(({ allowsConnections }) => allowsConnections).map(({ name }) => name)
  if (wanted === 'all') return open.filter((name) => name !== 'template0')
  const missing = wanted.find((name) => !open.includes(name))
  if (missing === undefined) return [...new Set(wanted)]
  const isClosed = there.some(({ name }) => name === missing)
  throw new Failure('TM2007', {
    message: isClosed
      ? `database ${missing} allows no connections`
      : `the server has no database ${missing}`,
    because: `those that can be dumped are ${open.join(', ')}`,
    fix: 'name it as pg_database does, without quotes; or leave --database out for that of the connection',
  })
}
