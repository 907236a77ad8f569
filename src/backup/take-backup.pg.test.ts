import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { serverUser } from '../../test/harness/server-user.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { now } from '../base/clock.ts'
import { isFailure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import type { BackupRecord, FileEntry, PagesEntry } from '../repository/backup-record.ts'
import { makePackCache, readFileList } from '../repository/file-list.ts'
import { PAGE_BYTES } from '../repository/pack-format.ts'
import { pageLocations } from '../repository/page-map.ts'
import { listBackups } from '../repository/read-backups.ts'
import { makeLeafReader } from '../repository/read-leaves.ts'
import { createRepository } from '../repository/repository.ts'
import { listPacks } from '../repository/write-backup.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { TakeBackupOptions } from './backup-context.ts'
import { takeBackup } from './take-backup.ts'

async function newRepository(): Promise<Storage> {
  const directory = temporaryDirectory(serverUser())
  const storage = await openStorage({ url: `file://${directory}` })
  await createRepository(storage, now())
  return storage
}

async function backUp(
  server: PostgresServer,
  storage: Storage,
  extra: Partial<TakeBackupOptions> = {},
): Promise<BackupRecord> {
  const options = {
    storage,
    cluster: 'main',
    connection: server.url(),
    workers: 2,
    archiveCheck: false,
    archiveCommand: 'tidemark wal push %p',
    tidemarkVersion: 'test',
    ...extra,
  }
  const { record } = await takeBackup(options, SILENT, new AbortController().signal)
  return record
}

async function readEntries(storage: Storage, record: BackupRecord): Promise<FileEntry[]> {
  const entries: FileEntry[] = []
  for await (const entry of readFileList(storage, record)) entries.push(entry)
  return entries
}

/** Rebuilds the bytes of an entry with nothing but the format's readers. */
async function rebuild(storage: Storage, record: BackupRecord, entry: PagesEntry): Promise<Buffer> {
  const out = Buffer.alloc(entry.size)
  const pack = makePackCache(storage, record.cluster, 'a test')
  const leaves = makeLeafReader(storage, record.cluster, 'a test')
  let page = 0
  for (const reference of entry.leaves) {
    for (const location of pageLocations(await leaves.read(reference))) {
      if (location !== undefined) {
        const frame = await (await pack(location.pack)).readFrame(location.frame)
        const at = location.slot * PAGE_BYTES
        out.set(frame.subarray(at, at + PAGE_BYTES), page * PAGE_BYTES)
      }
      page++
    }
  }
  return out
}

/** On a server at rest the backup holds its relation files to the byte. */
async function assertEqualsDataDirectory(
  server: PostgresServer,
  storage: Storage,
  record: BackupRecord,
): Promise<void> {
  let compared = 0
  for (const entry of await readEntries(storage, record)) {
    if (entry.kind !== 'pages') continue
    const live = readFileSync(join(server.dataDirectory, entry.path))
    assert.ok((await rebuild(storage, record, entry)).equals(live), `${entry.path} differs`)
    compared++
  }
  assert.ok(compared > 500, `${compared} relation files compared`)
}

const AT_REST = { autovacuum: 'off', archive_mode: 'on', archive_command: 'false' }

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
  const progress = {
    ...SILENT,
    phase(name: string) {
      if (name === 'reading data files') abort.abort()
    },
  }
  const options = {
    storage,
    cluster: 'main',
    connection: server.url(),
    workers: 2,
    archiveCheck: false,
    archiveCommand: '',
    tidemarkVersion: 'test',
  }
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
