/**
 * `key rotate --rewrite` beside expiry and backups, in orders that a seed decides, stopped and
 * killed: what was removed does not come back, what is listed is whole, and another run ends it.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { Failure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { decodeEnvelope } from '../../src/repository/envelope.ts'
import { packKey } from '../../src/repository/keys.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { findOlderKey, rewriteObjects } from '../../src/repository/rewrite-objects.ts'
import { generationKey, type Sealing } from '../../src/storage/data-keys.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { isSealedKey, openSealedStorage } from '../../src/storage/sealed-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { randomOf } from '../harness/hand-made-backup.ts'
import { type Actor, interleave } from '../harness/interleaving.ts'
import { testDataKey, testSealing } from '../harness/sealing.ts'
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

const SEEDS = Number(process.env['TIDEMARK_SEEDS'] ?? 30)
const FIRST_SEED = Number(process.env['TIDEMARK_SEED'] ?? 1)

let scene: Scene
/** The scene, sealed under the first of two keys. */
let sealed: ReadonlyMap<string, Uint8Array>
let sealing: Sealing
/** Packs by the key of the record that names them. */
const needed = new Map<string, readonly string[]>()

before(async () => {
  scene = await makeScene()
  change(scene, BACKUPS)
  const objects = new Map<string, Uint8Array>()
  const { repositoryId } = await createRepository(openMemoryStorage(objects), new Date(0), true)
  objects.set(generationKey(1), Buffer.from('not looked at: it is known'))
  objects.set(generationKey(2), Buffer.from('not looked at: it is known'))
  const first = testSealing('test', repositoryId)
  sealing = { ...first, keys: [...first.keys, testDataKey('second', 2)] }
  const storage = openSealedStorage(openMemoryStorage(objects), first)
  for (const [key, bytes] of scene.objects) {
    if (isSealedKey(key)) await storage.write(key, bytes)
    if (!key.endsWith('.record')) continue
    const raw = Buffer.from(decodeEnvelope(key, 'RECD', bytes)).toString()
    const { packs } = JSON.parse(raw) as BackupRecord
    needed.set(
      key,
      packs.map(({ id }) => packKey('main', id)),
    )
  }
  sealed = objects
})

/** After every call: no record that was there before is there without its packs, or again. */
function watch(objects: ReadonlyMap<string, Uint8Array>): (call: string) => void {
  const gone = new Set<string>()
  return (call) => {
    for (const [key, packs] of needed) {
      if (!objects.has(key)) gone.add(key)
      else {
        assert.ok(!gone.has(key), `${call}: ${key} has come back`)
        for (const pack of packs) assert.ok(objects.has(pack), `${call}: ${key} lost ${pack}`)
      }
    }
  }
}

const open = (storage: Storage) => openSealedStorage(storage, sealing)

async function rewrite(storage: Storage) {
  return await rewriteObjects(open(storage), SILENT, new AbortController().signal)
}

async function playSeed(seed: number): Promise<string[]> {
  const random = randomOf(seed)
  const objects = new Map(sealed)
  const storage = openMemoryStorage(objects)
  const expiry = async (gated: Storage) => await expireAll(open(gated), scene, { last: 1 })
  const back = async (gated: Storage) => await backUp(open(gated), scene.cluster)
  const actors: Actor[] = [
    { name: 'rewrite', run: rewrite },
    { name: 'expiry', run: expiry },
    ...(random(2) === 0 ? [{ name: 'second rewrite', run: rewrite }] : []),
    ...(random(2) === 0 ? [{ name: 'backup', run: back }] : []),
  ]
  const victim = random(actors.length + 1)
  const length = random(3) === 0 ? {} : { stopFor: random(400) }
  const stopped = { stopAt: random(200), ...length, isKilled: random(4) === 0 }
  const some = actors.map((actor, at) => (at === victim ? { ...actor, ...stopped } : actor))
  const ended: string[] = []
  for (const { name, result } of await interleave(storage, some, seed, watch(objects))) {
    if (result?.status === 'fulfilled') ended.push(name)
    else if (result !== undefined) assert.ok(result.reason instanceof Failure, `${result.reason}`)
  }
  await assertListed(open(storage), scene)
  await declareWritersDead(open(storage))
  await backUp(open(storage), scene.cluster)
  await rewrite(storage)
  assert.equal(await findOlderKey(open(storage)), undefined)
  await expireAll(open(storage), scene, { last: 1 })
  assert.equal((await assertListed(open(storage), scene)).length, 2, 'the pinned and the newest')
  await assertNoGarbage(open(storage))
  return ended
}

test('rewrites, expiries, backups in any order lose nothing and bring nothing back', async () => {
  const ended: string[] = []
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    try {
      ended.push(...(await playSeed(seed)))
    } catch (error) {
      throw new Error(`TIDEMARK_SEED=${seed} TIDEMARK_SEEDS=1`, { cause: error })
    }
  }
  for (const name of ['rewrite', 'expiry', 'backup']) {
    assert.ok(ended.filter((one) => one === name).length > SEEDS / 5, `${name}: ${ended.join()}`)
  }
})
