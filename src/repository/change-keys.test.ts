/** Slots added and removed, data keys rotated, objects sealed anew: alone, raced and cut off. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import {
  type CrashPoint,
  damageObject,
  forEachCrashPoint,
} from '../../test/harness/faulty-storage.ts'
import { isFailure } from '../base/failure.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import { SILENT } from '../base/progress.ts'
import { generationKey, type Sealing, slotKey } from '../storage/data-keys.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { openSealedStorage, type SealedStorage } from '../storage/sealed-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { addSlot, readKeyState, removeSlot, rotateDataKey } from './change-keys.ts'
import { writeCondemnedSet } from './condemned-sets.ts'
import { listHolds } from './holds.ts'
import type { KeySecret } from './key-slots.ts'
import { createRepository } from './repository.ts'
import { findOlderKey, listKeyUse, rewriteObjects } from './rewrite-objects.ts'
import { ensureFirstKey, unlockRepository } from './unlock.ts'

const AT = new Date('2026-11-21T00:00:00Z')
const NEVER = new AbortController().signal

const secretOf = (text: string): KeySecret => ({
  kind: 'key-file',
  bytes: Buffer.from(text.padEnd(40)),
  where: 'repositories.local.encryption',
})
const [FIRST, SECOND, THIRD] = ['first', 'second', 'third'].map(secretOf) as [
  KeySecret,
  KeySecret,
  KeySecret,
]
const slotFor = (secret: KeySecret) => ({ secret, label: 'x', createdAt: AT })
const fails = (code: FailureCode) => (error: unknown) => isFailure(error, code) && error.fix !== ''

let objects: Map<string, Uint8Array>
let storage: Storage

async function create(): Promise<Storage> {
  objects = new Map()
  storage = openMemoryStorage(objects)
  await createRepository(storage, AT, true)
  await ensureFirstKey(storage, slotFor(FIRST))
  return storage
}

beforeEach(async () => {
  await create()
})

const unlock = async (secret: KeySecret, from = storage): Promise<Sealing> =>
  await unlockRepository(from, secret)

const open = async (secret: KeySecret, from = storage): Promise<SealedStorage> =>
  openSealedStorage(from, await unlock(secret, from))

const CONTENTS = new Map(
  [0, 1, 100, 65536, 200_000].map((size) => [`clusters/main/wal/${size}`, Buffer.alloc(size, 7)]),
)

async function writeContents(sealed: Storage): Promise<void> {
  for (const [key, bytes] of CONTENTS) await sealed.write(key, bytes)
}

async function assertContents(sealed: Storage): Promise<void> {
  for (const [key, bytes] of CONTENTS) {
    assert.ok(bytes.equals((await sealed.read(key)) ?? Buffer.from('absent')), key)
  }
}

async function usesOf(sealed: SealedStorage): Promise<Map<string | undefined, string[]>> {
  const uses = new Map<string | undefined, string[]>()
  for await (const { key, keyId } of listKeyUse(sealed, '')) {
    uses.set(keyId, [...(uses.get(keyId) ?? []), key])
  }
  return uses
}

test('an added slot opens everything, before and after rotations that it did not see', async () => {
  await writeContents(await open(FIRST))
  const slot = await addSlot(storage, await unlock(FIRST), slotFor(SECOND))
  await assertContents(await open(SECOND))
  for (let turn = 0; turn < 3; turn++) await rotateDataKey(storage, await unlock(FIRST), AT)
  await assertContents(await open(SECOND))
  await addSlot(storage, await unlock(SECOND), slotFor(THIRD))
  const sealed = await open(THIRD)
  await assertContents(sealed)
  assert.equal((await readKeyState(storage, await unlock(THIRD))).members.length, 3)
  assert.equal(slot.kind, 'key-file')
})

test('what is written after a rotation has the new key, and all can be read', async () => {
  await writeContents(await open(FIRST))
  const before = await open(FIRST)
  const { key } = await rotateDataKey(storage, await unlock(FIRST), AT)
  assert.equal(key.generation, 2)
  const sealed = await open(FIRST)
  await sealed.write('clusters/main/new', Buffer.from('new'))
  assert.equal((await sealed.findSeal('clusters/main/new'))?.keyId, key.id)
  await assertContents(sealed)
  const read = await before.read('clusters/main/new')
  assert.equal(Buffer.from(read ?? []).toString(), 'new', 'a process that began before reads it')
  await before.write('clusters/main/newer', Buffer.from('x'))
  assert.equal((await before.findSeal('clusters/main/newer'))?.keyId, key.id, 'and follows')
})

test('a process that began before seals with the new key once it looks again', async () => {
  const slow = openSealedStorage(storage, await unlock(FIRST))
  const quick = openSealedStorage(storage, await unlock(FIRST), 0)
  const { key } = await rotateDataKey(storage, await unlock(FIRST), AT)
  await slow.write('clusters/main/slow', Buffer.from('x'))
  await quick.write('clusters/main/quick', Buffer.from('x'))
  const writer = await quick.openWriter('clusters/main/written')
  writer.append([Buffer.from('x')])
  await writer.commit()
  assert.notEqual((await quick.findSeal('clusters/main/slow'))?.keyId, key.id)
  for (const name of ['quick', 'written']) {
    assert.equal((await quick.findSeal(`clusters/main/${name}`))?.keyId, key.id)
  }
})

test('a process whose slot was removed reads what there was, and writes no more', async () => {
  const slot = await addSlot(storage, await unlock(FIRST), slotFor(SECOND))
  const other = openSealedStorage(storage, await unlock(SECOND), 0)
  await other.write('clusters/main/a', Buffer.from('a'))
  await removeSlot(storage, await unlock(FIRST), slot.id)
  await rotateDataKey(storage, await unlock(FIRST), AT)
  await assert.rejects(other.write('clusters/main/b', Buffer.from('b')), fails('TM1526'))
  assert.equal((await other.read('clusters/main/a'))?.length, 1)
})

test('a removed slot opens nothing, and nothing that is sealed after a rotation', async () => {
  const slot = await addSlot(storage, await unlock(FIRST), slotFor(SECOND))
  const kept = objects.get(slotKey(slot.id)) as Uint8Array
  const stolen = await unlock(SECOND)
  await removeSlot(storage, await unlock(FIRST), slot.id)
  await assert.rejects(unlock(SECOND), fails('TM1522'))
  await assert.rejects(removeSlot(storage, await unlock(FIRST), slot.id), fails('TM1525'))
  const { slots } = await rotateDataKey(storage, await unlock(FIRST), AT)
  assert.equal(slots.length, 1)
  await (await open(FIRST)).write('clusters/main/new', Buffer.from('new'))
  // Put back by whoever has kept it: it opens what it opened, and rotations pass it over.
  objects.set(slotKey(slot.id), kept)
  await assert.rejects(unlock(SECOND), fails('TM1526'))
  await assert.rejects(openSealedStorage(storage, stolen).read('clusters/main/new'))
  const again = await rotateDataKey(storage, await unlock(FIRST), AT)
  assert.deepEqual(
    again.left.map((one) => one.slot),
    [slot.id],
  )
  await assert.rejects(unlock(SECOND), fails('TM1526'))
})

test('a slot that nobody with a key has let in is wrapped for by no rotation', async () => {
  const elsewhere = openMemoryStorage()
  const marker = objects.get('tidemark.repository') as Uint8Array
  await elsewhere.write('tidemark.repository', marker)
  await ensureFirstKey(elsewhere, slotFor(SECOND))
  const planted = await unlock(SECOND, elsewhere)
  const key = slotKey(planted.slotId)
  objects.set(key, (await elsewhere.read(key)) as Uint8Array)
  const { slots, left } = await rotateDataKey(storage, await unlock(FIRST), AT)
  assert.equal(slots.length, 1)
  assert.equal(left[0]?.slot, planted.slotId)
  await assert.rejects(unlock(SECOND), fails('TM1526'))
})

for (const isWrapped of [false, true]) {
  const when = isWrapped ? 'in the generation' : 'in the slot'
  test(`a public key that was exchanged is wrapped for by no rotation: ${when}`, async () => {
    const slot = await addSlot(storage, await unlock(FIRST), slotFor(SECOND))
    const other = await addSlot(storage, await unlock(FIRST), slotFor(THIRD))
    if (isWrapped) await rotateDataKey(storage, await unlock(FIRST), AT)
    const text = Buffer.from(objects.get(slotKey(slot.id)) as Uint8Array).toString()
    const whole = JSON.parse(text) as { content: string; proof: string }
    const content = whole.content.replace(slot.publicKey, other.publicKey)
    const sha256 = createHash('sha256').update(content).digest('hex')
    objects.set(slotKey(slot.id), Buffer.from(JSON.stringify({ ...whole, content, sha256 })))
    const { left, slots } = await rotateDataKey(storage, await unlock(FIRST), AT)
    assert.deepEqual(
      left.map((one) => one.slot),
      [slot.id],
    )
    assert.equal(slots.length, 2)
  })
}

test('no rotation makes a key that does not open for who makes it', async () => {
  const sealing = await unlock(FIRST)
  objects.delete(slotKey(sealing.slotId))
  await assert.rejects(rotateDataKey(storage, sealing, AT), fails('TM1526'))
  assert.ok(!objects.has(generationKey(2)))
})

test('of two rotations at once one wins, and the loser says so', async () => {
  const sealing = await unlock(FIRST)
  const results = await Promise.allSettled([
    rotateDataKey(storage, sealing, AT),
    rotateDataKey(storage, sealing, AT),
  ])
  const lost = results.filter((result) => result.status === 'rejected')
  assert.equal(lost.length, 1)
  assert.ok(fails('TM1528')(lost[0]?.reason))
  await writeContents(await open(FIRST))
  await assertContents(await open(FIRST))
})

/** `act` is done in the middle of what uses the storage: before its call number `at`. */
function interrupt(inner: Storage, at: number, act: () => Promise<unknown>) {
  let calls = 0
  const state = { acted: false }
  const step = async (): Promise<void> => {
    calls += 1
    if (calls !== at) return
    state.acted = true
    await act()
  }
  const storage = new Proxy(inner, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      if (name === 'list') {
        return async function* (prefix: string) {
          await step()
          yield* target.list(prefix)
        }
      }
      return async (...args: unknown[]) => {
        await step()
        return await value.apply(target, args)
      }
    },
  })
  return { storage, state }
}

test('a slot added at any moment of a rotation opens the new key; and reversed', async () => {
  for (const isRotation of [true, false]) {
    for (let at = 1; ; at++) {
      await create()
      const sealing = await unlock(FIRST)
      const add = async (to: Storage) => await addSlot(to, sealing, slotFor(SECOND))
      const rotate = async (of: Storage) => await rotateDataKey(of, sealing, AT)
      const [outer, inner] = isRotation ? [rotate, add] : [add, rotate]
      const { storage: interrupted, state } = interrupt(
        storage,
        at,
        async () => await inner(storage),
      )
      await outer(interrupted)
      if (!state.acted) break
      for (const secret of [FIRST, SECOND]) {
        assert.equal((await unlock(secret)).keys.length, 2, `call ${at}`)
      }
    }
  }
})

test('a slot that is added in the middle of two rotations opens what is newest', async () => {
  let joined = 0
  for (let first = 1; ; first++) {
    let isLast = false
    for (let second = 1; ; second++) {
      await create()
      const sealing = await unlock(FIRST)
      const twice = async (): Promise<void> => {
        await rotateDataKey(storage, await unlock(FIRST), AT).catch((error: unknown) => {
          assert.ok(fails('TM1528')(error))
        })
      }
      const outer = interrupt(storage, first, async () => {
        await addSlot(storage, sealing, slotFor(SECOND))
      })
      const inner = interrupt(outer.storage, second, twice)
      await rotateDataKey(inner.storage, sealing, AT).catch((error: unknown) => {
        assert.ok(fails('TM1528')(error))
      })
      if (!outer.state.acted) isLast = true
      if (!outer.state.acted || !inner.state.acted) break
      joined += 1
      await unlock(FIRST)
      await assert.doesNotReject(unlock(SECOND), `calls ${first}, ${second}`)
    }
    if (isLast) break
  }
  assert.ok(joined > 20, `${joined}`)
})

test('two that remove each other at once leave a slot', async () => {
  for (let at = 1; ; at++) {
    await create()
    await addSlot(storage, await unlock(FIRST), slotFor(SECOND))
    const [one, other] = [await unlock(FIRST), await unlock(SECOND)]
    const remove = async () => await removeSlot(storage, other, one.slotId).catch(() => undefined)
    const { storage: interrupted, state } = interrupt(storage, at, remove)
    await removeSlot(interrupted, one, other.slotId).catch(() => undefined)
    if (!state.acted) break
    const opened = await Promise.allSettled([unlock(FIRST), unlock(SECOND)])
    assert.ok(
      opened.some(({ status }) => status === 'fulfilled'),
      `call ${at}`,
    )
  }
})

test('the newest generation alone opens all; without it nothing does', async () => {
  await (await open(FIRST)).write('clusters/main/1', Buffer.from('1'))
  await rotateDataKey(storage, await unlock(FIRST), AT)
  await (await open(FIRST)).write('clusters/main/2', Buffer.from('2'))
  await rotateDataKey(storage, await unlock(FIRST), AT)
  await (await open(FIRST)).write('clusters/main/3', Buffer.from('3'))
  objects.delete(generationKey(2))
  await damageObject(storage, generationKey(1), { kind: 'flip-bit', byte: 20 })
  await assertRead('1', '2', '3')
  await rotateDataKey(storage, await unlock(FIRST), AT)
  await assertRead('1', '2', '3')
  await damageObject(storage, generationKey(4), { kind: 'flip-bit', byte: 20 })
  await assert.rejects(unlock(FIRST), fails('TM1606'))
})

async function assertRead(...names: string[]): Promise<void> {
  const sealed = await open(FIRST)
  for (const name of names) {
    const bytes = await sealed.read(`clusters/main/${name}`)
    assert.equal(Buffer.from(bytes ?? []).toString(), name)
  }
}

test('a rewrite leaves nothing under older keys, and every byte as it was', async () => {
  await writeContents(await open(FIRST))
  const { key } = await rotateDataKey(storage, await unlock(FIRST), AT)
  const sealed = await open(FIRST)
  assert.ok((await findOlderKey(sealed)) !== undefined)
  const result = await rewriteObjects(sealed, SILENT, NEVER)
  assert.deepEqual(
    { ...result, damaged: result.damaged.length },
    { objects: CONTENTS.size, bytes: 265_637, damaged: 0, left: 0, journals: 0 },
  )
  assert.deepEqual([...(await usesOf(sealed)).keys()], [key.id])
  assert.equal(await findOlderKey(sealed), undefined)
  await assertContents(await open(FIRST))
  assert.deepEqual((await listHolds(sealed, 'main')).holds, [])
})

test('a rewrite keeps damage where it is, and rewrites the rest', async () => {
  await writeContents(await open(FIRST))
  const damagedKey = 'clusters/main/wal/200000'
  await damageObject(storage, damagedKey, { kind: 'flip-bit', byte: 150_000 })
  const before = objects.get(damagedKey)
  await rotateDataKey(storage, await unlock(FIRST), AT)
  const result = await rewriteObjects(await open(FIRST), SILENT, NEVER)
  assert.deepEqual(
    result.damaged.map(({ details }) => details?.['key']),
    [damagedKey],
  )
  assert.equal(objects.get(damagedKey), before)
  assert.equal(result.objects, CONTENTS.size - 1)
})

test('a rewrite passes condemned objects over, and brings nothing back', async () => {
  await writeContents(await open(FIRST))
  await rotateDataKey(storage, await unlock(FIRST), AT)
  const sealed = await open(FIRST)
  await writeCondemnedSet(sealed, 'main', {
    id: '0'.repeat(16),
    host: '',
    writer: '',
    startedAt: '',
    backups: [],
    packs: [],
    keys: ['clusters/main/wal/100'],
  })
  const before = objects.get('clusters/main/wal/100')
  const result = await rewriteObjects(sealed, SILENT, NEVER)
  assert.equal(objects.get('clusters/main/wal/100'), before)
  assert.equal(result.objects, CONTENTS.size - 1)
  assert.equal(result.left, 1)
})

test('what is removed or replaced at any moment of a rewrite stays so', async () => {
  const key = 'clusters/main/wal/100'
  for (const kind of ['removed', 'replaced'] as const) {
    let until = 0
    for (let at = 1; ; at++) {
      await create()
      await (await open(FIRST)).write(key, Buffer.alloc(100, 1))
      await rotateDataKey(storage, await unlock(FIRST), AT)
      const sealing = await unlock(FIRST)
      const other = openSealedStorage(storage, sealing)
      const { storage: interrupted, state } = interrupt(storage, at, async () => {
        // By somebody who does not look at holds.
        if (kind === 'removed') await other.remove(key)
        else await other.write(key, Buffer.alloc(70, 2))
      })
      await rewriteObjects(openSealedStorage(interrupted, sealing), SILENT, NEVER)
      if (!state.acted) break
      until = at
      const found = await other.read(key)
      if (kind === 'removed') assert.equal(found, undefined, `call ${at}`)
      else assert.equal(found?.[0], 2, `call ${at}`)
    }
    assert.ok(until > 10, `${until} moments`)
  }
})

/** Crashes at every call; `check` sees what is left. */
async function simulate(
  prepare: () => Promise<void>,
  run: (faulty: Storage) => Promise<unknown>,
  check: (point: CrashPoint) => Promise<void>,
): Promise<number> {
  return await forEachCrashPoint({
    async prepare() {
      await create()
      await prepare()
      return storage
    },
    run,
    check: async (_left, point) => await check(point),
  })
}

test('cut off anywhere, add, remove and rotate lose nothing, and can be run again', async () => {
  const add = await simulate(
    async () => await writeContents(await open(FIRST)),
    async (faulty) => await addSlot(faulty, await unlock(FIRST, faulty), slotFor(SECOND)),
    async () => {
      await assertContents(await open(FIRST))
      await addSlot(storage, await unlock(FIRST), slotFor(SECOND))
      await assertContents(await open(SECOND))
    },
  )
  const remove = await simulate(
    async () => {
      await writeContents(await open(FIRST))
      await addSlot(storage, await unlock(FIRST), slotFor(SECOND))
    },
    async (faulty) => {
      const { slotId } = await unlock(SECOND)
      await removeSlot(faulty, await unlock(FIRST, faulty), slotId)
    },
    async ({ when }) => {
      await assertContents(await open(FIRST))
      if (when === 'never') await assert.rejects(unlock(SECOND), fails('TM1522'))
    },
  )
  const rotate = await simulate(
    async () => {
      await writeContents(await open(FIRST))
      await addSlot(storage, await unlock(FIRST), slotFor(SECOND))
    },
    async (faulty) => {
      const { sealing } = await rotateDataKey(faulty, await unlock(FIRST, faulty), AT)
      await openSealedStorage(faulty, sealing).write('clusters/main/new', Buffer.from('new'))
    },
    async () => {
      for (const secret of [FIRST, SECOND]) {
        const sealed = await open(secret)
        await assertContents(sealed)
        if (objects.has('clusters/main/new')) {
          assert.equal((await sealed.read('clusters/main/new'))?.length, 3)
        }
      }
      await rotateDataKey(storage, await unlock(SECOND), AT)
      await assertContents(await open(FIRST))
    },
  )
  assert.ok(add > 12 && remove > 12 && rotate > 25, `${add}, ${remove}, ${rotate} crashes`)
})

test('a rewrite that is cut off anywhere loses nothing, and a second one ends it', async () => {
  const crashes = await simulate(
    async () => {
      await writeContents(await open(FIRST))
      await rotateDataKey(storage, await unlock(FIRST), AT)
    },
    async (faulty) => await rewriteObjects(await open(FIRST, faulty), SILENT, NEVER),
    async () => {
      await assertContents(await open(FIRST))
      const sealed = await open(FIRST)
      await rewriteObjects(sealed, SILENT, NEVER)
      assert.equal(await findOlderKey(sealed), undefined)
      await assertContents(await open(FIRST))
    },
  )
  assert.ok(crashes > 80, `${crashes} crashes`)
})
