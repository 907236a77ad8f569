import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupRecord } from './backup-record.ts'
import { removeCondemnedSet, writeCondemnedSet } from './condemned-sets.ts'
import { backupKey, dumpKey, labelsKey, pinKey } from './keys.ts'
import {
  applyDumpMarks,
  applyMarks,
  labelBackup,
  labelDump,
  pinBackup,
  pinDump,
  readDumpMarks,
  readMarks,
  unpinBackup,
  unpinDump,
} from './marks.ts'

const ID = '20261121-120000-abcd'

function recordOf(pinned: boolean): BackupRecord {
  return { id: ID, cluster: 'main', pinned, labels: { why: 'first', by: 'me' } } as never
}

async function openWithBackup(): Promise<Storage> {
  const storage = openMemoryStorage()
  await storage.write(backupKey('main', ID), Buffer.from('a record'))
  return storage
}

async function read(storage: Storage, record: BackupRecord): Promise<BackupRecord> {
  return applyMarks(record, await readMarks(storage, 'main'))
}

test('a pin counts instead of that of the record', async () => {
  for (const pinned of [false, true]) {
    const storage = await openWithBackup()
    const record = recordOf(pinned)
    assert.equal((await read(storage, record)).pinned, pinned)
    await pinBackup(storage, record)
    assert.equal((await read(storage, record)).pinned, true)
    await unpinBackup(storage, record)
    assert.equal((await read(storage, record)).pinned, false)
  }
})

test('a pin that cannot be read pins', async () => {
  const storage = await openWithBackup()
  await storage.write(pinKey('main', ID), Buffer.from('torn'))
  assert.equal((await read(storage, recordOf(false))).pinned, true)
  assert.deepEqual((await readMarks(storage, 'main')).unreadable, [pinKey('main', ID)])
})

test('a backup that expires cannot be pinned', async () => {
  const storage = await openWithBackup()
  const nobody = { id: 'a'.repeat(16), host: 'far', writer: 'x', startedAt: '' }
  await writeCondemnedSet(storage, 'main', { ...nobody, backups: [ID], packs: [], keys: [] })
  await assert.rejects(pinBackup(storage, recordOf(false)), { code: 'TM1904' })
  await removeCondemnedSet(storage, 'main', nobody.id)
  await pinBackup(storage, recordOf(false))
  await storage.remove(backupKey('main', ID))
  await assert.rejects(pinBackup(storage, recordOf(false)), { code: 'TM1904' })
  assert.equal(await storage.size(pinKey('main', ID)), undefined)
})

test('labels are laid over those of the record, and taken away', async () => {
  const storage = await openWithBackup()
  const record = recordOf(false)
  await labelBackup(storage, record, { why: 'second', more: 'x' })
  assert.deepEqual((await read(storage, record)).labels, { why: 'second', by: 'me', more: 'x' })
  await labelBackup(storage, record, { by: null, more: null })
  assert.deepEqual((await read(storage, record)).labels, { why: 'second' })
  await storage.write(labelsKey('main', ID), Buffer.from('torn'))
  assert.deepEqual((await read(storage, record)).labels, record.labels)
})

test('marks of dumps lie apart from those of backups', async () => {
  const storage = await openWithBackup()
  const dump = { id: '20261121-130000-dump', cluster: 'main', labels: { why: 'first' } } as never
  await assert.rejects(pinDump(storage, dump), { code: 'TM1904' })
  await storage.write(dumpKey('main', '20261121-130000-dump'), Buffer.from('a record'))
  await pinDump(storage, dump)
  await labelDump(storage, dump, { why: null, by: 'me' })
  const { record, isPinned } = applyDumpMarks(dump, await readDumpMarks(storage, 'main'))
  assert.deepEqual([record.labels, isPinned], [{ by: 'me' }, true])
  assert.deepEqual((await readMarks(storage, 'main')).keys, [])
  await unpinDump(storage, dump)
  assert.equal(applyDumpMarks(dump, await readDumpMarks(storage, 'main')).isPinned, false)
  const set = {
    id: 'a'.repeat(16),
    host: 'far',
    writer: 'x',
    startedAt: '',
    backups: [],
    packs: [],
  }
  await writeCondemnedSet(storage, 'main', { ...set, keys: [dumpKey('main', record.id)] })
  await assert.rejects(pinDump(storage, dump), { code: 'TM1904' })
})
