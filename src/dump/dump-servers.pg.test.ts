/** Servers of other kinds: over TLS, a standby, the oldest and the newest major. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeCertificates } from '../../test/harness/certificates.ts'
import { dumpOptions } from '../../test/harness/dumping.ts'
import { readWholeFile } from '../../test/harness/dumped-files.ts'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { serverUser } from '../../test/harness/server-user.ts'
import { startStandby, waitForReplay } from '../../test/harness/standby.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { newRepository } from '../../test/scenarios/backup-fixture.ts'
import { SILENT } from '../base/progress.ts'
import { parseLsn } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import type { DumpResult, TakeDumpOptions } from './dump-context.ts'
import { takeDump } from './take-dump.ts'

async function dump(
  server: PostgresServer,
  storage: Storage,
  extra: Partial<TakeDumpOptions> = {},
): Promise<DumpResult> {
  const options = dumpOptions(server, storage, extra)
  return await takeDump(options, SILENT, new AbortController().signal)
}

const ADDRESS = '127.64.20.7'
const PASSWORD = "p@ss wörd '\\"

test('over TLS, the certificate verified by the tools too', async () => {
  const owner = serverUser()
  const mine = await makeCertificates(temporaryDirectory(owner), `IP:${ADDRESS}`, owner)
  const tls = { ssl: 'on', ssl_cert_file: mine.certificate, ssl_key_file: mine.key }
  await using server = await startPostgres({ settings: { ...tls, listen_addresses: ADDRESS } })
  const rules = 'local all all trust\nhostssl all ann all scram-sha-256\n'
  writeFileSync(join(server.dataDirectory, 'pg_hba.conf'), rules)
  const quoted = PASSWORD.replaceAll("'", "''")
  await server.sql(`CREATE ROLE ann SUPERUSER LOGIN PASSWORD '${quoted}'`)
  await server.sql('SELECT pg_reload_conf()')
  const secret = encodeURIComponent(PASSWORD)
  const root = `sslmode=verify-full&sslrootcert=${encodeURIComponent(mine.authority)}`
  const connection = `postgresql://ann:${secret}@${ADDRESS}:${server.port}/postgres?${root}`
  const storage = await newRepository()
  const { record } = await dump(server, storage, { connection, globals: true })
  assert.deepEqual(
    record.databases.map(({ name }) => name),
    ['postgres'],
  )
})

test('of a standby: what it has replayed, and a word about unlogged tables', async () => {
  await using server = await startPostgres()
  await server.sql('CREATE TABLE t AS SELECT 1 AS id; CREATE UNLOGGED TABLE u AS SELECT 2 AS id')
  await using standby = await startStandby(server)
  await waitForReplay(server, standby)
  const storage = await newRepository()
  const { record, notes } = await dump(standby, storage, { format: 'plain', jobs: 1 })
  assert.ok(notes.some((note) => note.includes('unlogged')))
  const sql = (await readWholeFile(storage, record, 0)).toString()
  assert.match(sql, /COPY public\.t \(id\) FROM stdin;\n1\n/)
  assert.doesNotMatch(sql, /COPY public\.u /)
  const [row] = await standby.sql<{ lsn: string }>('SELECT pg_last_wal_replay_lsn()::text AS lsn')
  const [was, is] = [parseLsn(record.databases[0]?.lsn ?? ''), parseLsn(row?.lsn ?? '')]
  assert.ok(was !== undefined && is !== undefined && was > 0n && was <= is)
})

for (const major of [13, 18]) {
  test(`of a server of PostgreSQL ${major}`, {
    skip: findTool('pg_dump', major) === undefined ? `no pg_dump for ${major} here` : false,
  }, async () => {
    await using server = await startPostgres({ major })
    await server.sql('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)')
    // More than pg_dump 17 puts under one entry.
    await server.sql('SELECT lo_from_bytea(0, $$abc$$) FROM generate_series(1, 1005)')
    const storage = await newRepository()
    for (const format of ['custom', 'directory', 'tar', 'plain'] as const) {
      const globals = format === 'plain'
      const { record } = await dump(server, storage, { format, globals, databases: 'all' })
      assert.equal(record.server.major, major)
      assert.deepEqual(
        record.databases.map(({ name }) => name),
        ['postgres', 'template1'],
      )
      assert.equal(record.databases[0]?.objects === 0, format === 'plain')
    }
  })
}
