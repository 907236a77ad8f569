import assert from 'node:assert/strict'
import { test } from 'node:test'
import { collect, openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { handMadeDumpRecord, putDump } from '../../test/harness/hand-made-dump.ts'
import { now } from '../base/clock.ts'
import { SILENT } from '../base/progress.ts'
import { writeCondemnedSet } from '../repository/condemned-sets.ts'
import { dumpKey, holdPrefix } from '../repository/keys.ts'
import { listDumps } from '../repository/read-dumps.ts'
import { createRepository } from '../repository/repository.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { expireDumps } from './expire-dumps.ts'
import { holdForLoad } from './hold-for-load.ts'

const RECORDS = [handMadeDumpRecord(0), handMadeDumpRecord(1)]
const [OLD = handMadeDumpRecord(0)] = RECORDS

async function openWithDumps(): Promise<Storage> {
  const storage = openMemoryStorage()
  await createRepository(storage, now())
  for (const record of RECORDS) await putDump(storage, record)
  return storage
}

async function expireAll(storage: Storage): Promise<number> {
  const { signal } = new AbortController()
  const policy = { keepLast: 1, keepDays: 0 }
  await expireDumps({ storage, cluster: 'main', policy, apply: true, progress: SILENT, signal })
  return (await listDumps(storage, 'main')).dumps.length
}

test('a dump that is being loaded does not expire, and does when it was loaded', async () => {
  const storage = await openWithDumps()
  const { notes, release } = await holdForLoad(storage, OLD)
  assert.deepEqual(notes, [])
  assert.equal(await expireAll(storage), 2)
  await release()
  assert.equal(await expireAll(storage), 1)
  assert.deepEqual(await collect(storage.list(holdPrefix('main'))), [])
  await assert.rejects(holdForLoad(storage, OLD), { code: 'TM1602' })
  assert.deepEqual(await collect(storage.list(holdPrefix('main'))), [])
})

test('what is being removed, and what cannot be held, is said and no refusal', async () => {
  const storage = await openWithDumps()
  const set = {
    id: 'a'.repeat(16),
    host: 'far',
    writer: 'x',
    startedAt: '',
    backups: [],
    packs: [],
  }
  await writeCondemnedSet(storage, 'main', { ...set, keys: [dumpKey('main', OLD.id)] })
  assert.match((await holdForLoad(storage, OLD)).notes.join(), /an expiry is removing dump/)
  const full = openFaultyStorage(await openWithDumps(), [{ at: 1, kind: 'full' }])
  const { notes, release } = await holdForLoad(full, OLD)
  assert.match(notes.join(), /holds nothing in the repository/)
  await release()
})
