/**
 * A copy beside the living server harms nothing of it, and what was restored passes
 * PostgreSQL's own checks before its first start.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { crc32c } from '../../src/postgres/crc32c.ts'
import type { PostgresServer } from '../harness/postgres-server.ts'
import { failureOf } from '../harness/tidemark.ts'
import { openRecovered, type ProtectedServer, protectServer } from './recovery-cluster.ts'

function makeOwnDirectory(cluster: ProtectedServer, name: string): string {
  const directory = cluster.path(name)
  mkdirSync(directory, { mode: 0o700 })
  const { runAs } = cluster.server
  if (runAs !== undefined) chownSync(directory, runAs.uid, runAs.gid)
  return directory
}

/** A file that is none of PostgreSQL's, whose content is its name. */
function putFile(server: PostgresServer, name: string): void {
  const path = join(server.dataDirectory, name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, name)
  const { runAs } = server
  if (runAs === undefined) return
  const top = join(server.dataDirectory, name.split('/', 1)[0] as string)
  execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, top])
}

/**
 * pg_checksums wants a control file that says "shut down" and looks at nothing else of the
 * state: it gets one for the time of the check.
 */
async function checkChecksums(server: PostgresServer, directory: string): Promise<void> {
  const path = join(directory, 'global/pg_control')
  const kept = readFileSync(path)
  const changed = Buffer.from(kept)
  changed.writeUInt32LE(1, 16)
  const end = server.major >= 18 ? 292 : 288
  changed.writeUInt32LE(crc32c(changed.subarray(0, end)), end)
  writeFileSync(path, changed)
  try {
    await server.tool('pg_checksums', ['--check', '-D', directory])
  } finally {
    writeFileSync(path, kept)
  }
}

test('restored files pass pg_verifybackup and pg_checksums before the first start', async () => {
  await using cluster = await protectServer()
  const { server } = cluster
  await server.sql('CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 9000) g')
  await server.sql('CREATE TABLE empty (i int); CREATE UNLOGGED TABLE u AS SELECT 1 AS i')
  const strange = ['@notes', '@config/0000/postgresql.conf', '@@twice', 'name with space']
  for (const name of strange) putFile(server, name)
  await cluster.backup()
  await cluster.archiveNow()
  const into = cluster.path('copy')
  await cluster.ok('restore', '--into', into)
  await server.tool('pg_verifybackup', ['-n', into])
  await checkChecksums(server, into)
  await server.tool('pg_verifybackup', ['-n', into])
  for (const name of strange) assert.equal(readFileSync(join(into, name), 'utf8'), name)
  const damaged = join(into, 'base/1/1259')
  const bytes = readFileSync(damaged)
  bytes.writeUInt8(bytes.readUInt8(5000) ^ 1, 5000)
  writeFileSync(damaged, bytes)
  await assert.rejects(server.tool('pg_verifybackup', ['-n', into]), /1259/)
})

test('an idle cluster: a time that no later transaction follows', async () => {
  await using cluster = await protectServer()
  const { server } = cluster
  await server.sql('CREATE TABLE t (i int)')
  await cluster.backup()
  await server.sql('INSERT INTO t VALUES (1)')
  const [row] = await server.sql<{ time: string }>('SELECT clock_timestamp()::text AS time')
  await new Promise((resolve) => setTimeout(resolve, 1100))
  await cluster.archiveNow()
  const into = cluster.path('copy')
  const { notes } = (
    await cluster.ok('--json', 'restore', '--into', into, '--to', row?.time ?? '')
  ).json<{ notes: string[] }>()
  assert.match(notes.join('\n'), /no transaction ended after that time/)
  await using copy = await openRecovered(into)
  assert.equal((await copy.sql('SELECT * FROM t')).length, 1)
})

test('tablespaces go where they are mapped, and nowhere else', async () => {
  await using cluster = await protectServer()
  const { server } = cluster
  const living = makeOwnDirectory(cluster, 'space')
  await server.sql(`CREATE TABLESPACE side LOCATION '${living}'`)
  await server.sql('CREATE TABLE t TABLESPACE side AS SELECT generate_series(1, 1000) AS i')
  await cluster.backup()
  await server.sql('DELETE FROM t WHERE i > 500')
  await cluster.archiveNow()
  const into = cluster.path('copy')
  const unmapped = await cluster.run('--json', 'restore', '--into', into)
  assert.equal(failureOf(unmapped).code, 'TM1214', unmapped.stdout)
  assert.match(failureOf(unmapped).fix, /--tablespace side=/)
  const wrong = await cluster.run('--json', 'restore', '--into', into, '--tablespace', 'no=/x')
  assert.equal(failureOf(wrong).code, 'TM1215', wrong.stdout)
  assert.equal(existsSync(into), false)

  const place = cluster.path('copied-space')
  await cluster.ok('restore', '--into', into, '--tablespace', `side=${place}`)
  const [space] = await server.sql<{ oid: string }>(
    `SELECT oid::text FROM pg_tablespace WHERE spcname = 'side'`,
  )
  assert.equal(readlinkSync(join(into, 'pg_tblspc', space?.oid ?? '')), place)
  assert.equal(readFileSync(join(into, 'tablespace_map'), 'utf8'), `${space?.oid} ${place}\n`)
  await server.tool('pg_verifybackup', ['-n', into])
  await using copy = await openRecovered(into)
  assert.equal((await copy.sql('SELECT * FROM t')).length, 500)
  await copy.sql('INSERT INTO t SELECT generate_series(1, 5000)')
  await copy.sql('CHECKPOINT')
  await server.restart()
  assert.equal((await server.sql('SELECT * FROM t')).length, 500)
})

test('a tablespace created in the replayed WAL is never written to beside its owner', async () => {
  await using cluster = await protectServer()
  const { server } = cluster
  await server.sql(`SELECT pg_create_restore_point('none')`)
  await cluster.backup()
  await server.sql(`SELECT pg_create_restore_point('before_space')`)
  const living = makeOwnDirectory(cluster, 'space')
  await server.sql(`CREATE TABLESPACE late LOCATION '${living}'`)
  await server.sql('CREATE TABLE t TABLESPACE late AS SELECT generate_series(1, 1000) AS i')
  await cluster.archiveNow()
  const into = cluster.path('copy')
  const refused = await cluster.run('--json', 'restore', '--into', into)
  assert.equal(failureOf(refused).code, 'TM1216', refused.stdout)
  assert.ok((failureOf(refused).because ?? '').includes(living))
  assert.equal(existsSync(into), false)
  await cluster.ok('restore', '--into', into, '--to', 'name:before_space')
  {
    await using copy = await openRecovered(into)
    assert.deepEqual(await copy.sql(`SELECT 1 FROM pg_tablespace WHERE spcname = 'late'`), [])
  }
  await server.restart()
  assert.equal((await server.sql('SELECT * FROM t')).length, 1000)
  // Elsewhere, where the location is free, replay finds an empty directory to fill.
  await server.stop()
  rmSync(living, { recursive: true })
  const other = cluster.path('other')
  await cluster.ok('restore', '--into', other)
  await using copy = await openRecovered(other)
  assert.equal((await copy.sql('SELECT * FROM t')).length, 1000)
})

test('a copy does not archive, even when told to; one that takes over does', async () => {
  await using cluster = await protectServer()
  const { server } = cluster
  await server.sql('CREATE TABLE t (i int)')
  await cluster.backup()
  await cluster.archiveNow()
  const into = cluster.path('copy')
  await cluster.ok('restore', '--into', into)
  {
    await using copy = await openRecovered(into)
    const [mode] = await copy.sql<{ archive_mode: string }>('SHOW archive_mode')
    assert.equal(mode?.archive_mode, 'off')
    await copy.stop()
    const segment = join(into, 'pg_wal', '000000020000000000000004')
    if (existsSync(segment)) {
      const pushed = await cluster.run('--json', 'wal', 'push', segment)
      assert.notEqual(pushed.status, 0)
      assert.match(pushed.stdout + pushed.stderr, /TM1405/)
    }
  }
  await server.kill()
  const successor = cluster.path('successor')
  await cluster.ok('restore', '--into', successor, '--take-over')
  await using taken = await openRecovered(successor)
  await taken.sql('INSERT INTO t VALUES (1); SELECT pg_switch_wal()')
  for (let waited = 0; waited < 200; waited++) {
    const [row] = await taken.sql<{ count: string }>(
      `SELECT archived_count::text AS count FROM pg_stat_archiver WHERE last_archived_wal LIKE '0000000200%'`,
    )
    if (row !== undefined) break
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const { stdout } = await cluster.ok('wal', 'list')
  assert.match(stdout, /0000000200000000/)
})
