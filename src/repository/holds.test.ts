import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import {
  type CondemnedSet,
  listCondemnedSets,
  removeCondemnedSet,
  writeCondemnedSet,
} from './condemned-sets.ts'
import { encodeEnvelope } from './envelope.ts'
import {
  type Hold,
  isDeadWriter,
  listHolds,
  readHolder,
  removeDeadAttempt,
  replaceHold,
  takeHold,
} from './holds.ts'
import { backupKey, holdKey, isBackupId, makeBackupId, packKey } from './keys.ts'

const ID = '20261121-120000-abcd'
const BASE = '20261120-120000-base'
const PACK = 'c'.repeat(32)

function makeHold(fields: Partial<Hold> = {}): Hold {
  return { id: ID, purpose: 'restore', ...readHolder(), startedAt: 'now', needs: [BASE], ...fields }
}

function makeSet(fields: Partial<CondemnedSet> = {}): CondemnedSet {
  const nobody = { id: 'a'.repeat(16), host: 'far', writer: 'x', startedAt: 'now' }
  return { ...nobody, backups: [], packs: [], keys: [], ...fields }
}

async function openWithBase(): Promise<Storage> {
  const storage = openMemoryStorage()
  await storage.write(backupKey('main', BASE), Buffer.from('a record'))
  return storage
}

test('a hold comes back as it was written', async () => {
  const storage = await openWithBase()
  const wal = { systemIdentifier: '7', first: '000000010000000000000003' }
  const hold = makeHold({ wal, keys: ['clusters/main/x'] })
  await takeHold(storage, 'main', hold)
  const { holds, unreadable } = await listHolds(storage, 'main')
  assert.deepEqual(holds, [{ ...hold }])
  assert.deepEqual(unreadable, [])
})

test('what a hold needs is lost when it is gone or condemned', async () => {
  const storage = await openWithBase()
  assert.deepEqual((await takeHold(storage, 'main', makeHold())).lost, [])
  await writeCondemnedSet(storage, 'main', makeSet({ backups: [BASE], packs: [PACK] }))
  const { lost, condemned } = await replaceHold(storage, 'main', makeHold())
  assert.deepEqual(lost, [BASE])
  assert.ok(condemned.hasPack(PACK) && condemned.hasKey(packKey('main', PACK)))
  assert.ok(condemned.hasKey(backupKey('main', BASE)))
  assert.ok(!condemned.hasPack('d'.repeat(32)) && !condemned.hasBackup(ID))
  await removeCondemnedSet(storage, 'main', 'a'.repeat(16))
  assert.deepEqual((await replaceHold(storage, 'main', makeHold())).lost, [])
  await storage.remove(backupKey('main', BASE))
  assert.deepEqual((await replaceHold(storage, 'main', makeHold())).lost, [BASE])
})

test('a condemned set that cannot be read condemns everything', async () => {
  for (const bytes of [Buffer.from('torn'), encodeSet({ format: 2 }), encodeSet({ id: '0' })]) {
    const storage = await openWithBase()
    const key = `clusters/main/condemned/${'a'.repeat(16)}.set`
    await storage.write(key, bytes)
    assert.deepEqual((await listCondemnedSets(storage, 'main')).unreadable, [key])
    const { condemned, lost } = await takeHold(storage, 'main', makeHold())
    assert.deepEqual(lost, [BASE])
    assert.ok(condemned.hasPack(PACK) && condemned.hasKey('clusters/main/x'))
  }
})

function encodeSet(fields: object): Uint8Array {
  const set = { format: 1, ...makeSet(), ...fields }
  return encodeEnvelope('COND', Buffer.from(JSON.stringify(set)))
}

test('a hold that cannot be read is told by its key', async () => {
  const stored = { format: 1, ...makeHold() }
  const broken = [
    { ...stored, format: 2 },
    { ...stored, purpose: 'dance' },
    { ...stored, id: BASE },
  ]
  const backups = [{ ...stored, purpose: 'backup' }]
  for (const content of [...broken, ...backups]) {
    const storage = openMemoryStorage()
    const raw = Buffer.from(JSON.stringify(content))
    await storage.write(holdKey('main', ID), encodeEnvelope('HOLD', raw))
    const { holds, unreadable } = await listHolds(storage, 'main')
    assert.deepEqual(holds, [])
    assert.deepEqual(unreadable, [holdKey('main', ID)])
  }
})

test('a look that fails leaves no hold', async () => {
  const storage = await openWithBase()
  const size = storage.size.bind(storage)
  storage.size = async () => {
    throw new Error('down')
  }
  await assert.rejects(takeHold(storage, 'main', makeHold()), /down/)
  assert.equal(await size(holdKey('main', ID)), undefined)
})

test('the death of a writer is proved or not known', () => {
  const { writer } = readHolder()
  assert.equal(isDeadWriter({ writer }), false)
  assert.equal(isDeadWriter({ writer: writer.replace(/\d+$/, '1') }), true)
  assert.equal(isDeadWriter({ writer: writer.replace(/^.{16}/, '0'.repeat(16)) }), false)
  assert.equal(isDeadWriter({ writer: 'nobody' }), false)
})

test('a dead restore leaves no hold, and its needs stay', async () => {
  const storage = await openWithBase()
  await storage.write(packKey('main', PACK), Buffer.from('a pack'))
  const { hold } = await takeHold(storage, 'main', makeHold())
  assert.equal(await removeDeadAttempt(storage, 'main', hold), 0)
  assert.equal(await storage.size(holdKey('main', ID)), undefined)
  assert.notEqual(await storage.size(packKey('main', PACK)), undefined)
  assert.notEqual(await storage.size(backupKey('main', BASE)), undefined)
})

test('ids of backups and holds have one form', () => {
  const id = makeBackupId(new Date('2026-11-21T12:34:56Z'))
  assert.ok(isBackupId(id) && id.startsWith('20261121-123456-'))
})
