/**
 * What expiry leaves in packs: no copy of an expired record, and everything of a lost one; also
 * when it is cut off anywhere, and beside backups and a catalogue that is rebuilt.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { Failure, isFailure } from '../../src/base/failure.ts'
import { rebuildCatalogue } from '../../src/recovery/verify.ts'
import { backupKey } from '../../src/repository/keys.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { forEachCrashPoint } from '../harness/faulty-storage.ts'
import { randomOf } from '../harness/hand-made-backup.ts'
import { interleave } from '../harness/interleaving.ts'
import {
  assertListed,
  assertNoGarbage,
  BACKUPS,
  backUp,
  change,
  declareWritersDead,
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

/** Without the pin the first backup goes, whose packs the later ones need in part. */
function copyUnpinned(): Storage {
  return openMemoryStorage(new Map([...scene.objects].filter(([key]) => !key.includes('/pins/'))))
}
const never = new AbortController().signal

async function rebuild(storage: Storage): Promise<string[]> {
  return (await rebuildCatalogue(storage, 'main', never)).map(({ backupId }) => backupId)
}

test('a copy of a record goes with its backup, wherever expiry is cut off', async () => {
  const whole = copyUnpinned()
  const { repacking } = await expireAll(whole, scene, { last: 2 })
  assert.equal(repacking?.repacked.length, 1)
  assert.deepEqual(repacking?.unfinished, [])
  const crashes = await forEachCrashPoint({
    prepare: async () => copyUnpinned(),
    run: async (storage) => await expireAll(storage, scene, { last: 2 }),
    check: async (storage) => {
      const { backups } = await listBackups(storage, 'main')
      assert.deepEqual(await rebuild(storage), [], 'at the crash')
      await declareWritersDead(storage)
      assert.deepEqual(await rebuild(storage), [], 'before the next expiry')
      assert.equal((await listBackups(storage, 'main')).backups.length, backups.length)
      await expireAll(storage, scene, { last: 2 })
      assert.deepEqual(await rebuild(storage), [], 'after the next expiry')
      await assertListed(storage, scene)
      await assertNoGarbage(storage)
    },
  })
  assert.ok(crashes > 60, `${crashes} crashes`)
})

test('while a record is lost nothing expires, and it comes back whole', async () => {
  for (const lost of scene.ids.slice(1)) {
    const storage = copyScene()
    const record = await storage.read(backupKey('main', lost))
    await storage.remove(backupKey('main', lost))
    for (let run = 0; run < 2; run++) {
      await assert.rejects(expireAll(storage, scene, { last: 1 }), (error) => {
        return isFailure(error, 'TM1902') && JSON.stringify(error).includes(lost)
      })
    }
    assert.deepEqual(await rebuild(storage), [lost])
    assert.deepEqual(await storage.read(backupKey('main', lost)), record)
    assert.equal((await assertListed(storage, scene)).length, scene.ids.length)
    await expireAll(storage, scene, { last: 1 })
    await assertListed(storage, scene)
  }
})

const SEEDS = Number(process.env['TIDEMARK_SEEDS'] ?? 25)
const FIRST_SEED = Number(process.env['TIDEMARK_SEED'] ?? 1)

test('backups, expiries and rebuilt catalogues in any order lose and revive nothing', async () => {
  let ended = 0
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const random = randomOf(seed)
    const storage = random(2) === 0 ? copyScene() : copyUnpinned()
    const back = async (gated: Storage) => await backUp(gated, scene.cluster)
    const expire = async (gated: Storage) => await expireAll(gated, scene, { last: 1 })
    const actors = [
      { name: 'backup', run: back },
      { name: 'expiry', run: expire },
      { name: 'rebuild', run: rebuild },
      { name: 'second expiry', run: expire },
    ]
    const stopped = { stopAt: random(90), stopFor: random(200), isKilled: random(3) === 0 }
    const victim = random(actors.length + 1)
    const some = actors.map((actor, at) => (at === victim ? { ...actor, ...stopped } : actor))
    for (const { result } of await interleave(storage, some, seed, () => {})) {
      if (result?.status === 'rejected') {
        assert.ok(result.reason instanceof Failure, `seed ${seed}: ${String(result.reason)}`)
      } else ended++
    }
    await assertListed(storage, scene)
    // The next expiry takes over what the killed ones left, and is killed as well.
    await declareWritersDead(storage)
    const killed = { name: 'expiry', run: expire, stopAt: random(120), isKilled: true }
    await interleave(storage, [killed, { name: 'rebuild', run: rebuild }], seed, () => {})
    await assertListed(storage, scene)
    await declareWritersDead(storage)
    await expireAll(storage, scene, { last: 1 })
    assert.deepEqual(await rebuild(storage), [], `seed ${seed}`)
    await assertListed(storage, scene)
    await assertNoGarbage(storage)
  }
  assert.ok(ended > SEEDS * 2, `${ended} ended well`)
})

/** As a store with object lock: `isLocked` objects refuse their removal, all others go. */
function lockObjects(storage: Storage, isLocked: (key: string) => boolean): Storage {
  const { remove, removeMany } = storage
  const locked = (key: string): Failure =>
    new Failure('TM1513', { message: `${key} is locked`, fix: 'wait' })
  return Object.assign(storage, {
    remove: async (key: string) => {
      if (isLocked(key)) throw locked(key)
      await remove.call(storage, key)
    },
    removeMany: async (keys: readonly string[]) => {
      const free = keys.filter((key) => !isLocked(key))
      await removeMany.call(storage, free)
      if (free.length < keys.length) throw locked(keys.find(isLocked) as string)
    },
  })
}

test('packs that are locked for longer than their records leave no lost record', async () => {
  let isOver = false
  const storage = lockObjects(copyScene(), (key) => !isOver && key.includes('/packs/'))
  const { locked } = await expireAll(storage, scene, { last: 2 })
  assert.ok(locked.length > 0)
  assert.deepEqual(await rebuild(storage), [])
  for (let run = 0; run < 2; run++) {
    const again = await expireAll(storage, scene, { last: 2 })
    assert.equal(again.locked.length, locked.length)
    assert.deepEqual(await rebuild(storage), [])
  }
  isOver = true
  await expireAll(storage, scene, { last: 2 })
  assert.deepEqual(await rebuild(storage), [])
  await assertListed(storage, scene)
  await assertNoGarbage(storage)
})

test('locked packs of a backup that failed at its end are no backup that was lost', async () => {
  let isOver = false
  const storage = lockObjects(copyScene(), (key) => !isOver && key.includes('/packs/'))
  const { write } = storage
  storage.write = async (key, bytes, options) => {
    if (key.endsWith('.record')) throw new Failure('TM1506', { message: 'full', fix: '' })
    await write.call(storage, key, bytes, options)
  }
  await assert.rejects(backUp(storage, scene.cluster), (error) => isFailure(error, 'TM1506'))
  assert.deepEqual(await rebuild(storage), [])
  assert.ok((await expireAll(storage, scene, { last: 9 })).locked.length > 0)
  isOver = true
  await expireAll(storage, scene, { last: 9 })
  assert.deepEqual(await rebuild(storage), [])
  await assertNoGarbage(storage)
  assert.equal((await assertListed(storage, scene)).length, scene.ids.length)
})
