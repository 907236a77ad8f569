/**
 * Makes what a load needs before its objects: roles, and the database itself.
 *
 * The database is made by our own statement, not by `pg_restore --create`: that one can neither
 * give it another name nor work in one transaction. Encoding and locale are those of the dump,
 * word for word; of a plain dump, which does not tell the locale, only the encoding.
 */
import { runScript } from './load-script.ts'
import type { PreparedLoad } from './prepare-load.ts'
import { openMaintenanceSession } from './read-load-facts.ts'
import { renameDatabase } from './read-needs.ts'
import { quoteLiteral, quoteName, splitStatements } from './sql-text.ts'

/** They own and are granted things, and nobody can log in as one of them. */
export async function createRoles(connection: string, roles: readonly string[]): Promise<void> {
  if (roles.length === 0) return
  const session = await openMaintenanceSession(connection)
  try {
    for (const role of roles) {
      await session.query(`CREATE ROLE ${quoteName(role)} NOLOGIN`, [], `create role ${role}`)
    }
  } finally {
    await session.close()
  }
}

/** Gives notes. */
export async function createDatabase(prepared: PreparedLoad): Promise<string[]> {
  const { request, database, archive } = prepared
  const name = quoteName(request.into)
  const dumped = archive?.needs.createDatabase
  const withTablespace = !request.choices.noTablespaces
  const renamed =
    dumped === undefined ? undefined : renameDatabase(dumped, name, { withTablespace })
  const encoding = quoteLiteral(database.encoding)
  const statement =
    renamed ?? `CREATE DATABASE ${name} WITH TEMPLATE = template0 ENCODING = ${encoding}`
  const session = await openMaintenanceSession(request.connection)
  try {
    await session.query(statement, [], `create database ${request.into}`)
  } finally {
    await session.close()
  }
  if (renamed !== undefined) return []
  return [
    `the dump does not tell the locale of ${database.name}: ${request.into} has that of the server`,
  ]
}

/**
 * Owner, settings, comment and privileges of the database itself. The statements name it, so
 * they are run only where it has kept its name.
 */
export async function loadDatabaseSettings(
  { request, database, archive, tools, env }: PreparedLoad,
  signal: AbortSignal,
): Promise<string[]> {
  if (archive === undefined) return []
  const statements = listDatabaseSettings(archive.script)
  if (statements.length === 0) return []
  if (request.into !== database.name) {
    return [
      `${statements.length} statements on the database itself (owner, settings, comment, privileges) name ${database.name} and were left out`,
    ]
  }
  const { isWhole, messages } = await runScript({
    psql: tools.path('psql'),
    env,
    signal,
    encoding: 'UTF8',
    script: (async function* () {
      yield Buffer.from(`SET client_encoding = 'UTF8';\n${statements.join(';\n')};\n`)
    })(),
    singleTransaction: false,
    continueOnError: false,
  })
  if (isWhole) return []
  return [
    `owner, settings, comment or privileges of the database itself were not set: ${messages.error ?? ''}`,
  ]
}

/** Pure. */
export function listDatabaseSettings(script: string): string[] {
  return [...splitStatements(script)].filter((statement) => SETTINGS.test(statement))
}

const SETTINGS = /^(ALTER|COMMENT ON|SECURITY LABEL [^']* ON|(GRANT|REVOKE) [A-Z, ]+ ON) DATABASE /
