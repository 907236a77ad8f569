/** Changes between two backups that are easy to miss, and what a backup leaves out. */
import assert from 'node:assert/strict'
import {
  closeSync,
  mkdirSync,
  chownSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { amcheckMissing, checkWithAmcheck } from '../harness/amcheck.ts'
import { SAMPLED_MAJORS, type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { serverUser } from '../harness/server-user.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { makeRebuilder, readEntries } from '../simulation/backup-rebuild.ts'
import {
  AT_REST,
  assertEqualsDataDirectory,
  backUp,
  newRepository,
  startFromBackup,
} from './backup-fixture.ts'

function newSpace(): string {
  return temporaryDirectory(serverUser())
}

async function pathOf(server: PostgresServer, relation: string): Promise<string> {
  const [row] = await server.sql('SELECT pg_relation_filepath($1) AS path', [relation])
  return String(row?.['path'])
}

for (const major of SAMPLED_MAJORS) {
  test(`PostgreSQL ${major}: backed up, changed, backed up, recovered`, async () => {
    await using server = await startPostgres({
      major,
      embedded: true,
      settings: { ...AT_REST, max_prepared_transactions: '5' },
    })
    const storage = await newRepository()
    await server.sql(`CREATE TABLESPACE far LOCATION '${newSpace()}'`)
    await server.sql('CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 5000) g')
    await server.sql('CREATE TABLE moved AS SELECT g AS id FROM generate_series(1, 2000) g')
    await server.sql(
      'CREATE UNLOGGED TABLE brief AS SELECT g AS id FROM generate_series(1, 1000) g',
    )
    await server.sql('CREATE INDEX ON t (id)')
    await server.sql("BEGIN; INSERT INTO t VALUES (-1); PREPARE TRANSACTION 'two phases'")
    await server.sql('VACUUM t')
    await server.sql('CHECKPOINT')
    const brief = await pathOf(server, 'brief')
    const first = await backUp(server, storage)
    const entries = await assertEqualsDataDirectory(server, storage, first)
    const paths = entries.map(({ path }) => path)
    assert.ok(!paths.includes(brief) && paths.includes(`${brief}_init`), 'unlogged: init fork only')
    assert.deepEqual(
      first.tablespaces.map(({ name, kind }) => ({ name, kind })),
      [{ name: 'far', kind: 'link' }],
    )
    assert.ok(
      paths.some((path) => /^pg_twophase\/[0-9A-F]+$/.test(path)),
      'two-phase state',
    )

    await server.sql('ALTER TABLE moved SET TABLESPACE far')
    await server.sql('DELETE FROM t WHERE id % 10 = 0')
    await server.sql('CHECKPOINT')
    const second = await backUp(server, storage)
    await assertEqualsDataDirectory(server, storage, second)
    assert.equal(second.comparedWith, first.id)
    await using copy = await startFromBackup(storage, second, { major, embedded: true })
    const [row] = await copy.sql(
      'SELECT (SELECT count(*) FROM t)::int AS t, (SELECT count(*) ' +
        'FROM moved)::int AS moved, (SELECT count(*) FROM brief)::int AS brief',
    )
    assert.deepEqual(row, { t: 4500, moved: 2000, brief: 0 })
    await copy.sql("COMMIT PREPARED 'two phases'")
    if (amcheckMissing(major) === false) await checkWithAmcheck(copy)
  })
}

for (const walSegmentSizeMb of [1, 64]) {
  test(`WAL segments of ${walSegmentSizeMb} MB, and no data checksums`, async () => {
    await using server = await startPostgres({
      walSegmentSizeMb,
      checksums: false,
      settings: AT_REST,
    })
    const storage = await newRepository()
    await server.sql('CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 50000) g')
    const record = await backUp(server, storage)
    assert.equal(record.dataChecksumVersion, 0)
    assert.equal(record.sizes.walSegmentSizeBytes, walSegmentSizeMb * 1024 * 1024)
    await using copy = await startFromBackup(storage, record)
    assert.equal((await copy.sql('SELECT count(*)::int AS n FROM t'))[0]?.['n'], 50000)
  })
}

test('pg_checksums --enable changes two bytes of every page, and all are stored', async () => {
  await using server = await startPostgres({ checksums: false, settings: AT_REST })
  const storage = await newRepository()
  const first = await backUp(server, storage)
  await server.stop()
  await server.tool('pg_checksums', ['--enable', '-D', server.dataDirectory])
  await server.start()
  const second = await backUp(server, storage)
  assert.equal(second.comparedWith, first.id)
  assert.equal(second.dataChecksumVersion, 1)
  assert.ok(second.statistics.pagesStored > 800, `${second.statistics.pagesStored} pages`)
  await assertEqualsDataDirectory(server, storage, second)
  await using copy = await startFromBackup(storage, second)
  await copy.stop()
  await copy.tool('pg_checksums', ['--check', '-D', copy.dataDirectory])
})

test('a cleared visibility bit and a commit status are seen without an LSN', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  await server.sql('CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 20000) g')
  await server.sql('VACUUM (FREEZE, ANALYZE) t')
  await server.sql('CHECKPOINT')
  await backUp(server, storage)
  const path = `${await pathOf(server, 't')}_vm`
  const before = readFileSync(join(server.dataDirectory, path))
  await server.sql('DELETE FROM t WHERE id = 3')
  await server.sql('CHECKPOINT')
  assert.ok(!before.equals(readFileSync(join(server.dataDirectory, path))), 'the map changed')
  const second = await backUp(server, storage)
  await assertEqualsDataDirectory(server, storage, second)
})

test('a damaged page is named, kept as it is, and named again when not read again', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  await server.sql(
    'CREATE TABLE t AS SELECT g AS id, repeat($$x$$, 500) AS x FROM generate_series(1, 2000) g',
  )
  await server.sql('CHECKPOINT')
  const path = await pathOf(server, 't')
  const good = await backUp(server, storage)
  assert.deepEqual(good.damage, [])
  const noise = Buffer.alloc(16, 0xff)
  const fd = openSync(join(server.dataDirectory, path), 'r+')
  // Block 3 in its rows, block 5 in its header: its LSN is beyond the end of the WAL.
  writeSync(fd, noise, 0, 16, 3 * 8192 + 4000)
  writeSync(fd, noise, 0, 8, 5 * 8192)
  closeSync(fd)
  const expected = [
    { path, relation: 'postgres.public.t', blocks: [3, 5], lastGoodBackup: good.id },
  ]
  const bad = await backUp(server, storage)
  assert.deepEqual(bad.damage, expected)
  await assertEqualsDataDirectory(server, storage, bad)
  await new Promise((resolve) => setTimeout(resolve, 2500))
  const again = await backUp(server, storage)
  assert.deepEqual(again.damage, expected)
  const unread = await backUp(server, storage)
  assert.deepEqual(unread.damage, expected)
  assert.ok(unread.statistics.filesUnchangedByStatus > 500)
})

test('a database, pg_wal and a tablespace behind links or inside the data directory', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  await server.sql('CREATE DATABASE away')
  await server.sql('CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g', [], 'away')
  const [row] = await server.sql("SELECT oid::int AS oid FROM pg_database WHERE datname = 'away'")
  const inside = join(server.dataDirectory, 'inside')
  mkdirSync(inside)
  const owner = serverUser()
  if (owner !== undefined) chownSync(inside, owner.uid, owner.gid)
  await server.sql(`CREATE TABLESPACE inside LOCATION '${inside}'`)
  await server.sql(
    'CREATE TABLE u TABLESPACE inside AS SELECT g AS id FROM generate_series(1, 1000) g',
  )
  await server.stop()
  const elsewhere = newSpace()
  for (const path of [`base/${String(row?.['oid'])}`, 'pg_wal']) {
    const from = join(server.dataDirectory, path)
    const to = join(elsewhere, path.replace('/', '-'))
    renameSync(from, to)
    symlinkSync(to, from)
  }
  await server.start()
  const record = await backUp(server, storage)
  const entries = await assertEqualsDataDirectory(server, storage, record)
  assert.deepEqual(
    entries.filter(({ kind }) => kind === 'link').map(({ path }) => dirname(path)),
    ['pg_tblspc'],
  )
  assert.equal(entries.find(({ path }) => path === 'pg_wal')?.kind, 'directory')
  assert.ok(entries.some(({ path }) => path === 'pg_wal/archive_status'))
  assert.ok(!entries.some(({ path }) => path.startsWith('inside/')), 'copied once')
  await using copy = await startFromBackup(storage, record)
  assert.equal((await copy.sql('SELECT count(*)::int AS n FROM t', [], 'away'))[0]?.['n'], 1000)
  assert.equal((await copy.sql('SELECT count(*)::int AS n FROM u'))[0]?.['n'], 1000)
  rmSync(elsewhere, { recursive: true })
})

test('in-place tablespaces are told from links, and a dropped tablespace is gone', async () => {
  const settings = { ...AT_REST, allow_in_place_tablespaces: 'on' }
  await using server = await startPostgres({ settings })
  const storage = await newRepository()
  await server.sql("CREATE TABLESPACE here LOCATION ''")
  await server.sql(
    'CREATE TABLE t TABLESPACE here AS SELECT g AS id FROM generate_series(1, 1000) g',
  )
  await server.sql(`CREATE TABLESPACE there LOCATION '${newSpace()}'`)
  const first = await backUp(server, storage)
  const kinds = first.tablespaces.map(({ name, kind }) => [name, kind])
  assert.deepEqual(kinds.sort(), [
    ['here', 'in-place'],
    ['there', 'link'],
  ])
  await server.sql('DROP TABLESPACE there')
  const second = await backUp(server, storage)
  assert.deepEqual(
    second.tablespaces.map(({ name }) => name),
    ['here'],
  )
  await using copy = await startFromBackup(storage, second)
  assert.equal((await copy.sql('SELECT count(*)::int AS n FROM t'))[0]?.['n'], 1000)
  const rebuild = makeRebuilder(storage, first)
  for (const entry of await readEntries(storage, first)) await rebuild(entry)
})
