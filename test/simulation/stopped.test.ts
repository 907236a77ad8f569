/**
 * Expiry, sync, clean-up and backups that are stopped before one call while others go on: what
 * is listed stays whole, and nothing that expired comes back.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { isLetGo, readExpiredMark } from '../../src/archive/expired-wal.ts'
import { segmentKey, walPrefix } from '../../src/archive/wal-file-name.ts'
import { SYSTEM, segmentName } from '../harness/wal-builder.ts'
import { PausingStorage } from '../harness/pausing-storage.ts'
import { cleanUpDeadHolds } from '../../src/repository/clean-up.ts'
import { release } from '../../src/retention/release.ts'
import {
  listCondemnedSets,
  removeCondemnedSet,
  writeCondemnedSet,
} from '../../src/repository/condemned-sets.ts'
import { Failure, isFailure } from '../../src/base/failure.ts'
import {
  type Hold,
  listHolds,
  readHolder,
  takeHold,
  removeHold,
  writeHold,
} from '../../src/repository/holds.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { newObjects, rebuildAll, syncStorages } from './sync-repositories.ts'
import {
  attemptOfPack,
  attemptPrefix,
  backupKey,
  holdKey,
  makeBackupId,
  packKey,
} from '../../src/repository/keys.ts'
import { SimulatedCluster } from './backup-cluster.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pinBackup } from '../../src/repository/marks.ts'
import { SILENT } from '../../src/base/progress.ts'
import { repack } from '../../src/retention/repack.ts'
import { rebuildBackup } from './backup-rebuild.ts'
import { listBackups, readBackup } from '../../src/repository/read-backups.ts'
import { ForwardingStorage } from '../../src/storage/forwarding-storage.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import {
  assertListed,
  assertNoGarbage,
  backUp,
  BACKUPS,
  change,
  expireAll,
  makeScene,
  type Scene,
} from './expiry-scene.ts'

let scene: Scene

before(async () => {
  scene = await makeScene()
  change(scene, BACKUPS)
})

const copyScene = (): Storage => openMemoryStorage(new Map(scene.objects))
const idAt = (at: number): string => scene.ids[at] as string

function makeHold(more: Partial<Hold>): Hold {
  const at = new Date()
  const startedAt = at.toISOString()
  const base = { id: makeBackupId(at), purpose: 'rewrite' as const, startedAt, needs: [] }
  return { ...base, ...readHolder(), ...more }
}

test('a record that a hold names by its key stays', async () => {
  const storage = copyScene()
  await takeHold(storage, 'main', makeHold({ keys: [backupKey('main', idAt(1))] }))
  await expireAll(storage, scene, { last: 1 })
  assert.ok((await assertListed(storage, scene)).includes(idAt(1)))
})

const ownPackOf = ({ packs }: BackupRecord): string =>
  packs.find(({ bytes }) => bytes === undefined)?.id as string

test('a pack that is locked does not make its expired backup a lost one', async () => {
  const inner = copyScene()
  const key = packKey('main', ownPackOf(await readBackup(inner, 'main', idAt(3))))
  await backUp(inner, scene.cluster)
  const storage = new LockedStorage(inner, key)
  const { locked } = await expireAll(storage, scene, { last: 1 })
  assert.deepEqual(
    locked.map((one) => one.key),
    [key],
  )
  await expireAll(storage, scene, { last: 1 })
  await expireAll(inner, scene, { last: 1 })
  assert.equal((await assertListed(inner, scene)).length, 2)
  await assertNoGarbage(inner)
})

test('a pack that a sync holds does not make its expired backup a lost one', async () => {
  const storage = copyScene()
  const key = packKey('main', ownPackOf(await readBackup(storage, 'main', idAt(1))))
  const hold = makeHold({ purpose: 'sync', keys: [key] })
  await writeHold(storage, 'main', hold)
  await expireAll(storage, scene, { last: 2 })
  assert.ok((await storage.size(key)) !== undefined)
  await removeHold(storage, 'main', hold.id)
  await expireAll(storage, scene, { last: 2 })
  assert.equal((await assertListed(storage, scene)).length, 3)
  await assertNoGarbage(storage)
})

/** Refuses to remove one object, as a store does that has locked it. */
class LockedStorage extends ForwardingStorage {
  readonly #key: string
  constructor(inner: Storage, key: string) {
    super(inner)
    this.#key = key
  }

  override async removeMany(keys: readonly string[]): Promise<void> {
    await super.removeMany(keys.filter((key) => key !== this.#key))
    if (!keys.includes(this.#key)) return
    throw new Failure('TM1513' as never, { message: 'locked', because: 'locked', fix: 'wait' })
  }
}

/** As a backup leaves it that was killed after its record was there. */
async function leaveHold(storage: Storage, record: BackupRecord): Promise<void> {
  const writer = readHolder().writer.replace(/\d+$/, '1')
  const attemptId = attemptOfPack(ownPackOf(record))
  const hold = makeHold({ id: record.id, purpose: 'backup', attemptId, writer })
  await writeHold(storage, 'main', hold)
}

test('who cleans up late takes no packs that a later backup shares', async () => {
  const storage = copyScene()
  const record = await readBackup(storage, 'main', idAt(3))
  await leaveHold(storage, record)
  const due = `size ${backupKey('main', record.id)}`
  const late = new PausingStorage(storage, (call) => call === due)
  const cleaning = cleanUpDeadHolds(late, 'main')
  await late.reached
  await backUp(storage, scene.cluster)
  await expireAll(storage, scene, { last: 1 })
  late.resume()
  await cleaning
  assert.equal((await assertListed(storage, scene)).length, 2)
})

test('WAL that is kept before WAL that expired is not said to have been let go', async () => {
  const storage = copyScene()
  await expireAll(storage, scene, { last: 2 })
  const mark = await readExpiredMark(storage, 'main', SYSTEM.toString())
  const letGo = [0n, 1n, 2n, 3n, 4n].filter((segment) => isLetGo(mark, 1, segment))
  assert.deepEqual(letGo, [0n, 2n], 'the pinned backup is in segment 1')
})

test('who cleans up beside another one takes no packs that a sync has brought since', async () => {
  const source = copyScene()
  const objects = await newObjects()
  const target = openMemoryStorage(objects)
  await syncStorages(source, target)
  const record = await readBackup(target, 'main', idAt(3))
  await target.remove(backupKey('main', record.id))
  await leaveHold(target, record)
  const packs = `list ${attemptPrefix('main', attemptOfPack(ownPackOf(record)))}`
  const first = new PausingStorage(
    target,
    (call) => call === `remove ${holdKey('main', record.id)}`,
  )
  const firstCleaning = cleanUpDeadHolds(first, 'main')
  await first.reached
  let lists = 0
  const late = new PausingStorage(target, (call) => call === packs && ++lists === 2)
  const lateCleaning = cleanUpDeadHolds(late, 'main')
  await Promise.race([late.reached, lateCleaning])
  first.resume()
  await firstCleaning
  await syncStorages(source, target)
  late.resume()
  await lateCleaning
  assert.ok((await rebuildAll(objects)).includes(record.id))
})

const walKeyOf = (segment: bigint): string => {
  const name = segmentName({ segment })
  return segmentKey('main', SYSTEM.toString(), name)
}

/** A target that has the newest backup and the WAL of all. */
async function makeTarget(source: Storage): Promise<Storage> {
  const target = openMemoryStorage(await newObjects())
  const nothing = { windowMs: 0, last: 1, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
  await syncStorages(source, target, { policy: nothing })
  for (const segment of [1n, 2n, 3n]) {
    const key = walKeyOf(segment)
    await target.write(key, (await source.read(key)) as Uint8Array)
  }
  return target
}

test('a sync relies on no WAL that an expiry of the target is about to remove', async () => {
  const source = copyScene()
  const target = await makeTarget(source)
  const late = new PausingStorage(target, (call) => call.startsWith('removeMany'))
  const expiring = expireAll(late, scene, { last: 1 })
  await late.reached
  const { keptBack } = await syncStorages(source, target)
  assert.ok(keptBack.length > 0)
  late.resume()
  await expiring
  await assertListed(target, scene)
  assert.deepEqual((await syncStorages(source, target)).keptBack, [])
  assert.equal((await assertListed(target, scene)).length, 4)
})

test('a sync holds the WAL and the history of what it brings', async () => {
  const target = openMemoryStorage(await newObjects())
  const late = new PausingStorage(target, (call) => call.endsWith('.record') && /^write/.test(call))
  const syncing = syncStorages(copyScene(), late)
  await late.reached
  const [hold] = (await listHolds(target, 'main')).holds
  const history = `${walPrefix('main', SYSTEM.toString())}00000001.history`
  for (const key of [walKeyOf(1n), history]) assert.ok(hold?.keys?.includes(key), key)
  late.resume()
  await syncing
})

test('a sync stopped before its hold brings back nothing that expired meanwhile', async () => {
  const source = copyScene()
  const target = openMemoryStorage(await newObjects())
  await syncStorages(source, target)
  const key = packKey('main', ownPackOf(await readBackup(target, 'main', idAt(1))))
  await target.remove(key)
  const late = new PausingStorage(target, (call) => call.includes('/holds/') && /^write/.test(call))
  const syncing = syncStorages(source, late)
  await late.reached
  await expireAll(target, scene, { last: 2 })
  late.resume()
  await syncing
  await expireAll(target, scene, { last: 2 })
  assert.ok(!(await assertListed(target, scene)).includes(idAt(1)))
  await assertNoGarbage(target)
})

test('an expiry whose set was given up while it was stopped removes nothing any more', async () => {
  const storage = copyScene()
  let looks = 0
  const late = new PausingStorage(storage, (call) => /^list .*packs.$/.test(call) && ++looks === 2)
  const expiring = expireAll(late, scene, { last: 1 }).catch((error: unknown) => error)
  await late.reached
  const { sets } = await listCondemnedSets(storage, 'main')
  for (const { id } of sets) await removeCondemnedSet(storage, 'main', id)
  late.resume()
  const outcome = await expiring
  assert.ok(isFailure(outcome, 'TM1907'), String(outcome))
  assert.equal((await assertListed(storage, scene)).length, 4)
})

test('a set that is given up still says which backups had expired', async () => {
  const storage = copyScene()
  const late = new PausingStorage(storage, (call) => /^removeMany .*pack$/.test(call))
  const expiring = expireAll(late, scene, { last: 2 }).catch((error: unknown) => error)
  await late.reached
  await declareWritersUnknown(storage)
  const { sets } = await listCondemnedSets(storage, 'main')
  await release(storage, 'main', sets[0]?.id as string)
  await expireAll(storage, scene, { last: 2 })
  assert.equal((await assertListed(storage, scene)).length, 3)
  await assertNoGarbage(storage)
  late.resume()
  await expiring
})

/** As if they were of another machine. */
async function declareWritersUnknown(storage: Storage): Promise<void> {
  for (const set of (await listCondemnedSets(storage, 'main')).sets) {
    await removeCondemnedSet(storage, 'main', set.id)
    await writeCondemnedSet(storage, 'main', { ...set, writer: 'elsewhere' })
  }
}

for (const what of ['a pack', 'WAL']) {
  test(`a backup that has lost ${what} lets no whole one expire for it`, async () => {
    const storage = copyScene()
    const pack = packKey('main', ownPackOf(await readBackup(storage, 'main', idAt(3))))
    await storage.remove(what === 'WAL' ? walKeyOf(4n) : pack)
    const { notes } = await expireAll(storage, scene, { last: 1 })
    assert.match(notes.join(), new RegExp(`^backups ${idAt(3)}: packs or WAL`))
    const listed = (await listBackups(storage, 'main')).backups.map(({ id }) => id)
    assert.deepEqual(listed, [0, 2, 3].map(idAt))
    await rebuildBackup(storage, await readBackup(storage, 'main', idAt(2)))
    assert.ok((await storage.size(walKeyOf(3n))) !== undefined)
    // When its time has come it goes as any other.
    const newer = await backUp(storage, scene.cluster)
    await expireAll(storage, scene, { last: 1 })
    const left = (await listBackups(storage, 'main')).backups.map(({ id }) => id)
    assert.deepEqual(left, [idAt(0), newer.id])
  })
}

test('a hold is there before sets are listed, and these before records are sought', async () => {
  const storage = copyScene()
  const late = new PausingStorage(storage, (call) => /^list .*condemned.$/.test(call))
  const hold = makeHold({ purpose: 'restore', needs: [idAt(1), idAt(2)] })
  const taking = takeHold(late, 'main', hold)
  await Promise.race([late.reached, taking])
  assert.deepEqual((await listHolds(storage, 'main')).holds, [hold])
  // An expiry that has not seen the hold comes to its end: nothing of its set is left.
  await storage.remove(backupKey('main', idAt(1)))
  late.resume()
  assert.deepEqual((await taking).lost, [idAt(1)])
})

test('a backup that is published while an expiry looks again keeps its base', async () => {
  const storage = openMemoryStorage(await newObjects())
  const cluster = new SimulatedCluster(temporaryDirectory())
  await backUp(storage, cluster)
  const unheld = new PausingStorage(storage, (call) => /^write .*holds./.test(call))
  const unpublished = new PausingStorage(unheld, (call) => /^write .*record$/.test(call))
  const writing = backUp(unpublished, cluster)
  await unheld.reached
  // Another one becomes the newest and shares nothing.
  await backUp(storage, new SimulatedCluster(temporaryDirectory()), { rewrite: true })
  let looks = 0
  const undecided = new PausingStorage(storage, (call) => /^write .*condemned./.test(call))
  const looking = new PausingStorage(undecided, (call) => {
    if (call.startsWith('write ')) looks = 1
    return looks > 0 && /^list .*(holds|backups).$/.test(call) && looks++ === 2
  })
  const expiring = expireAll(looking, { cluster }, { last: 1 })
  await undecided.reached
  unheld.resume()
  await unpublished.reached
  undecided.resume()
  await looking.reached
  unpublished.resume()
  await rebuildBackup(storage, await writing)
  looking.resume()
  await expiring
  await rebuildBackup(storage, await writing)
})

for (const moment of ['before', 'after']) {
  test(`a sync whose hold was given up ${moment} its record lists nothing`, async () => {
    const source = copyScene()
    const objects = await newObjects()
    const target = openMemoryStorage(objects)
    const own = packKey('main', ownPackOf(await readBackup(source, 'main', idAt(0))))
    const due = moment === 'before' ? `commit ${own}` : `write ${backupKey('main', idAt(0))}`
    const late = new PausingStorage(target, (call) => call === due)
    const syncing = syncStorages(source, late).catch((error: unknown) => error)
    await late.reached
    for (const { id } of (await listHolds(target, 'main')).holds) {
      await removeHold(target, 'main', id)
    }
    // Packs that are there without their record, and without the copy of it, are garbage.
    if (moment === 'before') await expireAll(target, scene, { last: 1 })
    late.resume()
    const outcome = await syncing
    assert.deepEqual(await rebuildAll(objects), [])
    assert.ok(isFailure(outcome, 'TM1935'), String(outcome))
    await syncStorages(source, target)
    assert.equal((await rebuildAll(objects)).length, 4)
  })
}

test('a backup that is brought while repacking looks again keeps its frames', async () => {
  const storage = copyScene()
  const record = await readBackup(storage, 'main', idAt(1))
  const key = backupKey('main', record.id)
  const bytes = (await storage.read(key)) as Uint8Array
  await storage.remove(key)
  const keys = record.packs.map(({ id }) => packKey('main', id))
  const hold = makeHold({ purpose: 'sync', keys })
  await writeHold(storage, 'main', hold)
  let looks = 0
  const looking = new PausingStorage(storage, (call) => {
    if (call.startsWith('write ')) looks = 1
    return looks > 0 && /^list .*(holds|backups).$/.test(call) && looks++ === 2
  })
  const list = await listBackups(storage, 'main')
  const rule = { leastDeadBytes: 1, leastDeadShare: 0 }
  const { signal } = new AbortController()
  const request = { cluster: 'main', list, expired: new Set([record.id]), rule, signal }
  const repacking = repack({ storage: looking, progress: SILENT, ...request })
  await looking.reached
  await storage.write(key, bytes)
  await removeHold(storage, 'main', hold.id)
  looking.resume()
  await repacking
  await rebuildBackup(storage, record)
})

test('a pin that is acknowledged beside an expiry keeps its backup', async () => {
  const storage = copyScene()
  let calls = 0
  const late = new PausingStorage(storage, (call) => {
    return /^(write .*pin|list .*condemned.)$/.test(call) && ++calls === 2
  })
  const pinning = pinBackup(late, await readBackup(storage, 'main', idAt(2)))
  await late.reached
  const removing = new PausingStorage(storage, (call) => /^removeMany .*record$/.test(call))
  const expiring = expireAll(removing, scene, { last: 1 })
  await Promise.race([removing.reached, expiring])
  late.resume()
  await pinning
  removing.resume()
  await expiring
  assert.ok((await assertListed(storage, scene)).includes(idAt(2)))
})

test('a backup under way keeps its packs, and all WAL where it names none', async () => {
  const storage = copyScene()
  const attemptId = 'd'.repeat(24)
  const key = packKey('main', `${attemptId}00000000`)
  await storage.write(key, Buffer.from('it is being written'))
  const hold = makeHold({ purpose: 'backup', attemptId })
  await writeHold(storage, 'main', hold)
  const { removed } = await expireAll(storage, scene, { last: 2 })
  assert.equal(removed?.expire.length, 1)
  assert.ok((await storage.size(key)) !== undefined)
  for (const segment of [0n, 2n]) assert.ok((await storage.size(walKeyOf(segment))) !== undefined)
  await removeHold(storage, 'main', hold.id)
  await expireAll(storage, scene, { last: 2 })
  await assertListed(storage, scene)
  await assertNoGarbage(storage)
})

test('an expiry leaves the condemned set of another one that lives', async () => {
  const storage = copyScene()
  const late = new PausingStorage(storage, (call) => /^removeMany .*record$/.test(call))
  const expiring = expireAll(late, scene, { last: 2 })
  await late.reached
  const { sets } = await listCondemnedSets(storage, 'main')
  const { otherSets } = await expireAll(storage, scene, { last: 1 })
  assert.deepEqual([otherSets, (await listCondemnedSets(storage, 'main')).sets], [sets, sets])
  late.resume()
  await expiring
  await assertListed(storage, scene)
})

test('a backup that is published between two looks stays whole at least', async () => {
  const storage = copyScene()
  const late = new PausingStorage(storage, (call) => /^list .*packs.$/.test(call))
  const expiring = expireAll(late, scene, { last: 1 })
  await late.reached
  const { id } = await backUp(storage, scene.cluster)
  await backUp(storage, scene.cluster, { rewrite: true })
  late.resume()
  await expiring
  assert.ok((await assertListed(storage, scene)).includes(id))
  await expireAll(storage, scene, { last: 1 })
  assert.equal((await assertListed(storage, scene)).length, 2)
})
