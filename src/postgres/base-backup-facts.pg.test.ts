/**
 * What versions.ts, backup-label.ts and relation-path.ts say, against servers of each
 * major: a low-level backup with odd tablespaces, and the paths of real relations.
 */
import assert from 'node:assert/strict'
import { chownSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  SAMPLED_MAJORS,
  type PostgresServer,
  startPostgres,
} from '../../test/harness/postgres-server.ts'
import { formatTablespaceMap, parseBackupLabel, parseTablespaceMap } from './backup-label.ts'
import { readControlFile } from './control-file.ts'
import { formatLsn } from './lsn.ts'
import { isTemporaryRelationName, parseRelationPath } from './relation-path.ts'
import { openServerSession } from './server-session.ts'
import { versionDirectoryName } from './versions.ts'

for (const major of SAMPLED_MAJORS) {
  test(`PostgreSQL ${major}: a low-level backup reads as this version writes it`, async () => {
    await using server = await startPostgres({ major, embedded: true })
    const location = makeDirectory(server, 'odd \\ place\nof files')
    await server.sql(`CREATE TABLESPACE odd LOCATION E'${location.replace(/[\n\\]/g, escapeSql)}'`)
    const session = await openServerSession({ connection: server.url(), applicationName: 'test' })
    const { version } = session.facts
    const [start] = await session.query<{ lsn: string }>(version.backupStatements.start, [
      'tidemark: a label',
      true,
    ])
    const { control } = await readControlFile(server.dataDirectory)
    const [stop] = await session.query<Stop>(version.backupStatements.stop, [false])
    const label = parseBackupLabel(stop?.labelfile ?? '')
    assert.equal(formatLsn(label.startLsn), start?.lsn)
    assert.equal(label.label, 'tidemark: a label')
    assert.equal(label.startLsn, control.checkpoint.redoLsn)
    assert.equal(label.checkpointLsn, control.checkpointLsn)
    assert.equal(label.startTimeline, control.checkpoint.timeline)
    assert.equal(label.from, 'primary')
    const map = parseTablespaceMap(stop?.spcmapfile ?? '', version)
    const [{ oid } = { oid: 0 }] = await session.query<{ oid: number }>(
      "SELECT oid::int FROM pg_tablespace WHERE spcname = 'odd'",
    )
    assert.deepEqual(map, [{ oid, location }])
    assert.equal(formatTablespaceMap(map, version).trimEnd(), stop?.spcmapfile.trimEnd())
    await session.close()
    await checkExclusions(server, version.exclusions)
  })

  test(`PostgreSQL ${major}: relation paths, and settings of the version`, async () => {
    await using server = await startPostgres({ major, embedded: true })
    await server.sql(`CREATE TABLESPACE ts LOCATION '${makeDirectory(server, 'ts')}'`)
    await server.sql('CREATE UNLOGGED TABLE here (n int); CREATE TABLE there (n int) TABLESPACE ts')
    const rows = await server.sql<PathRow>(`
      SELECT pg_relation_filepath(c.oid) AS path, pg_relation_filenode(c.oid)::int AS filenode,
        coalesce(nullif(c.reltablespace, 0), d.dattablespace)::int AS tablespace,
        CASE WHEN c.relisshared THEN 0 ELSE d.oid END::int AS database
      FROM pg_class c, pg_database d
      WHERE d.datname = current_database() AND pg_relation_filenode(c.oid) IS NOT NULL`)
    assert.ok(rows.length > 200)
    for (const row of rows) {
      assert.deepEqual(parseRelationPath(row.path), {
        tablespaceOid: row.tablespace,
        databaseOid: row.database,
        filenode: row.filenode,
        fork: 'main',
        segment: 0,
      })
    }
    const session = await openServerSession({ connection: server.url(), applicationName: 'test' })
    const { version } = session.facts
    const directory = versionDirectoryName(major, version.catalogVersion)
    assert.ok(rows.some(({ path }) => path.startsWith('pg_tblspc/') && path.includes(directory)))
    await session.query('CREATE TEMPORARY TABLE gone (n int)')
    const [temporary] = await session.query<{ path: string }>(
      "SELECT pg_relation_filepath('pg_temp.gone') AS path",
    )
    assert.ok(isTemporaryRelationName(temporary?.path.split('/').at(-1) ?? ''))
    assert.equal(parseRelationPath(temporary?.path ?? ''), undefined)
    const settings = await session.readSettings()
    const { replicationOrigins, ...optional } = version.settings
    assert.ok(settings.has(replicationOrigins))
    assert.equal(settings.has('max_active_replication_origins'), major >= 18)
    for (const [key, name] of Object.entries(optional)) {
      const words = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
      assert.equal(settings.has(words), name !== undefined, words)
    }
    await session.close()
  })
}

interface Stop extends Record<string, unknown> {
  readonly lsn: string
  readonly labelfile: string
  readonly spcmapfile: string
}

interface PathRow extends Record<string, unknown> {
  readonly path: string
  readonly filenode: number
  readonly tablespace: number
  readonly database: number
}

function makeDirectory(server: PostgresServer, name: string): string {
  const directory = join(server.socketDirectory, name)
  mkdirSync(directory)
  if (server.runAs !== undefined) chownSync(directory, server.runAs.uid, server.runAs.gid)
  return directory
}

function escapeSql(character: string): string {
  return character === '\n' ? '\\n' : '\\\\'
}

/** The directories that are kept empty exist on this version. */
async function checkExclusions(
  server: PostgresServer,
  exclusions: { directoryContents: readonly string[]; walDirectories: readonly string[] },
): Promise<void> {
  for (const name of exclusions.directoryContents) {
    assert.ok(existsSync(join(server.dataDirectory, name)), name)
  }
  for (const name of exclusions.walDirectories) {
    assert.ok(existsSync(join(server.dataDirectory, 'pg_wal', name)), name)
  }
  assert.equal(
    existsSync(join(server.dataDirectory, 'pg_wal/summaries')),
    exclusions.walDirectories.includes('summaries'),
  )
}
