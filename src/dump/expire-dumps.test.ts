/** Expiry of dumps that is cut off at every call to its storage, and that meets every refusal. */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import {
  assertDumpsWhole,
  assertNoDumpGarbage,
  DAY_MS,
  FIRST_DUMP_AT,
  handMadeDumpRecord,
  handMadePackId,
  putDump,
  putPack,
} from '../../test/harness/hand-made-dump.ts'
import { collect, forEachCrashPoint, openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { declareWritersDead } from '../../test/simulation/expiry-scene.ts'
import { now } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import { writeCondemnedSet } from '../repository/condemned-sets.ts'
import { readHolder, writeHold } from '../repository/holds.ts'
import { dumpKey, dumpPackKey, dumpPinKey } from '../repository/keys.ts'
import { labelDump, pinDump } from '../repository/marks.ts'
import { createRepository } from '../repository/repository.ts'
import { expire } from '../retention/expire.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { type ExpireDumpsResult, expireDumps } from './expire-dumps.ts'
import type { DumpPolicy } from './plan-dump-expiration.ts'

/** Each of five refers to the pack of the one before; the first is pinned, the second labelled. */
const RECORDS = [[0], [1, 0], [2, 1], [3, 2], [4, 3]].map((packs, number) =>
  handMadeDumpRecord(number, packs),
)
const idOf = (number: number): string => RECORDS[number]?.id ?? ''
const KEPT = [0, 3, 4].map(idOf)
const LAST_2 = { keepLast: 2, keepDays: 0 }

const objects = new Map<string, Uint8Array>()

before(async () => {
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  for (const record of RECORDS) await putDump(storage, record)
  await pinDump(storage, { cluster: 'main', id: idOf(0) })
  await labelDump(storage, { cluster: 'main', id: idOf(1) }, { why: 'because' })
  await putPack(storage, 99)
})

const copyScene = (): Storage => openMemoryStorage(new Map(objects))

async function expireAll(
  storage: Storage,
  given: DumpPolicy | 'none' = LAST_2,
  apply = true,
): Promise<ExpireDumpsResult> {
  const { signal } = new AbortController()
  const policy = given === 'none' ? undefined : given
  const at = new Date(FIRST_DUMP_AT + 5 * DAY_MS)
  return await expireDumps({
    storage,
    cluster: 'main',
    policy,
    apply,
    progress: SILENT,
    signal,
    at,
  })
}

async function assertConverges(storage: Storage): Promise<void> {
  await declareWritersDead(storage)
  await expireAll(storage)
  assert.deepEqual(await assertDumpsWhole(storage), KEPT)
  await assertNoDumpGarbage(storage)
}

test('what expires is gone with its packs and marks, what is kept is whole', async () => {
  const storage = copyScene()
  const { removed, plan } = await expireAll(storage)
  assert.deepEqual(
    removed?.expire.map(({ id }) => id),
    [1, 2].map(idOf),
  )
  assert.deepEqual(
    plan.packs.map(({ id }) => id),
    [1, 99].map(handMadePackId),
  )
  assert.equal(plan.marks.length, 1)
  await assertConverges(storage)
})

test('without --apply nothing is written and nothing goes', async () => {
  const storage = openFaultyStorage(copyScene(), [])
  const { plan, removed } = await expireAll(storage, LAST_2, false)
  assert.equal(removed, undefined)
  assert.equal(plan.expire.length, 2)
  assert.deepEqual([...new Set(storage.trace.map(({ operation }) => operation))].sort(), [
    'list',
    'read',
  ])
})

test('without retention what nobody needs goes, and every dump stays', async () => {
  const storage = copyScene()
  await expireAll(storage, 'none')
  assert.equal((await assertDumpsWhole(storage)).length, RECORDS.length)
  await assertNoDumpGarbage(storage)
})

test('expiry that crashes at any call leaves what is whole, and the next one ends it', async () => {
  const crashes = await forEachCrashPoint({
    prepare: async () => copyScene(),
    run: async (storage) => await expireAll(storage),
    check: async (storage) => {
      const listed = await assertDumpsWhole(storage)
      for (const id of KEPT) assert.ok(listed.includes(id))
      await assertConverges(storage)
    },
  })
  assert.ok(crashes > 30, `${crashes} crashes`)
})

for (const kind of ['refused', 'full'] as const) {
  test(`a storage that is ${kind} at any call ends it with its own failure`, async () => {
    for (let at = 1; ; at++) {
      const inner = copyScene()
      const storage = openFaultyStorage(inner, [{ at, kind }])
      const outcome = await expireAll(storage).catch((error: unknown) => error)
      if (storage.trace.length < at) break
      const listed = await assertDumpsWhole(inner)
      for (const id of KEPT) assert.ok(listed.includes(id))
      if (outcome instanceof Error) assert.ok(isFailure(outcome), String(outcome))
      await assertConverges(inner)
    }
  })
}

test('a record or a hold that cannot be read stops all removal, and says so', async () => {
  for (const key of [dumpKey('main', idOf(3)), 'clusters/main/holds/20260101-000000-torn.hold']) {
    const storage = copyScene()
    await storage.write(key, Buffer.from('torn'))
    const before = storage.size(dumpPackKey('main', handMadePackId(99)))
    await assert.rejects(expireAll(storage), (error) => {
      return isFailure(error, 'TM2060') && error.message.includes(key)
    })
    assert.equal((await expireAll(storage, LAST_2, false)).plan.blocked[0]?.key, key)
    assert.deepEqual(await storage.size(dumpPackKey('main', handMadePackId(99))), await before)
  }
})

test('packs of an attempt under way and what a reader holds stay', async () => {
  const storage = copyScene()
  const own = { ...readHolder(), startedAt: '', needs: [] }
  const attemptId = handMadePackId(99).slice(0, 24)
  await writeHold(storage, 'main', {
    id: '20260101-000000-dump',
    purpose: 'dump',
    attemptId,
    ...own,
  })
  const keys = [dumpKey('main', idOf(1))]
  await writeHold(storage, 'main', { id: '20260101-000000-load', purpose: 'restore', keys, ...own })
  await expireAll(storage)
  assert.deepEqual(await assertDumpsWhole(storage), [0, 1, 3, 4].map(idOf))
  assert.ok((await storage.size(dumpPackKey('main', handMadePackId(99)))) !== undefined)
})

test('what comes between the two looks is kept: a pin, and a dump on old packs', async () => {
  const inner = copyScene()
  let isDone = false
  const storage = new Proxy(inner, {
    get(target, name) {
      const value = Reflect.get(target, name)
      if (name !== 'write') return typeof value === 'function' ? value.bind(target) : value
      return async (key: string, bytes: Uint8Array) => {
        if (key.includes('/condemned/') && !isDone) {
          isDone = true
          await inner.write(dumpPinKey('main', idOf(1)), Buffer.from('torn'))
          await putDump(inner, handMadeDumpRecord(9, [99, 9]))
        }
        await target.write(key, bytes)
      }
    },
  })
  const { removed } = await expireAll(storage)
  assert.ok(isDone)
  assert.deepEqual(
    removed?.expire.map(({ id }) => id),
    [idOf(2)],
  )
  assert.equal((await assertDumpsWhole(inner)).length, 5)
})

test('a storage that does not list the set at once lets nothing be removed', async () => {
  const storage = copyScene()
  const list = storage.list.bind(storage)
  storage.list = async function* (prefix: string) {
    // As a listing out of a cache; each object by its key is there.
    if (!prefix.includes('/condemned/')) yield* list(prefix)
  }
  await assert.rejects(expireAll(storage), { code: 'TM1905' })
  assert.equal((await assertDumpsWhole(storage)).length, RECORDS.length)
  assert.ok((await storage.size(dumpPackKey('main', handMadePackId(99)))) !== undefined)
})

test('the set stays when nobody knows whether a removal took effect, else it goes', async () => {
  for (const part of ['/dumps/', '/dump-packs/', 'list']) {
    const storage = copyScene()
    const removeMany = storage.removeMany.bind(storage)
    const refuse = (): never => {
      throw new Failure('TM1501', { message: 'no answer', because: 'the line is cut', fix: 'wait' })
    }
    storage.removeMany = async (keys) => {
      if (keys.some((key) => key.includes(part))) refuse()
      await removeMany(keys)
    }
    const list = storage.list.bind(storage)
    let looks = 0
    storage.list = (prefix) => {
      // The second look, before any removal.
      return part === 'list' && prefix.endsWith('/dump-packs/') && ++looks === 2
        ? refuse()
        : list(prefix)
    }
    await assert.rejects(expireAll(storage), { code: 'TM1501' })
    const sets = await collect(list('clusters/main/condemned/'))
    assert.equal(sets.length, part === 'list' ? 0 : 1, part)
    storage.removeMany = removeMany
    storage.list = list
    await assertConverges(storage)
  }
})

test('a record that is locked is reported, and what it needs stays', async () => {
  const storage = copyScene()
  const locked = dumpKey('main', idOf(1))
  const removeMany = storage.removeMany.bind(storage)
  storage.removeMany = async (keys) => {
    await removeMany(keys.filter((key) => key !== locked))
    if (!keys.includes(locked)) return
    throw new Failure('TM1513' as never, { message: 'locked', because: 'until 2030', fix: 'wait' })
  }
  assert.deepEqual((await expireAll(storage)).locked, [{ key: locked, because: 'until 2030' }])
  assert.deepEqual(await assertDumpsWhole(storage), [0, 1, 3, 4].map(idOf))
})

test('what expires backups sees nothing of dumps, and the other way round', async () => {
  const storage = copyScene()
  const before = [...objects.keys()].sort()
  await storage.write(
    'clusters/main/packs/aaaaaaaaaaaaaaaaaaaaaaaa/00000000.pack',
    Buffer.from('x'),
  )
  const { signal } = new AbortController()
  const request = { storage, cluster: 'main', policy: undefined, progress: SILENT, signal }
  await expire({ ...request, apply: true })
  const left = (await collect(storage.list(''))).map(({ key }) => key)
  assert.deepEqual(left.sort(), before)
  const pack = 'clusters/main/packs/aaaaaaaaaaaaaaaaaaaaaaaa/00000000.pack'
  await storage.write(pack, Buffer.from('x'))
  await expireAll(storage)
  assert.ok((await storage.size(pack)) !== undefined)
})

test('a set that remembers expired backups is left to their expiry', async () => {
  const storage = copyScene()
  const set = { id: 'a'.repeat(16), host: 'h', writer: 'w', startedAt: '', isLeft: true, packs: [] }
  await writeCondemnedSet(storage, 'main', { ...set, backups: [idOf(0)], keys: [] })
  await expireAll(storage)
  assert.ok((await storage.size(`clusters/main/condemned/${set.id}.set`)) !== undefined)
})
