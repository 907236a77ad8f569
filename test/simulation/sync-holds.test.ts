/** What a sync does beside holds and condemned sets that it finds. */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { isFailure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import { cleanUpDeadHolds } from '../../src/repository/clean-up.ts'
import { writeCondemnedSet } from '../../src/repository/condemned-sets.ts'
import { type Hold, readHolder, writeHold } from '../../src/repository/holds.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { rewriteObjects } from '../../src/repository/rewrite-objects.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { openSealedStorage } from '../../src/storage/sealed-storage.ts'
import { openFaultyStorage } from '../harness/faulty-storage.ts'
import { testDataKey, testSealing } from '../harness/sealing.ts'
import {
  assertEqual,
  holdsOf,
  newObjects,
  rebuildAll,
  syncObjects,
  syncStorages,
} from './sync-repositories.ts'
import { CLUSTER, makeRepository, type Objects, type SmallRepository } from './verify-repository.ts'

let whole: SmallRepository

before(async () => {
  whole = await makeRepository()
})

const OTHER = '20260101-000000-abcd'

function makeHold(more: Partial<Hold>): Hold {
  const holder = readHolder()
  return { id: OTHER, purpose: 'sync', ...holder, startedAt: '', needs: [], ...more }
}

async function addHold(objects: Objects, more: Partial<Hold>): Promise<void> {
  await writeHold(openMemoryStorage(objects), CLUSTER, makeHold(more))
}

test('another sync into the target is respected while it lives, a dead one is not', async () => {
  const target = await newObjects()
  const { writer } = readHolder()
  await addHold(target, {})
  await assert.rejects(syncObjects(whole.objects, target), (error) => isFailure(error, 'TM1932'))
  assert.deepEqual(holdsOf(target), [`clusters/main/holds/${OTHER}.hold`])
  target.delete(`clusters/main/holds/${OTHER}.hold`)
  await addHold(target, { writer: writer.replace(/\d+$/, '1') })
  const { notes } = await syncObjects(whole.objects, target)
  assert.match(notes.join(), /removed the hold .* of an interrupted sync/)
  assert.deepEqual(holdsOf(target), [])
  assertEqual(whole.objects, target)
})

test('a backup that is being written to the target is left to its writer', async () => {
  const target = await newObjects()
  const id = whole.backups[0]?.id ?? ''
  const hold = { id, purpose: 'backup', attemptId: 'a'.repeat(24) } as const
  await addHold(target, hold)
  const report = await syncObjects(whole.objects, target)
  assert.deepEqual(
    report.keptBack.map(({ backupId }) => backupId),
    [id],
  )
  assert.deepEqual(await rebuildAll(target), [whole.backups[1]?.id])
  target.delete(`clusters/main/holds/${id}.hold`)
  await syncObjects(whole.objects, target)
  assertEqual(whole.objects, target)
})

test('what another holds in order to replace it is not replaced', async () => {
  const target = await newObjects()
  await syncObjects(whole.objects, target)
  const key = packKey(CLUSTER, whole.backups[0]?.packs[0]?.id ?? '')
  const damaged = Buffer.from(target.get(key) as Uint8Array)
  damaged[100] = (damaged[100] as number) ^ 1
  for (const hold of ['of the key', 'unreadable'] as const) {
    target.set(key, damaged)
    if (hold === 'of the key') await addHold(target, { purpose: 'rewrite', keys: [key] })
    else target.set(`clusters/main/holds/${OTHER}.hold`, Buffer.from('rot'))
    const { problems, healed } = await syncObjects(whole.objects, target, { objects: [key] })
    assert.deepEqual(
      problems.map(({ code, key }) => [code, key]),
      [['TM1934', key]],
    )
    assert.deepEqual(healed, [])
    assert.equal(target.get(key), damaged)
    target.delete(`clusters/main/holds/${OTHER}.hold`)
  }
  const { healed } = await syncObjects(whole.objects, target, { objects: [key] })
  assert.deepEqual(
    healed.map(({ key, frames }) => [key, frames]),
    [[key, 1]],
  )
  assertEqual(whole.objects, target)
})

test('what an expiry has condemned counts as not there, and is not put back', async () => {
  const [first, second] = whole.backups
  const pack = first?.packs[0]?.id ?? ''
  const wal = [...whole.objects.keys()].find((key) => /\/00000002\/.*\.wal$/.test(key)) ?? ''
  const target = await newObjects()
  await syncObjects(whole.objects, target)
  for (const { id } of whole.backups) target.delete(backupKey(CLUSTER, id))
  target.delete(wal)
  const set = { id: 'a'.repeat(16), ...readHolder(), startedAt: '', backups: [], keys: [wal] }
  await writeCondemnedSet(openMemoryStorage(target), CLUSTER, { ...set, packs: [pack] })
  const report = await syncObjects(whole.objects, target)
  const named = whole.backups.filter(({ packs }) => packs.some(({ id }) => id === pack))
  assert.deepEqual(
    report.keptBack.map(({ backupId }) => backupId).sort(),
    named.map(({ id }) => id).sort(),
  )
  assert.ok(first !== undefined && second !== undefined && named.length > 0)
  assert.equal(target.has(wal), false)
  assert.ok(report.problems.every(({ code }) => code === 'TM1934' || code === 'TM1931'))
  target.delete(`clusters/main/condemned/${set.id}.set`)
  await syncObjects(whole.objects, target)
  assertEqual(whole.objects, target)
})

test('a source that may only be read is read all the same, and that is said', async () => {
  const target = await newObjects()
  const refusing = openFaultyStorage(openMemoryStorage(), [{ at: 1, kind: 'refused' }])
  const readOnly = Object.assign(openMemoryStorage(whole.objects), {
    write: async (key: string) => await refusing.write(key, new Uint8Array()),
  })
  const { notes, problems } = await syncStorages(readOnly, openMemoryStorage(target))
  assert.deepEqual(problems, [])
  assert.match(notes.join(), /a cannot be written to/)
  assertEqual(whole.objects, target)
})

test('two clean up after a dead backup, one is stopped, and it is brought again', async () => {
  const target = await newObjects()
  await syncObjects(whole.objects, target)
  const [backup] = whole.backups
  const id = backup?.id ?? ''
  const [pack = ''] = backup?.packs.map((one) => one.id) ?? []
  for (const one of whole.backups) target.delete(backupKey(CLUSTER, one.id))
  const writer = readHolder().writer.replace(/\d+$/, '1')
  await addHold(target, { id, purpose: 'backup', attemptId: pack.slice(0, 24), writer })
  const stopped = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  const slow = openMemoryStorage(target)
  const { remove } = slow
  slow.remove = async (key) => {
    if (key === packKey(CLUSTER, pack)) {
      stopped.resolve()
      await goOn.promise
    }
    await remove.call(slow, key)
  }
  const slowly = cleanUpDeadHolds(slow, CLUSTER)
  await stopped.promise
  await cleanUpDeadHolds(openMemoryStorage(target), CLUSTER)
  const { keptBack } = await syncObjects(whole.objects, target)
  assert.ok(keptBack.some(({ backupId }) => backupId === id))
  goOn.resolve()
  await slowly
  await rebuildAll(target)
  const again = await syncObjects(whole.objects, target)
  assert.deepEqual(again.problems, [])
  assertEqual(whole.objects, target)
})

test('a rewrite after a key rotation leaves what a sync holds', async () => {
  const target: Objects = new Map()
  const old = testSealing()
  await createRepository(openMemoryStorage(target), new Date(), true)
  await syncStorages(
    openMemoryStorage(whole.objects),
    openSealedStorage(openMemoryStorage(target), old),
  )
  const keys = [...old.keys, testDataKey('new', 2)]
  const rotated = openSealedStorage(openMemoryStorage(target), { ...old, keys })
  const held = packKey(CLUSTER, whole.backups[0]?.packs[0]?.id ?? '')
  await writeHold(rotated, CLUSTER, makeHold({ keys: [held] }))
  const signal = new AbortController().signal
  const before = target.get(held)
  const first = await rewriteObjects(rotated, SILENT, signal)
  assert.equal(first.left, 1)
  assert.equal(target.get(held), before)
  await rotated.remove(`clusters/main/holds/${OTHER}.hold`)
  const second = await rewriteObjects(rotated, SILENT, signal)
  assert.deepEqual([second.objects, second.left], [1, 0])
  const { problems } = await syncStorages(openMemoryStorage(whole.objects), rotated, { heal: true })
  assert.deepEqual(problems, [])
})
