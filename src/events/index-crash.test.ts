/** Writers of event indexes with a crash, and with an error, at every call to the storage. */
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type FaultyStorage,
  forEachCrashPoint,
  openFaultyStorage,
} from '../../test/harness/faulty-storage.ts'
import { makeWaitingDirectory, waitingSegment } from '../../test/harness/waiting-directory.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { findWalFile } from '../archive/fetch-wal.ts'
import { segmentKey } from '../archive/wal-file-name.ts'
import { encodeWalObject } from '../archive/wal-object.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { eventsKey } from './index-keys.ts'
import { indexNoted } from './index-noted.ts'
import { indexTodoOf, listNoted, noteForIndex } from './index-todo.ts'
import { indexWal, listIndexes } from './index-wal.ts'
import { proveIndex } from './store-index.ts'

const ID = SYSTEM.toString()
const ARCHIVE = { cluster: 'main', systemIdentifier: ID }
const SEGMENTS = [1n, 2n].map((number) => waitingSegment(number))
const NAMES = SEGMENTS.map(({ name }) => name)

async function prepare(): Promise<Storage> {
  const storage = openMemoryStorage()
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  for (const { name, content } of SEGMENTS) {
    const object = { systemIdentifier: ID, name, headerTimeline: 1, content }
    await storage.write(segmentKey('main', ID, name), encodeWalObject(object))
  }
  return storage
}

const computeMissing = async (storage: Storage) =>
  await indexWal({ ...ARCHIVE, storages: [storage], walSegmentSizeBytes: MB })

/** Every segment as it was, and no index that is not whole. */
async function requireSound(storage: Storage): Promise<number> {
  for (const { name, content } of SEGMENTS) {
    const found = await findWalFile({ ...ARCHIVE, storages: [storage], name })
    assert.deepEqual(found?.content, content)
  }
  const names = await listIndexes(storage, ARCHIVE)
  for (const name of names) {
    const key = eventsKey('main', ID, name)
    proveIndex(key, name, ARCHIVE, (await storage.read(key)) as Uint8Array)
  }
  return names.size
}

/** The names are noted in a directory of a server; what a killed process leaves is looked at. */
async function indexPushed(storage: Storage): Promise<void> {
  const { data, path } = makeWaitingDirectory()
  mkdirSync(join(data, 'tidemark.acks'))
  for (const { name, content } of SEGMENTS) writeFileSync(path(name), content)
  const todo = indexTodoOf(data)
  await noteForIndex(todo, NAMES)
  const outcome = await indexNoted({
    dataDirectory: data,
    cluster: 'main',
    open: async () => [storage],
  })
  assert.equal(outcome, 'done')
  assert.deepEqual(await listNoted(todo), [])
}

for (const [who, run, least] of [
  ['the process behind wal push', indexPushed, 0],
  ['wal index', computeMissing, 2],
] as const) {
  test(`${who}: after a crash an index is whole or absent, and can be computed`, async () => {
    const crashes = await forEachCrashPoint({
      prepare,
      run,
      crashAt: ({ operation }) => operation === 'write' || least === 0,
      check: async (storage, { when }) => {
        const left = await requireSound(storage)
        if (when === 'never') return assert.equal(left, 2)
        assert.equal((await computeMissing(storage)).built, 2 - left)
        assert.equal(await requireSound(storage), 2)
      },
    })
    assert.ok(crashes >= 4, String(crashes))
  })
}

test('every refused call: the other segment gets its index, and the archive stays', async () => {
  for (const kind of ['refused', 'full'] as const) {
    for (let at = 1; ; at++) {
      const inner = await prepare()
      const storage: FaultyStorage = openFaultyStorage(inner, [{ at, kind }])
      await indexPushed(storage)
      if (storage.trace.length < at) break
      assert.ok((await requireSound(inner)) >= 1, `call ${at}`)
    }
  }
})
