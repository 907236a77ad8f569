/**
 * Backups, expiries and repacking in any order: whatever is kept rebuilds byte for byte, from
 * packs that hold no frame more than they must. And repacking that crashes at any storage call.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { TakeBackupOptions } from '../../src/backup/backup-context.ts'
import { startCopyInThread } from '../../src/backup/copy-files.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { now, sleep } from '../../src/base/clock.ts'
import { SILENT } from '../../src/base/progress.ts'
import { type VerifyReport, verify } from '../../src/recovery/verify.ts'
import { compactPack } from '../../src/repository/compact-pack.ts'
import { FRAME_KINDS } from '../../src/repository/pack-format.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { writeCondemnedSet } from '../../src/repository/condemned-sets.ts'
import { writeHold, readHolder, removeHold } from '../../src/repository/holds.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { openPack } from '../../src/repository/pack-reader.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { encodeBackupRecord, listPacks, publishBackup } from '../../src/repository/write-backup.ts'
import { prepareRepacking, repack, type RepackingReport } from '../../src/retention/repack.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { collect, damageObject, forEachCrashPoint } from '../harness/faulty-storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SimulatedCluster } from './backup-cluster.ts'
import { rebuildBackup } from './backup-rebuild.ts'

type State = ReadonlyMap<string, Buffer>

const PATHS = [
  ['base/5/16384', 64],
  ['base/5/16384.1', 20],
  ['base/5/16391', 3],
  ['global/1262', 2],
  ['pg_xact/0000', 1],
] as const
const ALSO = ['big.log', 'PG_VERSION', 'base/5/16392_init', 'global/pg_control']
const ANYTHING = { leastDeadBytes: 1, leastDeadShare: 0 }

function readState(cluster: SimulatedCluster): State {
  const paths = [...PATHS.map(([path]) => path), ...ALSO]
  return new Map(paths.map((path) => [path, readFileSync(join(cluster.directory, path))]))
}

/** Some pages of some files; others stay as they are. */
function change(cluster: SimulatedCluster, seed: number): void {
  const [path, count] = PATHS[seed % PATHS.length] as (typeof PATHS)[number]
  const bytes = readFileSync(join(cluster.directory, path))
  const first = (seed >> 3) % count
  const some = Math.min(count - first, 1 + ((seed >> 9) % count))
  bytes.set(pages(some, seed % 100_003), first * 8192)
  cluster.write(path, bytes)
}

async function backUp(
  storage: Storage,
  cluster: SimulatedCluster,
  full = false,
  more: Partial<TakeBackupOptions> = {},
): Promise<BackupRecord> {
  const options = {
    storage,
    cluster: 'main',
    connection: 'postgresql:///',
    full,
    workers: 1,
    archiveCheck: false,
    archiveCommand: '',
    tidemarkVersion: 'test',
    startCopying: startCopyInThread,
    openSession: async () => cluster.openSession(),
    ...more,
  }
  return (await takeBackup(options, SILENT, new AbortController().signal)).record
}

/** Records first, then the packs that no record names any more. */
async function expire(storage: Storage, ids: readonly string[]): Promise<void> {
  await storage.removeMany(ids.map((id) => backupKey('main', id)))
  const { backups } = await listBackups(storage, 'main')
  const named = new Set(backups.flatMap(({ packs }) => packs.map(({ id }) => id)))
  const there = [...(await listPacks(storage, 'main')).keys()]
  await storage.removeMany(there.filter((id) => !named.has(id)).map((id) => packKey('main', id)))
}

async function repackAll(
  storage: Storage,
  expired: Iterable<string>,
  rule = ANYTHING,
): Promise<RepackingReport> {
  const list = await listBackups(storage, 'main')
  const signal = new AbortController().signal
  const request = { storage, cluster: 'main', list, rule, progress: SILENT, signal }
  return await repack({ ...request, expired: new Set(expired) })
}

async function assertKept(storage: Storage, states: ReadonlyMap<string, State>): Promise<void> {
  const { backups, damaged } = await listBackups(storage, 'main')
  assert.deepEqual(damaged, [])
  assert.deepEqual(backups.map(({ id }) => id).sort(), [...states.keys()].sort())
  for (const record of backups) await assertHolds(storage, record, states.get(record.id) as State)
}

async function assertHolds(storage: Storage, record: BackupRecord, state: State): Promise<void> {
  const files = await rebuildBackup(storage, record)
  for (const [path, bytes] of state) {
    assert.ok(files.get(path)?.bytes?.equals(bytes), `${path} differs in ${record.id}`)
  }
}

/** Of the packs: findings about WAL are not what is looked for, the cluster archives none. */
async function verifyAll(storage: Storage): Promise<VerifyReport> {
  return await verify({
    storage,
    cluster: 'main',
    mode: { kind: 'full' },
    workers: 1,
    rebuildCatalogue: true,
    progress: SILENT,
    signal: new AbortController().signal,
  })
}

async function findDamage(storage: Storage): Promise<string[]> {
  const report = await verifyAll(storage)
  const ofPacks = report.findings.filter(({ key }) => !key.includes('/wal/'))
  const found = ofPacks.map(({ key, message }) => `${key}: ${message}`)
  return [...found, ...report.rebuilt.map(({ key }) => `${key} was rebuilt`)]
}

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('backup' as const),
      seeds: fc.array(fc.nat(1e6), { maxLength: 5 }),
      full: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('expire' as const),
      which: fc.array(fc.nat(9), { minLength: 1, maxLength: 3 }),
    }),
  },
)

test('whatever is backed up, expired and repacked, what is kept rebuilds', async () => {
  let dropped = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 9 }), async (steps) => {
      const cluster = new SimulatedCluster(temporaryDirectory())
      const storage = openMemoryStorage(new Map())
      await createRepository(storage, now())
      const states = new Map<string, State>()
      for (const next of steps) {
        if (next.kind === 'backup') {
          for (const seed of next.seeds) change(cluster, seed)
          states.set((await backUp(storage, cluster, next.full)).id, readState(cluster))
        } else {
          const ids = [...states.keys()].slice(0, -1)
          const gone = [...new Set(next.which.map((n) => ids[n % Math.max(1, ids.length)]))]
          const expired = gone.filter((id) => id !== undefined)
          for (const id of expired) states.delete(id)
          await expire(storage, expired)
          const { repacked, failed, lostRecords, unfinished } = await repackAll(storage, expired)
          dropped += repacked.reduce((sum, { framesDropped }) => sum + framesDropped, 0)
          assert.deepEqual(
            { failed, lostRecords, unfinished },
            { failed: [], lostRecords: [], unfinished: [] },
          )
        }
        await assertKept(storage, states)
      }
      if (states.size > 0) assert.deepEqual(await findDamage(storage), [])
    }),
    { numRuns: 25 },
  )
  assert.ok(dropped > 30, `${dropped} frames dropped`)
})

interface Scene {
  readonly objects: ReadonlyMap<string, Uint8Array>
  readonly states: ReadonlyMap<string, State>
  readonly expired: string
  readonly cluster: SimulatedCluster
}

/** Three backups, the first of which has expired; much of its packs is needed by none. */
async function makeScene(): Promise<Scene> {
  const cluster = new SimulatedCluster(temporaryDirectory())
  const objects = new Map<string, Uint8Array>()
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  const expired = (await backUp(storage, cluster)).id
  cluster.write('base/5/16384', pages(64, 77))
  cluster.write('base/5/16391', pages(3, 78))
  const states = new Map([[(await backUp(storage, cluster)).id, readState(cluster)]])
  cluster.write('global/1262', pages(2, 79))
  states.set((await backUp(storage, cluster)).id, readState(cluster))
  await expire(storage, [expired])
  return { objects, states, expired, cluster }
}

async function storedBytes(storage: Storage): Promise<number> {
  return [...(await listPacks(storage, 'main')).values()].reduce((sum, bytes) => sum + bytes, 0)
}

test('repacking that crashes at any call loses nothing, and a later run ends it', async () => {
  const scene = await makeScene()
  const whole = openMemoryStorage(new Map(scene.objects))
  await repackAll(whole, [scene.expired])
  const least = await storedBytes(whole)
  assert.ok(least < (await storedBytes(openMemoryStorage(new Map(scene.objects)))))
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(new Map(scene.objects)),
    run: async (storage) => await repackAll(storage, [scene.expired]),
    check: async (storage) => {
      await assertKept(storage, scene.states)
      await repackAll(storage, [scene.expired])
      await assertKept(storage, scene.states)
      assert.equal(await storedBytes(storage), least)
    },
  })
  assert.ok(crashes > 60, `${crashes} crashes`)
})

test('a backup goes on from a base that lies in sparse packs', async () => {
  const { objects, states, expired, cluster } = await makeScene()
  const storage = openMemoryStorage(new Map(objects))
  await repackAll(storage, [expired])
  cluster.write('pg_xact/0000', pages(1, 80))
  const record = await backUp(storage, cluster)
  assert.equal(record.statistics.pagesStored, 0)
  await assertKept(storage, new Map([...states, [record.id, readState(cluster)]]))
  assert.deepEqual(await findDamage(storage), [])
})

test('a pack that is repacked while a backup refers to it is accepted', async () => {
  const { objects, states, expired, cluster } = await makeScene()
  const storage = openMemoryStorage(new Map(objects))
  let isRepacked = false
  const { openWriter } = storage
  storage.openWriter = async (key) => {
    if (!isRepacked) {
      isRepacked = true
      const { repacked } = await repackAll(storage, [expired])
      assert.ok(repacked.length > 0)
    }
    return await openWriter.call(storage, key)
  }
  cluster.write('pg_xact/0000', pages(1, 81))
  const record = await backUp(storage, cluster)
  assert.ok(isRepacked)
  await assertKept(storage, new Map([...states, [record.id, readState(cluster)]]))
})

test('what a hold names by its key, and a hold that cannot be read, is left alone', async () => {
  const { objects, expired } = await makeScene()
  for (const how of ['key', 'unreadable'] as const) {
    const storage = openMemoryStorage(new Map(objects))
    const keys = [...(await listPacks(storage, 'main')).keys()].map((id) => packKey('main', id))
    const id = '20260102-030405-test'
    const startedAt = now().toISOString()
    await writeHold(storage, 'main', {
      id,
      purpose: 'sync',
      ...readHolder(),
      startedAt,
      needs: [],
      keys,
    })
    const [held] = await collect(storage.list('clusters/main/holds/'))
    if (how === 'unreadable')
      await damageObject(storage, held?.key ?? '', { kind: 'flip-bit', byte: 60 })
    const report = await repackAll(storage, [expired])
    assert.equal(report.repacked.length, 0)
    assert.ok(report.heldPacks > 0)
    assert.deepEqual(report.unfinished, [expired])
    await removeHold(storage, 'main', id)
    assert.ok((await repackAll(storage, [expired])).repacked.length > 0)
  }
})

test('a record that was lost, not expired, keeps all that it names', async () => {
  const { objects, states, expired } = await makeScene()
  const storage = openMemoryStorage(new Map(objects))
  const [second] = states.keys()
  const record = await storage.read(backupKey('main', second as string))
  await storage.remove(backupKey('main', second as string))
  const { lostRecords } = await repackAll(storage, [expired])
  assert.deepEqual(lostRecords, [second])
  assert.deepEqual(
    (await findDamage(storage)).filter((text) => text.includes('rebuilt')),
    [`${backupKey('main', second as string)} was rebuilt`],
  )
  assert.deepEqual(await storage.read(backupKey('main', second as string)), record)
  await assertKept(storage, states)
})

test('a map that cannot be read keeps every frame of the packs that its backup names', async () => {
  const { objects, expired } = await makeScene()
  const storage = openMemoryStorage(new Map(objects))
  const list = await listBackups(storage, 'main')
  const newest = list.backups.at(-1) as BackupRecord
  const piece = newest.files.pieces[0]
  const { key, frames } = await openPack(storage, 'main', piece?.pack as string)
  const byte = frames[piece?.frame as number]?.offset as number
  await damageObject(storage, key, { kind: 'flip-bit', byte: byte + 20 })
  const signal = new AbortController().signal
  const request = { storage, cluster: 'main', list, rule: ANYTHING, progress: SILENT, signal }
  const { plan, live } = await prepareRepacking({ ...request, expired: new Set([expired]) })
  assert.ok(live.unreadable.has(newest.id))
  const named = new Set(newest.packs.map(({ id }) => id))
  for (const { packId, isKeptWhole, deadBytes } of plan.packs) {
    if (named.has(packId))
      assert.deepEqual({ isKeptWhole, deadBytes }, { isKeptWhole: true, deadBytes: 0 })
  }
})

test('a catalogue that is rebuilt brings back no backup that expired, at any moment', async () => {
  const { objects, states, expired } = await makeScene()
  const before = openMemoryStorage(new Map(objects))
  // An expiry between the removal of the record and that of its copy in the pack.
  const set = { id: 'a'.repeat(16), ...readHolder(), startedAt: '', packs: [], keys: [] }
  await writeCondemnedSet(before, 'main', { ...set, backups: [expired] })
  assert.deepEqual(await findDamage(before), [])
  await assertKept(before, states)
  const after = openMemoryStorage(new Map(objects))
  await repackAll(after, [expired])
  assert.deepEqual(await findDamage(after), [])
  await assertKept(after, states)
  // Without the set the same copy is that of a record which somebody has lost.
  const lost = openMemoryStorage(new Map(objects))
  assert.ok((await findDamage(lost)).some((text) => text.endsWith('was rebuilt')))
  assert.equal((await listBackups(lost, 'main')).backups.length, 3)
})

test('small or hardly dead packs are not worth it, records that expired always are', async () => {
  const { objects, expired } = await makeScene()
  const storage = openMemoryStorage(new Map(objects))
  const rule = { leastDeadBytes: 1e9, leastDeadShare: 0.5 }
  const { repacked } = await repackAll(storage, [expired], rule)
  assert.equal(repacked.length, 1)
  assert.deepEqual(await findDamage(storage), [])
})

function isIn({ packs }: BackupRecord, id: string): boolean {
  return packs.some((pack) => pack.id === id)
}

/** Packs of `record` that `others` do not name. */
function ownPacks(record: BackupRecord, ...others: BackupRecord[]): string[] {
  const named = new Set(others.flatMap(({ packs }) => packs.map(({ id }) => id)))
  return record.packs.map(({ id }) => id).filter((id) => !named.has(id))
}

/** A first backup, and a second one of the same files that shares packs with it. */
async function makeAged() {
  const cluster = new SimulatedCluster(temporaryDirectory())
  // So that files that do not change are left unread by the second backup.
  await sleep(2100)
  const objects = new Map<string, Uint8Array>()
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  const first = await backUp(storage, cluster)
  cluster.write('global/1262', pages(2, 90))
  const second = await backUp(storage, cluster)
  const states = new Map([[second.id, readState(cluster)]])
  assert.ok(ownPacks(second, first).length < second.packs.length)
  return { cluster, objects, first, second, states }
}

test('packs that are too old are not referred to, also where no page has changed', async () => {
  const { cluster, objects, first, second } = await makeAged()
  const storage = openMemoryStorage(new Map(objects))
  assert.deepEqual(
    second.packs.map(({ since }) => since),
    second.packs.map(({ id }) => (isIn(first, id) ? first : second).startedAt),
  )
  // The server of the simulation has a clock that is late by days.
  const young = await backUp(storage, cluster, false, { maxPackAgeMs: 1e12 })
  assert.equal(young.statistics.pagesStored, 0)
  assert.ok(young.statistics.filesUnchangedByStatus > 0)
  const renewed = await backUp(storage, cluster, false, { maxPackAgeMs: 1000 })
  assert.deepEqual(ownPacks(renewed, first, second, young).length, renewed.packs.length)
  assert.equal(renewed.statistics.filesUnchangedByStatus, 0)
  assert.equal(renewed.comparedWith, young.id)
  await assertHolds(storage, renewed, readState(cluster))
  assert.deepEqual(await findDamage(storage), [])
})

test('a backup renews a part only, and the next ones the rest', async () => {
  const { cluster, objects } = await makeAged()
  const storage = openMemoryStorage(new Map(objects))
  const limit = { maxPackAgeMs: 1000, leastRenewalBytes: 1 }
  const before = (await listBackups(storage, 'main')).backups.at(-1) as BackupRecord
  let left = before.packs.length
  for (let backups = 0; left > 0; backups++) {
    assert.ok(backups < before.packs.length, `${left} old packs after ${backups} backups`)
    const record = await backUp(storage, cluster, false, limit)
    await assertHolds(storage, record, readState(cluster))
    const now = record.packs.filter(({ id }) => before.packs.some((pack) => pack.id === id)).length
    assert.ok(now < left)
    left = now
  }
})

test('--rewrite shares nothing with any other backup, and crashes like any other', async () => {
  const { cluster, objects, first, second, states } = await makeAged()
  cluster.write('pg_xact/0000', pages(1, 91))
  const state = readState(cluster)
  const more = { full: true, rewrite: true }
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(new Map(objects)),
    run: async (storage) => await backUp(storage, cluster, true, more),
    check: async (storage, { when }) => {
      const { backups } = await listBackups(storage, 'main')
      for (const record of backups) {
        if (record.id !== first.id)
          await assertHolds(storage, record, states.get(record.id) ?? state)
      }
      if (when === 'never') assert.equal(backups.length, 3)
      const record = backups.at(-1) as BackupRecord
      if (backups.length < 3) return
      assert.equal(ownPacks(record, first, second).length, record.packs.length)
      assert.equal(record.comparedWith, undefined)
    },
  })
  assert.ok(crashes > 60, `${crashes} crashes`)
})

test('a dropped frame that a backup needs is found, with what it costs', async () => {
  const { objects, states, expired } = await makeScene()
  const [newest] = [...states.keys()].slice(-1)
  for (const kind of [FRAME_KINDS.pages, FRAME_KINDS.content, FRAME_KINDS.leaves]) {
    const storage = openMemoryStorage(new Map(objects))
    await repackAll(storage, [expired])
    const { backups } = await listBackups(storage, 'main')
    const record = backups.find(({ id }) => id === newest) as BackupRecord
    const found: string[] = []
    for (const { id } of record.packs) {
      const pack = await openPack(storage, 'main', id)
      const at = pack.frames.findIndex((entry, n) => entry.kind === kind && pack.holdsFrame(n))
      if (at < 0) continue
      await compactPack(storage, 'main', id, (n) => n !== at)
      found.push(`${pack.key}#${at}`)
    }
    assert.ok(found.length > 0)
    const report = await verifyAll(storage)
    const missing = report.findings.filter(({ key }) => key.includes('/packs/'))
    const named = missing.map(({ key, frame }) => `${key}#${frame}`)
    for (const each of found) assert.ok(named.includes(each), `${each} of ${named.join()}`)
    assert.ok(missing.every(({ code }) => code === 'TM1602'))
    assert.ok(missing.some((finding) => finding.backups.includes(newest as string)))
  }
})

test('a record that was written where packs are sparse holds where they are whole', async () => {
  const { objects, states, expired, cluster } = await makeScene()
  const whole = openMemoryStorage(new Map(objects))
  const sparse = openMemoryStorage(new Map(objects))
  await repackAll(sparse, [expired])
  cluster.write('pg_xact/0000', pages(1, 82))
  const record = await backUp(sparse, cluster)
  // As a sync brings it.
  for (const { key } of await collect(sparse.list('clusters/main/'))) {
    if ((await whole.size(key)) !== undefined || key.includes('/backups/')) continue
    await whole.write(key, (await sparse.read(key)) as Uint8Array)
  }
  const sizes = await listPacks(whole, 'main')
  assert.ok(record.packs.some(({ id, bytes }) => bytes !== undefined && sizes.get(id) !== bytes))
  await publishBackup(whole, record, encodeBackupRecord(record), [])
  await assertKept(whole, new Map([...states, [record.id, readState(cluster)]]))
  cluster.write('pg_xact/0000', pages(1, 83))
  const next = await backUp(whole, cluster)
  assert.equal(next.statistics.pagesStored, 0)
  await assertHolds(whole, next, readState(cluster))
  const damage = await findDamage(whole)
  assert.deepEqual(
    damage.filter((text) => !text.endsWith('was rebuilt')),
    [],
  )
})
