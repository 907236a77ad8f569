/**
 * PostgreSQL's own check of the logic of tables and indexes. It creates the extension
 * amcheck in the databases it looks at, so it is the last thing done to a copy.
 */
import assert from 'node:assert/strict'
import { findTool } from './postgres-binaries.ts'
import type { PostgresServer } from './postgres-server.ts'

/** pg_amcheck came with PostgreSQL 14; what it asks of indexes, 13 answers by SQL. */
const FIRST_WITH_TOOL = 14

/** The reason why checkWithAmcheck() cannot run for this major here, or false. */
export function amcheckMissing(major: number): string | false {
  if (major < FIRST_WITH_TOOL || findTool('pg_amcheck', major) !== undefined) return false
  return `no pg_amcheck for PostgreSQL ${major} here`
}

/** Throws with what pg_amcheck says unless every database is clean. */
export async function checkWithAmcheck(server: PostgresServer): Promise<void> {
  if (server.major < FIRST_WITH_TOOL) {
    await checkIndexesBySql(server)
    return
  }
  const thorough = ['--heapallindexed', '--parent-check', '--rootdescend']
  const { stderr } = await server.tool('pg_amcheck', [
    '--all',
    '--install-missing',
    '--verbose',
    ...thorough,
  ])
  const checked = stderr.match(/checking (heap table|btree index)/g)?.length ?? 0
  assert.ok(checked > 100, `pg_amcheck looked at ${checked} relations`)
}

async function checkIndexesBySql(server: PostgresServer): Promise<void> {
  const databases = await server.sql<{ name: string }>(
    'SELECT datname AS name FROM pg_database WHERE datallowconn',
  )
  for (const { name } of databases) {
    await server.sql('CREATE EXTENSION IF NOT EXISTS amcheck', [], name)
    const [row] = await server.sql<{ checked: number }>(
      `SELECT count(bt_index_parent_check(c.oid, true, true))::int AS checked
         FROM pg_class c JOIN pg_am a ON a.oid = c.relam
        WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p'`,
      [],
      name,
    )
    assert.ok((row?.checked ?? 0) > 50, `${name}: ${row?.checked} indexes`)
  }
}
