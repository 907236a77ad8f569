/**
 * Expiry that is cut off at every call to its storage, that meets every refusal, and that runs
 * beside backups in orders that a seed decides.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { Failure, isFailure } from '../../src/base/failure.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { decodeEnvelope } from '../../src/repository/envelope.ts'
import { readHolder, writeHold } from '../../src/repository/holds.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { release } from '../../src/retention/release.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { forEachCrashPoint, openFaultyStorage } from '../harness/faulty-storage.ts'
import { randomOf } from '../harness/hand-made-backup.ts'
import { type Actor, interleave } from '../harness/interleaving.ts'
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

/** The first is pinned, two are the last, and the second goes. */
const keptIds = (): string[] => [0, 2, 3].map((at) => scene.ids[at] as string)

async function assertConverges(storage: Storage): Promise<void> {
  await declareWritersDead(storage)
  await expireAll(storage, scene, { last: 2 })
  assert.deepEqual(await assertListed(storage, scene), keptIds())
  await assertNoGarbage(storage)
}

test('what expires is gone, what is kept is whole', async () => {
  const storage = copyScene()
  const { removed } = await expireAll(storage, scene, { last: 2 })
  assert.deepEqual(
    removed?.expire.map(({ id }) => id),
    [scene.ids[1]],
  )
  assert.ok((removed?.packs.length ?? 0) > 1)
  assert.deepEqual(await assertListed(storage, scene), keptIds())
  await assertNoGarbage(storage)
})

test('expiry that crashes at any call leaves what is whole, and the next one ends it', async () => {
  const crashes = await forEachCrashPoint({
    prepare: async () => copyScene(),
    run: async (storage) => await expireAll(storage, scene, { last: 2 }),
    check: async (storage) => {
      const listed = await assertListed(storage, scene)
      for (const id of keptIds()) assert.ok(listed.includes(id))
      await assertConverges(storage)
    },
  })
  assert.ok(crashes > 60, `${crashes} crashes`)
})

for (const kind of ['refused', 'full'] as const) {
  test(`a storage that is ${kind} at any call ends expiry with its own failure`, async () => {
    for (let at = 1; ; at++) {
      const inner = copyScene()
      const storage = openFaultyStorage(inner, [{ at, kind }])
      const outcome = await expireAll(storage, scene, { last: 2 }).catch((error: unknown) => error)
      if (storage.trace.length < at) break
      const listed = await assertListed(inner, scene)
      for (const id of keptIds()) assert.ok(listed.includes(id))
      if (outcome instanceof Error) assert.ok(isFailure(outcome), String(outcome))
      await assertConverges(inner)
    }
  })
}

/** Looks at memory directly after every call: each listed backup has all its packs. */
function watch(objects: ReadonlyMap<string, Uint8Array>): (call: string) => void {
  const known = new Map<string, readonly string[]>()
  return (call) => {
    for (const [key, bytes] of objects) {
      if (!key.endsWith('.record')) continue
      let packs = known.get(key)
      if (packs === undefined) {
        const raw = decodeEnvelope(key, 'RECD', bytes)
        const record = JSON.parse(Buffer.from(raw).toString()) as BackupRecord
        packs = record.packs.map(({ id }) => packKey('main', id))
        known.set(key, packs)
      }
      for (const pack of packs) assert.ok(objects.has(pack), `${call}: ${key} lost ${pack}`)
    }
  }
}

const SEEDS = Number(process.env['TIDEMARK_SEEDS'] ?? 30)
const FIRST_SEED = Number(process.env['TIDEMARK_SEED'] ?? 1)

test('backups and expiries in any order lose nothing and leave nothing', async () => {
  const outcomes = { published: 0, refused: 0, expired: 0 }
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    try {
      await playSeed(scene, seed, outcomes)
    } catch (error) {
      throw new Error(`TIDEMARK_SEED=${seed} TIDEMARK_SEEDS=1`, { cause: error })
    }
  }
  assert.ok(outcomes.published > SEEDS / 2, JSON.stringify(outcomes))
  assert.ok(outcomes.expired > SEEDS / 2, JSON.stringify(outcomes))
})

interface Outcomes {
  published: number
  refused: number
  expired: number
}

async function playSeed(own: Scene, seed: number, outcomes: Outcomes): Promise<void> {
  const random = randomOf(seed)
  const objects = new Map(own.objects)
  const storage = openMemoryStorage(objects)
  const back = async (gated: Storage) => await backUp(gated, own.cluster)
  const policies = [{ last: 1 }, { last: 2 }, { daily: 3 }]
  const policy = policies[random(policies.length)] ?? {}
  const run = async (gated: Storage) => await expireAll(gated, own, policy)
  const actors: Actor[] = [
    { name: 'backup', run: back },
    { name: 'expiry', run },
    ...(random(2) === 0 ? [{ name: 'second backup', run: back }] : []),
    ...(random(2) === 0 ? [{ name: 'second expiry', run }] : []),
  ]
  const victim = random(actors.length + 1)
  const stopAt = random(70)
  const length = random(3) === 0 ? {} : { stopFor: random(150) }
  const stopped = { stopAt, ...length, isKilled: random(4) === 0 }
  const some = actors.map((actor, at) => (at === victim ? { ...actor, ...stopped } : actor))
  for (const { name, result } of await interleave(storage, some, seed, watch(objects))) {
    if (result?.status === 'rejected') {
      assert.ok(result.reason instanceof Failure, String(result.reason))
      outcomes.refused++
    } else if (result !== undefined) outcomes[name.endsWith('backup') ? 'published' : 'expired']++
  }
  await assertListed(storage, own)
  await declareWritersDead(storage)
  await backUp(storage, own.cluster)
  await expireAll(storage, own, { last: 1 })
  assert.equal((await assertListed(storage, own)).length, 2, 'the pinned one and the newest')
  await assertNoGarbage(storage)
}

test('a backup whose base expires while it begins does not hang on it', async () => {
  let held = 0
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const random = randomOf(seed)
    const objects = new Map(scene.objects)
    const storage = openMemoryStorage(objects)
    const back = async (gated: Storage) => await backUp(gated, scene.cluster)
    // It has chosen the newest backup when another one becomes the newest, and that one expires.
    const chosen = { name: 'backup', run: back, stopAt: 9 + random(4), stopFor: 60 + random(120) }
    const run = async (gated: Storage) => {
      await back(gated)
      return await expireAll(gated, scene, { last: 1 })
    }
    const outcomes = await interleave(storage, [chosen, { name: 'e', run }], seed, watch(objects))
    for (const { result } of outcomes) assert.equal(result?.status, 'fulfilled', `seed ${seed}`)
    const record = outcomes[0]?.result as PromiseFulfilledResult<BackupRecord> | undefined
    if (record?.value.comparedWith === scene.ids.at(-1)) held++
    await assertListed(storage, scene)
  }
  assert.ok(held > 0 && held < SEEDS, `${held} of ${SEEDS} kept their base`)
})

test('what cannot be judged ends expiry, and can be given up', async () => {
  const storage = copyScene()
  const lost = scene.ids[1] as string
  const key = backupKey('main', lost)
  const record = await storage.read(key)
  assert.ok(record !== undefined)
  // Its packs are there, and nobody has expired it.
  await storage.remove(key)
  await assert.rejects(expireAll(storage, scene, { last: 1 }), { code: 'TM1902' })
  await storage.write(key, Buffer.from('torn'))
  await assert.rejects(expireAll(storage, scene, { last: 1 }), { code: 'TM1902' })
  await storage.write(key, record)
  await storage.write('clusters/main/holds/20260101-000000-torn.hold', Buffer.from('torn'))
  await assert.rejects(expireAll(storage, scene, { last: 1 }), { code: 'TM1902' })
  await assert.rejects(release(storage, 'main', lost), { code: 'TM1903' })
  await release(storage, 'main', '20260101-000000-torn')
  await storage.remove(key)
  assert.deepEqual(await release(storage, 'main', lost), { kind: 'record', id: lost })
  await expireAll(storage, scene, { last: 2 })
  assert.deepEqual(await assertListed(storage, scene), keptIds())
  await assertNoGarbage(storage)
})

test('a hold of a process that lives is not given up', async () => {
  const storage = copyScene()
  const id = '20260101-000000-mine'
  const hold = { id, purpose: 'restore', startedAt: '', needs: [] } as const
  await writeHold(storage, 'main', { ...hold, ...readHolder() })
  await assert.rejects(release(storage, 'main', id), { code: 'TM1906' })
})

test('an object that is locked is reported, and what it needs stays', async () => {
  const storage = copyScene()
  const locked = backupKey('main', scene.ids[1] as string)
  const removeMany = storage.removeMany.bind(storage)
  let isLocked = true
  storage.removeMany = async (keys) => {
    await removeMany(keys.filter((key) => !isLocked || key !== locked))
    if (!isLocked || !keys.includes(locked)) return
    throw new Failure('TM1513' as never, { message: 'locked', because: 'until 2030', fix: 'wait' })
  }
  const { locked: refused } = await expireAll(storage, scene, { last: 2 })
  assert.deepEqual(refused, [{ key: locked, because: 'until 2030' }])
  assert.deepEqual(await assertListed(storage, scene), scene.ids)
  isLocked = false
  await expireAll(storage, scene, { last: 2 })
  assert.deepEqual(await assertListed(storage, scene), keptIds())
  await assertNoGarbage(storage)
})

test('a store that does not list what was written is found out', async () => {
  const storage = copyScene()
  const list = storage.list.bind(storage)
  storage.list = (prefix) => list(prefix.endsWith('/condemned/') ? `${prefix}none` : prefix)
  await assert.rejects(expireAll(storage, scene, { last: 2 }), { code: 'TM1905' })
  assert.deepEqual(await assertListed(copyScene(), scene), scene.ids)
  assert.equal((await assertListed(storage, scene)).length, BACKUPS)
})
