/** Sync and heal over objects in memory: every kind of damage on either side. */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { isFailure } from '../../src/base/failure.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { ownHistory, ownSegments } from '../../src/sync/plan-sync.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openCountingStorage } from '../../src/storage/counting-storage.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { openSealedStorage } from '../../src/storage/sealed-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { toOldKey, toOldObject } from '../harness/old-wal-object.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { testSealing } from '../harness/sealing.ts'
import {
  assertEqual,
  holdsOf,
  newObjects,
  rebuildAll,
  sharedObjects,
  syncObjects,
  syncStorages,
} from './sync-repositories.ts'
import {
  CLUSTER,
  makeRepository,
  type Objects,
  type SmallRepository,
  verifyObjects,
} from './verify-repository.ts'

let whole: SmallRepository

before(async () => {
  whole = await makeRepository()
})

const copyOf = (objects: Objects): Objects => new Map(objects)

async function syncedPair(): Promise<{ source: Objects; target: Objects }> {
  const source = copyOf(whole.objects)
  const target = await newObjects()
  await syncObjects(source, target)
  return { source, target }
}

test('an empty repository gets everything, and is whole by itself', async () => {
  const source = copyOf(whole.objects)
  const target = await newObjects()
  const planned = await syncObjects(source, target, { dryRun: true })
  assert.equal(target.size, 1, 'a dry run writes nothing')
  const report = await syncObjects(source, target)
  assert.deepEqual(report.problems, [])
  assert.deepEqual([...report.counts.backups].sort(), whole.backups.map(({ id }) => id).sort())
  assert.deepEqual(planned.counts.backups, report.counts.backups)
  // One that comes before the record whose copy it holds is completed later.
  assert.ok(planned.counts.packs > 0 && report.counts.packs >= planned.counts.packs)
  assert.equal(planned.counts.segments, report.counts.segments)
  assertEqual(source, target)
  assert.deepEqual(holdsOf(source), [])
  assert.deepEqual(holdsOf(target), [])
  assert.equal((await rebuildAll(target)).length, 2)
  assert.deepEqual((await verifyObjects(target)).findings, [])
})

test('what is named by the hash of before keeps its name, and comes over once', async () => {
  const source: Objects = new Map()
  for (const [key, bytes] of whole.objects) {
    const isWal = Buffer.from(bytes.subarray(0, 8)).toString() === 'TMWAL002'
    const isNamed = isWal && /-[0-9a-f]{16}$/.test(key)
    source.set(isNamed ? toOldKey(key, bytes) : key, isWal ? toOldObject(bytes) : bytes)
  }
  const target = await newObjects()
  assert.deepEqual((await syncObjects(source, target)).problems, [])
  assertEqual(source, target)
  const again = await syncObjects(source, target)
  assert.deepEqual([again.problems, again.counts.others, again.counts.segments], [[], 0, 0])
  assert.deepEqual((await verifyObjects(target)).findings, [])
})

test('a second sync reads no pack and no segment, and writes its holds alone', async () => {
  const { source, target } = await syncedPair()
  const [from, to] = [source, target].map((one) => openCountingStorage(openMemoryStorage(one)))
  assert.ok(from !== undefined && to !== undefined)
  const report = await syncStorages(from, to)
  assert.deepEqual(report.counts, { backups: [], packs: 0, segments: 0, others: 0, bytes: 0 })
  assert.equal(to.counts.calls.get('write'), 1)
  assert.equal(to.counts.calls.get('openWriter'), undefined)
  assert.equal(from.counts.calls.get('readRange'), undefined)
})

test('only what is missing is brought', async () => {
  const { source, target } = await syncedPair()
  const [first, second] = whole.backups
  const before = new Set(first?.packs.map(({ id }) => id))
  target.delete(backupKey(CLUSTER, second?.id ?? ''))
  const own = second?.packs.filter(({ id }) => !before.has(id)) ?? []
  for (const { id } of own) {
    target.delete(`clusters/main/packs/${id.slice(0, 24)}/${id.slice(24)}.pack`)
  }
  const report = await syncObjects(source, target)
  assert.deepEqual(report.counts.backups, [second?.id])
  assert.equal(report.counts.packs, own.length)
  assert.equal(report.counts.segments, 0)
  assertEqual(source, target)
})

test('a plain repository is encrypted by a sync into a new one, and back', async () => {
  const source = copyOf(whole.objects)
  const target: Objects = new Map()
  const sealed = openSealedStorage(openMemoryStorage(target), testSealing())
  await createRepository(openMemoryStorage(target), new Date(), true)
  const report = await syncStorages(openMemoryStorage(source), sealed)
  assert.deepEqual(report.problems, [])
  for (const [key, bytes] of sharedObjects(source)) {
    const plain = Buffer.from(bytes, 'base64')
    assert.ok(plain.equals((await sealed.read(key)) ?? new Uint8Array()), key)
    assert.ok(!plain.equals(target.get(key) ?? plain), `${key} is not sealed`)
  }
  const again = await syncStorages(openMemoryStorage(source), sealed)
  assert.deepEqual(again.counts, { backups: [], packs: 0, segments: 0, others: 0, bytes: 0 })
  for (const key of sharedObjects(target).keys()) {
    for (const how of ['flip', 'cut'] as const) {
      spoil(target, key, how)
      const healing = await syncStorages(openMemoryStorage(source), sealed, { heal: true })
      assert.deepEqual(healing.problems, [], `${key} ${how}`)
      const plain = Buffer.from((await sealed.read(key)) ?? [])
      assert.ok(plain.equals(source.get(key) as Uint8Array), `${key} ${how}`)
    }
  }
  const back = await newObjects()
  await syncStorages(sealed, openMemoryStorage(back))
  assertEqual(source, back)
})

test('the same on file systems: brought, damaged, healed', async () => {
  const source = copyOf(whole.objects)
  const [from, to] = await Promise.all([openPosix(), openPosix()])
  await from.write('tidemark.repository', source.get('tidemark.repository') as Uint8Array)
  for (const [key, bytes] of source) await from.write(key, bytes)
  await createRepository(to, new Date())
  const report = await syncStorages(from, to)
  assert.deepEqual(report.problems, [])
  const keys = [...sharedObjects(source).keys()]
  for (const key of keys) {
    assert.deepEqual(await to.read(key), await from.read(key), key)
    const bytes = Buffer.from((await to.read(key)) as Uint8Array)
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 0x10
    await to.write(key, bytes)
  }
  const healing = await syncStorages(from, to, { heal: true })
  assert.deepEqual(healing.problems, [])
  assert.deepEqual(healing.healed.map(({ key }) => key).sort(), keys.sort())
  for (const key of keys) assert.deepEqual(await to.read(key), await from.read(key), key)
})

async function openPosix(): Promise<Storage> {
  return await openStorage({ url: `file://${temporaryDirectory()}` })
}

test('where objects are locked, all packs that a brought record names are, each once', async () => {
  const source = copyOf(whole.objects)
  const target = openMemoryStorage(await newObjects())
  const asked: string[] = []
  const locks = {
    days: 30,
    lockedUntil: async () => undefined,
    extend: async (key: string) => void asked.push(key),
    prove: async () => undefined,
  }
  Object.assign(target, { locks })
  const report = await syncStorages(openMemoryStorage(source), target)
  assert.deepEqual(report.problems, [])
  const packs = [...source.keys()].filter((key) => key.endsWith('.pack')).sort()
  assert.deepEqual(asked.filter((key) => key.endsWith('.pack')).sort(), packs)
})

test('what a record names is made durable before the record is created', async () => {
  const target = openMemoryStorage(await newObjects())
  const steps: string[] = []
  const { confirmDurable, write } = target
  Object.assign(target, {
    confirmDurable: async (keys: readonly string[]) => {
      steps.push(...keys)
      await confirmDurable.call(target, keys)
    },
    write: async (...args: Parameters<typeof write>) => {
      steps.push(`write ${args[0]}`)
      await write.apply(target, args)
    },
  })
  await syncStorages(openMemoryStorage(copyOf(whole.objects)), target)
  for (const record of whole.backups) {
    const created = steps.indexOf(`write ${backupKey(record.cluster, record.id)}`)
    assert.ok(created >= 0)
    const confirmed = new Set(steps.slice(0, created))
    const needed = record.packs.map(({ id }) => packKey(record.cluster, id))
    needed.push(...ownSegments(record), ownHistory(record))
    const forgotten = needed.filter((key) => !confirmed.has(key))
    assert.deepEqual(forgotten, [])
  }
})

test('two names of one repository are refused', async () => {
  const source = copyOf(whole.objects)
  await assert.rejects(syncObjects(source, source), (error) => isFailure(error, 'TM1930'))
  await assert.rejects(syncObjects(source, copyOf(source)), (error) => isFailure(error, 'TM1930'))
})

/** In its middle, but for the first and last bytes that zstd does not cover. */
function spoil(objects: Objects, key: string, how: 'flip' | 'cut'): void {
  const bytes = Buffer.from(objects.get(key) as Uint8Array)
  const at = Math.floor(bytes.length / 2)
  bytes[at] = (bytes[at] as number) ^ 0x10
  objects.set(key, how === 'flip' ? bytes : bytes.subarray(0, at))
}

test('an object that is damaged in the source is named and does not travel', async () => {
  for (const key of sharedObjects(whole.objects).keys()) {
    for (const how of ['flip', 'cut'] as const) {
      const source = copyOf(whole.objects)
      const target = await newObjects()
      spoil(source, key, how)
      const report = await syncObjects(source, target)
      const isIdentity = key.includes('/systems/')
      assert.ok(isIdentity || report.problems.some((one) => one.key === key), `${key} ${how}`)
      assert.notDeepEqual(target.get(key), source.get(key), `${key} has travelled`)
      const ids = await rebuildAll(target)
      const kept = new Set(report.keptBack.map(({ backupId }) => backupId))
      for (const { id } of whole.backups) {
        const isDamaged = key === backupKey(CLUSTER, id)
        assert.ok(ids.includes(id) || kept.has(id) || isDamaged, `${key}: ${id} is not told of`)
      }
      // WAL that did not travel is missing, and that is found.
      const findings = (await verifyObjects(target)).findings.filter((one) => one.key !== key)
      assert.deepEqual(findings, [], `${key} ${how}`)
      assert.deepEqual(holdsOf(target), [])
    }
  }
})

test('an object that is damaged in the target is healed from the source', async () => {
  const { source, target: good } = await syncedPair()
  let healed = 0
  for (const key of sharedObjects(good).keys()) {
    for (const how of ['flip', 'cut'] as const) {
      const target = copyOf(good)
      spoil(target, key, how)
      const report = await syncObjects(source, target, { heal: true })
      assert.deepEqual(report.problems, [], `${key} ${how}`)
      assertEqual(source, target)
      assert.deepEqual((await verifyObjects(target)).findings, [], `${key} ${how}`)
      if (report.healed.some((one) => one.key === key)) healed++
    }
  }
  assert.equal(healed, 2 * sharedObjects(good).size)
})

test('an object that is missing in the target comes back without reading the rest', async () => {
  const { source, target: good } = await syncedPair()
  for (const key of sharedObjects(good).keys()) {
    const target = copyOf(good)
    target.delete(key)
    const report = await syncObjects(source, target)
    assert.deepEqual(report.problems, [], key)
    assertEqual(source, target)
  }
})

test('--object mends what is named and nothing else', async () => {
  const { source, target: good } = await syncedPair()
  // What was flushed of the last segment is brought by a whole sync only.
  const keys = [...sharedObjects(good).keys()].filter((key) => !key.includes('/tails/'))
  for (const key of keys) {
    const target = copyOf(good)
    spoil(target, key, 'flip')
    // Of no backup's own WAL.
    const other = keys.find((one) => one !== key && /\/00000002\/.*\.wal$/.test(one))
    if (other === undefined) continue
    target.delete(other)
    const report = await syncObjects(source, target, { objects: [key] })
    assert.deepEqual(report.problems, [], key)
    assert.equal(target.has(other), false)
    target.set(other, good.get(other) as Uint8Array)
    assertEqual(source, target)
  }
})
