import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres } from '../../test/harness/postgres-server.ts'
import {
  AT_REST,
  assertEqualsDataDirectory,
  atPhase,
  backUp,
  backupOptions,
  newRepository,
} from '../../test/scenarios/backup-fixture.ts'
import { isFailure } from '../base/failure.ts'
import { listBackups } from '../repository/read-backups.ts'
import { listPacks } from '../repository/write-backup.ts'
import { takeBackup } from './take-backup.ts'

test('a backup holds every file to the byte, the next one only what changed', async (t) => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  await server.sql(
    'CREATE TABLE t AS SELECT g AS id, repeat($$x$$, 200) AS x FROM generate_series(1, 50000) g',
  )
  await server.sql('VACUUM ANALYZE t')
  await server.sql('CHECKPOINT')
  const first = await backUp(server, storage)
  await assertEqualsDataDirectory(server, storage, first)
  assert.equal(first.comparedWith, undefined)

  await t.test('nothing changed', async () => {
    const second = await backUp(server, storage)
    await assertEqualsDataDirectory(server, storage, second)
    assert.equal(second.comparedWith, first.id)
    assert.ok(second.statistics.pagesStored < 20, `${second.statistics.pagesStored} pages stored`)
    assert.ok(second.statistics.bytesStored < 100_000, `${second.statistics.bytesStored} bytes`)
  })

  await t.test('rows updated, deleted, a table truncated, one rewritten', async () => {
    await server.sql('UPDATE t SET x = $$y$$ WHERE id % 5000 = 0')
    await server.sql('DELETE FROM t WHERE id > 49000')
    await server.sql('CREATE TABLE u AS SELECT * FROM t')
    await server.sql('VACUUM FULL u')
    await server.sql('TRUNCATE u')
    await server.sql('CHECKPOINT')
    const third = await backUp(server, storage)
    await assertEqualsDataDirectory(server, storage, third)
    const full = await backUp(server, storage, { full: true })
    await assertEqualsDataDirectory(server, storage, full)
    assert.equal(full.statistics.filesUnchangedByStatus, 0)
    assert.equal((await listBackups(storage, 'main')).backups.length, 4)
  })
})

test('an aborted backup leaves no record, no pack and no hold', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  const abort = new AbortController()
  const progress = atPhase('reading data files', () => abort.abort())
  const options = backupOptions(server, storage)
  await assert.rejects(takeBackup(options, progress, abort.signal), { name: 'AbortError' })
  assert.equal((await listBackups(storage, 'main')).backups.length, 0)
  assert.equal((await listPacks(storage, 'main')).size, 0)
  for await (const { key } of storage.list('clusters/main/holds/')) assert.fail(key)
})

test('without archiving a backup is refused, with the line to set', async () => {
  await using server = await startPostgres({ settings: { archive_mode: 'off' } })
  const storage = await newRepository()
  const wanted = "/usr/bin/tidemark wal push '%p'"
  await assert.rejects(
    backUp(server, storage, { archiveCheck: true, archiveCommand: wanted }),
    (error) => {
      assert.ok(isFailure(error, 'TM1311'))
      assert.match(error.because ?? '', /archive_mode is 'off'/)
      assert.match(error.fix, /archive_command = '\/usr\/bin\/tidemark wal push ''%p'''/)
      return true
    },
  )
})
