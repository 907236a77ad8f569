/**
 * A backup that is cut off at every single call to its storage, before and after the call
 * has its effect, and one that meets every refusal. The whole pipeline runs in one thread.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { now, sleep } from '../../src/base/clock.ts'
import { Failure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { type CondemnedSet, writeCondemnedSet } from '../../src/repository/condemned-sets.ts'
import { decodeEnvelope, encodeEnvelope } from '../../src/repository/envelope.ts'
import type { Hold } from '../../src/repository/holds.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { listPacks } from '../../src/repository/write-backup.ts'
import { expire } from '../../src/retention/expire.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { collect, forEachCrashPoint, openFaultyStorage } from '../harness/faulty-storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SEGMENT_PAGES, SimulatedCluster } from './backup-cluster.ts'
import { rebuildBackup } from './backup-rebuild.ts'
import { takeSimulatedBackup } from './take-simulated-backup.ts'

type Expected = ReadonlyMap<string, Buffer>

const SHOWN = ['base/5/16384', 'base/5/16384.1', 'base/5/16384_vm', 'base/5/16390', 'base/5/16391']
const OTHERS = ['global/1262', 'pg_xact/0000', 'big.log', 'base/5/pg_filenode.map', 'PG_VERSION']
const TABLESPACE = 'pg_tblspc/16499/PG_15_202209061/5/16500'

function readState(cluster: SimulatedCluster): Expected {
  const paths = [...SHOWN, ...OTHERS, TABLESPACE, 'base/5/16392_init', 'global/pg_control']
  return new Map(paths.map((path) => [path, readFileSync(join(cluster.directory, path))]))
}

async function backUp(storage: Storage, cluster: SimulatedCluster): Promise<BackupRecord> {
  return await takeSimulatedBackup(storage, cluster)
}

interface Scene {
  readonly cluster: SimulatedCluster
  /** Objects of the repository with a first backup, and what it must hold. */
  readonly objects: ReadonlyMap<string, Uint8Array>
  readonly firstId: string
  readonly first: Expected
  readonly second: Expected
}

/** One backup is there; the cluster has changed since in every way that counts. */
async function makeScene(): Promise<Scene> {
  const cluster = new SimulatedCluster(temporaryDirectory())
  // So that the files that do not change are not even read by the second backup.
  await sleep(2100)
  const objects = new Map<string, Uint8Array>()
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  const first = readState(cluster)
  const { id } = await backUp(storage, cluster)
  cluster.write('base/5/16384', pages(SEGMENT_PAGES, 3).fill(7, 8192 * 5, 8192 * 6))
  cluster.write('base/5/16384.1', pages(25, 14))
  cluster.write('base/5/16390', pages(4, 15))
  cluster.truncate('base/5/16391', 1)
  cluster.write('pg_xact/0000', pages(1, 16))
  cluster.write('global/1262', pages(2, 17))
  return { cluster, objects, firstId: id, first, second: readState(cluster) }
}

async function assertHolds(storage: Storage, record: BackupRecord, state: Expected) {
  const files = await rebuildBackup(storage, record)
  for (const [path, bytes] of state) {
    assert.ok(files.get(path)?.bytes?.equals(bytes), `${path} differs in ${record.id}`)
  }
  assert.equal(files.get('base/5/16392'), undefined)
  assert.equal(files.get('base/5/t3_16400'), undefined)
}

/** Every backup that can be seen is whole. Returns how many there are. */
async function assertBackups(storage: Storage, scene: Scene): Promise<number> {
  const { backups, damaged } = await listBackups(storage, 'main')
  assert.deepEqual(damaged, [])
  for (const record of backups) {
    await assertHolds(storage, record, record.id === scene.firstId ? scene.first : scene.second)
  }
  assert.ok(backups.some(({ id }) => id === scene.firstId))
  return backups.length
}

async function assertTidy(storage: Storage): Promise<void> {
  assert.deepEqual(await collect(storage.list('clusters/main/holds/')), [])
  const { backups } = await listBackups(storage, 'main')
  const named = new Set(backups.flatMap(({ packs }) => packs.map(({ id }) => id)))
  const there = [...(await listPacks(storage, 'main')).keys()]
  assert.deepEqual(
    there.filter((id) => !named.has(id)),
    [],
    'packs that no record names',
  )
}

/** The process that wrote the holds is gone: its place in the hold is another process. */
async function declareWritersDead(storage: Storage): Promise<void> {
  for (const { key } of await collect(storage.list('clusters/main/holds/'))) {
    const bytes = await storage.read(key)
    assert.ok(bytes !== undefined)
    const hold = JSON.parse(decodeEnvelope(key, 'HOLD', bytes).toString()) as Hold
    const dead = { ...hold, writer: hold.writer.replace(/\d+$/, '1') }
    await storage.write(key, encodeEnvelope('HOLD', Buffer.from(JSON.stringify(dead))))
  }
}

test('a backup that crashes at any storage call leaves only what is whole', async () => {
  const scene = await makeScene()
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(new Map(scene.objects)),
    run: async (storage) => await backUp(storage, scene.cluster),
    check: async (storage, { when }) => {
      const before = await assertBackups(storage, scene)
      assert.ok(before === 1 || before === 2)
      if (when === 'never') assert.equal(before, 2)
      await declareWritersDead(storage)
      const again = await backUp(storage, scene.cluster)
      await assertHolds(storage, again, scene.second)
      assert.equal(await assertBackups(storage, scene), before + 1)
      await assertTidy(storage)
    },
  })
  assert.ok(crashes > 60, `${crashes} crashes`)
})

for (const kind of ['full', 'refused'] as const) {
  test(`a storage that is ${kind} at any call ends the backup with its own failure`, async () => {
    const scene = await makeScene()
    let notes = 0
    for (let at = 1; ; at += 1) {
      const inner = openMemoryStorage(new Map(scene.objects))
      const storage = openFaultyStorage(inner, [{ at, kind }])
      const outcome = await backUp(storage, scene.cluster).catch((error: unknown) => error)
      if (storage.trace.length < at) break
      const call = storage.trace[at - 1]
      const seen = await assertBackups(inner, scene)
      if (outcome instanceof Failure) {
        assert.equal(outcome.code, kind === 'full' ? 'TM1506' : 'TM1501', `call ${at}`)
        assert.equal(seen, 1)
      } else {
        // Only what comes after the record may fail without the backup failing.
        assert.ok(!(outcome instanceof Error), `call ${at} ${call?.operation}: ${String(outcome)}`)
        assert.ok(call?.operation === 'remove' || call?.operation === 'size')
        assert.ok(call.key.endsWith('.hold'))
        assert.equal(seen, 2)
        notes += 1
      }
      await declareWritersDead(inner)
      await backUp(inner, scene.cluster)
      await assertBackups(inner, scene)
      await assertTidy(inner)
    }
    assert.equal(notes, 2)
  })
}

test('packs that were lost keep no new backup from being made', async () => {
  const scene = await makeScene()
  for (const lost of [...scene.objects.keys()].filter((key) => key.endsWith('.pack'))) {
    for (const how of ['deleted', 'cut', 'flipped'] as const) {
      const objects = new Map(scene.objects)
      const bytes = Buffer.from(objects.get(lost) as Uint8Array)
      if (how === 'deleted') objects.delete(lost)
      if (how === 'cut') objects.set(lost, bytes.subarray(0, bytes.length - 100))
      if (how === 'flipped') objects.set(lost, flipIndex(bytes))
      const storage = openMemoryStorage(objects)
      const record = await backUp(storage, scene.cluster)
      if (how !== 'flipped') await assertHolds(storage, record, scene.second)
      assert.ok(record.statistics.pagesStored > 0)
    }
  }
})

function flipIndex(bytes: Buffer): Buffer {
  const at = bytes.length - 40
  bytes[at] = (bytes[at] as number) ^ 1
  return bytes
}

/** What an expiry that was stopped for long has left, or has under way. */
async function condemn(storage: Storage, names: Partial<CondemnedSet>): Promise<void> {
  const set = { id: 'a'.repeat(16), host: 'far', writer: 'unknown', startedAt: '' }
  await writeCondemnedSet(storage, 'main', { ...set, backups: [], packs: [], keys: [], ...names })
}

test('a backup refers to nothing that is condemned', async () => {
  const scene = await makeScene()
  const { backups } = await listBackups(openMemoryStorage(new Map(scene.objects)), 'main')
  const packs = (backups[0] as BackupRecord).packs.map(({ id }) => id)
  const sets = [{ backups: [scene.firstId] }, { packs }, ...packs.map((id) => ({ packs: [id] }))]
  for (const names of sets) {
    const storage = openMemoryStorage(new Map(scene.objects))
    await condemn(storage, names)
    const record = await backUp(storage, scene.cluster)
    await storage.removeMany((names.packs ?? packs).map((id) => packKey('main', id)))
    await assertHolds(storage, record, scene.second)
    assert.equal(record.comparedWith, names.backups === undefined ? scene.firstId : undefined)
  }
  const unreadable = openMemoryStorage(new Map(scene.objects))
  await unreadable.write(`clusters/main/condemned/${'b'.repeat(16)}.set`, Buffer.from('torn'))
  const record = await backUp(unreadable, scene.cluster)
  await unreadable.removeMany(packs.map((id) => packKey('main', id)))
  await assertHolds(unreadable, record, scene.second)
})

test('a base that expires between its choice and the hold is not used', async () => {
  const scene = await makeScene()
  const storage = openMemoryStorage(new Map(scene.objects))
  const write = storage.write.bind(storage)
  storage.write = async (key, bytes, options) => {
    if (key.endsWith('.hold')) await storage.remove(backupKey('main', scene.firstId))
    await write(key, bytes, options)
  }
  const record = await backUp(storage, scene.cluster)
  assert.equal(record.comparedWith, undefined)
  const old = [...scene.objects.keys()].filter((key) => key.endsWith('.pack'))
  await storage.removeMany(old)
  await assertHolds(storage, record, scene.second)
})

for (const when of ['before the record', 'with the record'] as const) {
  test(`a backup that was declared dead ${when} lists nothing, expiry removes packs`, async () => {
    const scene = await makeScene()
    const storage = openMemoryStorage(new Map(scene.objects))
    const write = storage.write.bind(storage)
    storage.write = async (key, bytes, options) => {
      await write(key, bytes, options)
      const isLate = key.endsWith('.record')
      if (when === 'with the record' ? !isLate : !key.endsWith('.hold')) return
      for (const hold of await collect(storage.list('clusters/main/holds/'))) {
        await storage.remove(hold.key)
      }
    }
    await assert.rejects(backUp(storage, scene.cluster), { code: 'TM1901' })
    assert.equal(await assertBackups(storage, scene), 1)
    // It cannot know who has referred to them since its hold was gone.
    const { signal } = new AbortController()
    const options = { storage, cluster: 'main', policy: undefined, apply: true, signal }
    await expire({ ...options, progress: SILENT })
    assert.equal(await assertBackups(storage, scene), 1)
    await assertTidy(storage)
  })
}
