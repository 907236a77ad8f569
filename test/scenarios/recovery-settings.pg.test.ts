/** What the restored server's configuration must be for replay, and where the original's is. */
import assert from 'node:assert/strict'
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openRecovered, protectServer } from './recovery-cluster.ts'

test('limits that the WAL raises midway do not stop replay, whatever follows it', async () => {
  await using cluster = await protectServer({
    settings: { max_connections: '20', max_locks_per_transaction: '64' },
  })
  const { server } = cluster
  await server.sql('CREATE TABLE t (i int)')
  await cluster.backup()
  const higher = { max_connections: '137', max_locks_per_transaction: '99' }
  await server.sql("ALTER SYSTEM SET max_connections = '137'")
  await server.sql("ALTER SYSTEM SET max_locks_per_transaction = '99'")
  await server.restart(higher)
  await server.sql('INSERT INTO t VALUES (1)')
  await cluster.archiveNow()
  const binaries = server.binDirectory
  for (const [number, action] of (['pause', 'shutdown', 'promote'] as const).entries()) {
    const into = cluster.path(action)
    const port = String(5600 + number)
    const start = ['--start', '--pg-bin', binaries, '--port', port]
    const result = await cluster.ok('restore', '--into', into, '--action', action, ...start)
    assert.match(result.stdout, /as judged/)
    assert.match(readFileSync(join(into, 'postgresql.conf'), 'utf8'), /max_connections = '137'/)
    if (action !== 'shutdown') await server.tool('pg_ctl', ['stop', '-D', into, '-m', 'fast'])
  }
  const into = cluster.path('successor')
  await cluster.ok('restore', '--into', into, '--take-over', '--action', 'pause')
  assert.match(readFileSync(join(into, 'postgresql.auto.conf'), 'utf8'), /max_connections = '137'/)
  await server.stop()
  const heir = cluster.path('heir')
  const start = ['--take-over', '--start', '--pg-bin', binaries]
  const { stdout } = await cluster.ok('restore', '--into', heir, ...start)
  assert.match(stdout, /as judged/)
  // It has the original's address, and so answers for it.
  assert.deepEqual(await server.sql('SHOW max_connections'), [{ max_connections: '137' }])
  assert.deepEqual(await server.sql('SHOW data_directory'), [{ data_directory: heir }])
  await server.tool('pg_ctl', ['stop', '-D', heir, '-m', 'fast'])
})

test('configuration from outside the data directory is beside a usable one', async () => {
  await using cluster = await protectServer()
  const { server } = cluster
  const outside = cluster.path('etc')
  mkdirSync(outside)
  await server.stop()
  const names = ['postgresql.conf', 'pg_hba.conf', 'pg_ident.conf']
  for (const name of names) renameSync(join(server.dataDirectory, name), join(outside, name))
  const { runAs } = server
  if (runAs !== undefined) chownSync(outside, runAs.uid, runAs.gid)
  await server.start({
    config_file: join(outside, 'postgresql.conf'),
    hba_file: join(outside, 'pg_hba.conf'),
    ident_file: join(outside, 'pg_ident.conf'),
  })
  await server.sql('CREATE TABLE t AS SELECT 1 AS i')
  await cluster.backup()
  await cluster.archiveNow()
  await server.stop()
  const into = cluster.path('successor')
  const { stdout } = await cluster.ok('restore', '--into', into, '--take-over')
  for (const name of names) {
    const place = new RegExp(`cp (\\S*/configuration.original/\\d+-${name}) ${outside}/${name}`)
    const restored = place.exec(stdout)?.[1] ?? stdout
    assert.equal(readFileSync(restored, 'utf8'), readFileSync(join(outside, name), 'utf8'))
    assert.ok(existsSync(join(into, name)))
  }
  await server.tool('pg_verifybackup', ['-n', into])
  const hba = /(\S*configuration.original\/\d+-pg_hba.conf)/.exec(stdout)?.[1] ?? ''
  await using taken = await openRecovered(into, { settings: { hba_file: hba } })
  assert.equal((await taken.sql('SELECT * FROM t')).length, 1)
  assert.deepEqual(await taken.sql('SHOW archive_mode'), [{ archive_mode: 'on' }])
})

test('transactions in doubt are listed with what to type', async () => {
  await using cluster = await protectServer({ settings: { max_prepared_transactions: '5' } })
  const { server } = cluster
  await server.sql('CREATE TABLE t (i int)')
  const prepare = async (gid: string): Promise<void> => {
    await server.sql(`BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '${gid}'`)
  }
  await prepare('before the backup')
  await server.sql('CHECKPOINT')
  await cluster.backup()
  await prepare("it''s later")
  await prepare('ended')
  await server.sql(`COMMIT PREPARED 'ended'`)
  await cluster.archiveNow()
  const into = cluster.path('copy')
  const start = ['--start', '--pg-bin', server.binDirectory, '--port', '5611']
  const { stdout } = await cluster.ok('restore', '--into', into, ...start)
  assert.match(stdout, /in postgres, of \S+, .*: COMMIT PREPARED 'before the backup'; or ROLLBACK/)
  assert.match(stdout, /ROLLBACK PREPARED 'it''s later';/)
  assert.doesNotMatch(stdout, /'ended'/)
  await server.tool('pg_ctl', ['stop', '-D', into, '-m', 'fast'])
})
