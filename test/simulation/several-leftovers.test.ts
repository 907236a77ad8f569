/**
 * What a backup leaves in a repository that gets no record of it, and who meets that there: an
 * expiry, a catalogue that is rebuilt, a sync that brings the very backup meanwhile.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BackupResult } from '../../src/backup/backup-context.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { now } from '../../src/base/clock.ts'
import { Failure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import { rebuildCatalogue } from '../../src/recovery/verify.ts'
import { writeCondemnedSet } from '../../src/repository/condemned-sets.ts'
import { readHolder } from '../../src/repository/holds.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { FRAME_KINDS } from '../../src/repository/pack-format.ts'
import { openPack } from '../../src/repository/pack-reader.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { ForwardingStorage } from '../../src/storage/forwarding-storage.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { ObjectLocks, Storage, WriteOptions } from '../../src/storage/storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SimulatedCluster } from './backup-cluster.ts'
import { rebuildBackup } from './backup-rebuild.ts'
import { simulatedOptions, targetsIn } from './take-simulated-backup.ts'
import { expireAll } from './expiry-scene.ts'
import { syncStorages } from './sync-repositories.ts'

type Objects = Map<string, Uint8Array>

async function emptyRepository(): Promise<Objects> {
  const objects: Objects = new Map()
  await createRepository(openMemoryStorage(objects), now())
  return objects
}

async function backUp(
  storages: readonly Storage[],
  cluster: SimulatedCluster,
  required: readonly number[] = [0],
  more: { readonly full?: boolean } = {},
): Promise<BackupResult> {
  const options = {
    ...more,
    targets: targetsIn(storages, required),
    ...simulatedOptions(cluster),
  }
  return await takeBackup(options, SILENT, new AbortController().signal)
}

const outcomesOf = ({ targets }: BackupResult): string[] => targets.map(({ outcome }) => outcome)

/** The ids of all that a repository lists, each rebuilt out of it alone. */
async function listWhole(objects: Objects): Promise<string[]> {
  const storage = openMemoryStorage(objects)
  const { backups, damaged } = await listBackups(storage, 'main')
  assert.deepEqual(damaged, [])
  for (const record of backups) await rebuildBackup(storage, record)
  return backups.map(({ id }) => id)
}

interface Scene {
  readonly cluster: SimulatedCluster
  readonly local: Objects
  readonly offsite: Objects
  readonly behind: BackupResult
}

/** A repository that was added after the first backup, and is behind since the second one. */
async function makeBehind(): Promise<Scene> {
  const cluster = new SimulatedCluster(temporaryDirectory())
  const [local, offsite] = [await emptyRepository(), await emptyRepository()]
  await backUp([openMemoryStorage(local)], cluster)
  cluster.write('base/5/16391', pages(3, 101))
  const behind = await backUp([openMemoryStorage(local), openMemoryStorage(offsite)], cluster)
  assert.deepEqual(outcomesOf(behind), ['stored', 'behind'])
  return { cluster, local, offsite, behind }
}

test('a repository that is behind expires', async () => {
  const { cluster, offsite } = await makeBehind()
  const result = await expireAll(openMemoryStorage(offsite), { cluster }, { last: 1 })
  assert.deepEqual(result.removed?.expire ?? [], [])
})

test('a catalogue that is rebuilt lists nothing whose packs are not there', async () => {
  const { local, offsite, behind } = await makeBehind()
  // As a store leaves it that locks objects: the copy of the record cannot be removed.
  for (const [key, bytes] of local) {
    const isOwn = behind.record.packs.some(({ id, bytes: size }) => {
      return size === undefined && key.includes(id.slice(0, 24))
    })
    if (isOwn && key.endsWith('.pack')) offsite.set(key, bytes)
  }
  const notes: string[] = []
  const { signal } = new AbortController()
  await rebuildCatalogue(openMemoryStorage(offsite), 'main', signal, (note) => notes.push(note))
  assert.deepEqual(await listWhole(offsite), [])
  assert.match(notes.join(), new RegExp(behind.record.id))
})

test('sync brings what a repository that is behind lacks', async () => {
  const { local, offsite, behind, cluster } = await makeBehind()
  await syncStorages(openMemoryStorage(local), openMemoryStorage(offsite))
  assert.ok((await listWhole(offsite)).includes(behind.record.id))
  const next = await backUp([openMemoryStorage(local), openMemoryStorage(offsite)], cluster)
  assert.deepEqual(outcomesOf(next), ['stored', 'stored'])
})

/** Something else happens to the repository at one call, before it is answered or after. */
class Interrupted extends ForwardingStorage {
  readonly #meanwhile: (operation: string, key: string) => Promise<void>

  constructor(inner: Storage, meanwhile: (operation: string, key: string) => Promise<void>) {
    super(inner)
    this.#meanwhile = meanwhile
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await this.#meanwhile('write', key)
    await super.write(key, bytes, options)
  }

  override async remove(key: string): Promise<void> {
    await this.#meanwhile('remove', key)
    await super.remove(key)
  }

  override async size(key: string): Promise<number | undefined> {
    const size = await super.size(key)
    await this.#meanwhile('size', key)
    return size
  }
}

/** Calls of the clean-up, behind which a sync brings the backup from the other repository. */
for (const operation of ['size', 'remove', 'write'] as const) {
  test(`a sync brings a backup while its attempt is removed: ${operation}`, async () => {
    const cluster = new SimulatedCluster(temporaryDirectory())
    const [local, offsite] = [await emptyRepository(), await emptyRepository()]
    await backUp([openMemoryStorage(local), openMemoryStorage(offsite)], cluster)
    cluster.write('base/5/16391', pages(3, 101))
    let synced = 0
    const interrupted = new Interrupted(openMemoryStorage(offsite), async (what, key) => {
      if (what === 'write' && key.includes('/wal/')) {
        throw new Failure('TM1501', { message: 'no WAL', fix: 'none' })
      }
      const isPublished = (await listWhole(local)).length === 2
      const isOurs = /\.record$|\.pack$|\/condemned\//.test(key)
      if (synced > 0 || what !== operation || !isPublished || !isOurs) return
      synced++
      await syncStorages(openMemoryStorage(local), openMemoryStorage(offsite))
    })
    const result = await backUp([openMemoryStorage(local), interrupted], cluster)
    assert.deepEqual(outcomesOf(result), ['stored', 'failed'])
    await listWhole(offsite)
    await syncStorages(openMemoryStorage(local), openMemoryStorage(offsite))
    await listWhole(offsite)
  })
}

test('one that is not required has no record before the required ones have theirs', async () => {
  const cluster = new SimulatedCluster(temporaryDirectory())
  const [offsite, local] = [await emptyRepository(), await emptyRepository()]
  const refusing = new Interrupted(openMemoryStorage(local), async (operation, key) => {
    if (operation !== 'write' || !key.endsWith('.record')) return
    throw new Failure('TM1501', { message: 'no record', fix: 'none' })
  })
  const run = backUp([openMemoryStorage(offsite), refusing], cluster, [1])
  await assert.rejects(run, /no record/)
  assert.deepEqual([await listWhole(offsite), await listWhole(local)], [[], []])
})

/** The record is gone before the hold is written, or condemned and still there. */
for (const [number, how] of [
  [0, 'gone'],
  [1, 'gone'],
  [0, 'condemned'],
  [1, 'condemned'],
] as const) {
  test(`the base is ${how} in repository ${number} while the hold is taken`, async () => {
    const cluster = new SimulatedCluster(temporaryDirectory())
    const repositories = [await emptyRepository(), await emptyRepository()]
    const { record: base } = await backUp(repositories.map(openMemoryStorage), cluster)
    cluster.advance(24)
    cluster.write('base/5/16391', pages(3, 101))
    let isExpired = false
    const storages = repositories.map((objects, which) => {
      const inner = openMemoryStorage(objects)
      return new Interrupted(inner, async (operation, key) => {
        if (which !== number || operation !== 'write' || !key.includes('/holds/')) return
        if (isExpired) return
        isExpired = true
        const packs = base.packs.map(({ id }) => id)
        const set = { ...readHolder(), startedAt: '', backups: [base.id], packs, keys: [] }
        if (how === 'condemned') {
          await writeCondemnedSet(inner, 'main', { id: '0'.repeat(16), ...set })
        } else {
          await inner.remove(backupKey('main', base.id))
          for (const id of packs) await inner.remove(packKey('main', id))
        }
      })
    })
    const result = await backUp(storages, cluster)
    assert.deepEqual(outcomesOf(result), number === 0 ? ['stored', 'stored'] : ['stored', 'behind'])
    assert.equal(result.record.comparedWith, number === 0 ? undefined : base.id)
    for (const objects of repositories) await listWhole(objects)
  })
}

for (const number of [0, 1]) {
  test(`a pack of the base is condemned in repository ${number}: nothing names it`, async () => {
    const cluster = new SimulatedCluster(temporaryDirectory())
    const repositories = [await emptyRepository(), await emptyRepository()]
    const storages = repositories.map((objects) => openMemoryStorage(objects))
    const { record: base } = await backUp(storages, cluster)
    for (const { id } of base.packs) {
      const copies = repositories.map((objects) => new Map(objects))
      const storage = openMemoryStorage(copies[number])
      const set = { ...readHolder(), startedAt: '', backups: [], packs: [id], keys: [] }
      await writeCondemnedSet(storage, 'main', { id: '0'.repeat(16), ...set })
      const result = await backUp(copies.map(openMemoryStorage), cluster)
      assert.deepEqual(outcomesOf(result), ['stored', 'stored'])
      assert.ok(!result.record.packs.some((pack) => pack.id === id))
    }
  })

  test(`what is damaged in repository ${number} alone is stored anew when it is met`, async () => {
    const cluster = new SimulatedCluster(temporaryDirectory())
    const repositories = [await emptyRepository(), await emptyRepository()]
    const storages = repositories.map((objects) => openMemoryStorage(objects))
    const { record: base } = await backUp(storages, cluster)
    const reader = storages[number] as Storage
    for (const { id } of base.packs) {
      const { frames, key } = await openPack(reader, 'main', id)
      const bytes = Buffer.from(repositories[number]?.get(key) as Uint8Array)
      for (const { kind, offset } of frames) {
        if (kind === FRAME_KINDS.leaves) bytes[offset] = (bytes[offset] as number) ^ 1
      }
      repositories[number]?.set(key, bytes)
    }
    // Who is nearest is read; of the other one verify tells.
    const order = number === 0 ? storages : storages.toReversed()
    const result = await backUp(order, cluster, [0], { full: true })
    assert.deepEqual(outcomesOf(result), ['stored', 'stored'])
    for (const storage of storages) await rebuildBackup(storage, result.record)
  })
}

/** A store that locks objects, and remembers of which it was asked. */
class Locking extends ForwardingStorage {
  readonly extended: string[] = []

  override get locks(): ObjectLocks {
    return {
      days: 30,
      lockedUntil: async () => undefined,
      extend: async (key) => void this.extended.push(key),
      prove: async () => undefined,
    }
  }
}

test('packs are locked for longer where the backup is, and nowhere else', async () => {
  const { cluster, local, offsite } = await makeBehind()
  const storages = [local, offsite].map((objects) => new Locking(openMemoryStorage(objects)))
  const { record, targets } = await backUp(storages, cluster)
  assert.deepEqual(
    targets.map(({ outcome }) => outcome),
    ['stored', 'behind'],
  )
  const isPack = (key: string): boolean => key.endsWith('.pack')
  assert.ok(storages[0]?.extended.some(isPack))
  assert.ok(!storages[1]?.extended.some(isPack))
  assert.equal(new Set(record.locks?.map(({ repository }) => repository)).size, 1)
})
