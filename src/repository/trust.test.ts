/** What somebody who can write to a repository, and has no key of it, can make of its keys. */
import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import {
  type DataKey,
  formatKeyObject,
  generationKey,
  makeDataKey,
  parseKeyObject,
  type PreviousKey,
  type Sealing,
  slotKey,
  wrapForSlot,
  wrapPrevious,
} from '../storage/data-keys.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { openSealedStorage } from '../storage/sealed-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { addSlot, listRemoved, readKeyState, removeSlot, rotateDataKey } from './change-keys.ts'
import type { KeySecret, Slot } from './key-slots.ts'
import { createRepository } from './repository.ts'
import { ensureFirstKey, unlockRepository } from './unlock.ts'

const AT = new Date('2026-11-21T00:00:00Z')
const EVIL = Buffer.alloc(32, 0xee)

const secretOf = (text: string): KeySecret => ({
  kind: 'key-file',
  bytes: Buffer.from(text.padEnd(40)),
  where: 'repositories.local.encryption',
})
const OWN = secretOf('own')
const slotFor = (secret: KeySecret) => ({ secret, label: 'x', createdAt: AT })
const fails = (code: FailureCode) => (error: unknown) => isFailure(error, code) && error.fix !== ''

let objects: Map<string, Uint8Array>
let storage: Storage
let own: Sealing

beforeEach(async () => {
  objects = new Map()
  storage = openMemoryStorage(objects)
  await createRepository(storage, AT, true)
  await ensureFirstKey(storage, slotFor(OWN))
  own = await unlockRepository(storage, OWN)
})

/** Puts a generation there whose key he knows, wrapped for the slot as everybody can. */
function plant(generation: number, previous: readonly DataKey[] = []): DataKey {
  const { repositoryId, slotId } = own
  const key = slotKey(slotId)
  const slot = parseKeyObject<Slot>(key, objects.get(key) as Uint8Array).content
  const evil = makeDataKey(generation, EVIL)
  const wrapped: PreviousKey[] = previous.map((one) => wrapPrevious(repositoryId, one, evil))
  const rest = { createdAt: '', previous: wrapped, wraps: [wrapForSlot(repositoryId, evil, slot)] }
  const content = { format: 1, repositoryId, generation, keyId: evil.id, ...rest }
  objects.set(generationKey(generation), formatKeyObject(content, evil, ...previous))
  return evil
}

/** The next thing that would be sealed is not sealed with a key of his. */
async function assertRefused(what: string): Promise<void> {
  await assert.rejects(unlockRepository(storage, OWN), fails('TM1606'), what)
  const running = openSealedStorage(storage, own, 0)
  await assert.rejects(running.write('clusters/x', Buffer.from('x')), fails('TM1606'), what)
}

test('a generation of somebody without a key seals nothing and opens nothing', async () => {
  plant(2)
  await assertRefused('without the keys before it')
  plant(2, [makeDataKey(1, EVIL)])
  await assertRefused('with another key before it')
  const [first] = own.keys as [DataKey]
  const evil = plant(2, [first])
  const object = JSON.parse(Buffer.from(objects.get(generationKey(2)) as Uint8Array).toString())
  for (const proof of [object.proof.slice(0, 64), object.proof.slice(0, 64).repeat(2)]) {
    objects.set(generationKey(2), Buffer.from(JSON.stringify({ ...object, proof })))
    await assertRefused('not proved by the key before it')
  }
  const foreign = openMemoryStorage()
  await openSealedStorage(foreign, { ...own, keys: [evil] }).write('clusters/y', Buffer.from('y'))
  objects.set('clusters/y', (await foreign.read('clusters/y')) as Uint8Array)
  await assert.rejects(openSealedStorage(storage, own, 0).read('clusters/y'), fails('TM1606'))
})

test('a first generation that was exchanged is refused', async () => {
  plant(1)
  await assert.rejects(unlockRepository(storage, OWN), fails('TM1606'))
})

test('a generation with a number that leaves some out is refused', async () => {
  plant(3, own.keys)
  await assertRefused('a gap')
})

test('a slot that was changed to trust another key opens nothing', async () => {
  const evil = plant(1)
  const key = slotKey(own.slotId)
  const { content } = parseKeyObject<Slot>(key, objects.get(key) as Uint8Array)
  const { anchorOf } = await import('../storage/data-keys.ts')
  objects.set(key, formatKeyObject({ ...content, anchor: anchorOf(evil) }))
  await assert.rejects(unlockRepository(storage, OWN), fails('TM1522'))
  const { anchor: _, ...without } = content
  objects.set(key, formatKeyObject(without))
  await assert.rejects(unlockRepository(storage, OWN), fails('TM1606'))
})

test('an older generation that is put back as the newest one is refused', async () => {
  const first = objects.get(generationKey(1)) as Uint8Array
  own = (await rotateDataKey(storage, own, AT)).sealing
  objects.set(generationKey(3), first)
  await assertRefused('a copy of the first')
})

test('a slot that was copied before it was removed is wrapped for by no rotation', async () => {
  const removed = secretOf('removed')
  const slot = await addSlot(storage, own, slotFor(removed))
  own = (await rotateDataKey(storage, own, AT)).sealing
  objects.set(slotKey('f'.repeat(16)), objects.get(slotKey(slot.id)) as Uint8Array)
  await removeSlot(storage, own, slot.id)
  const { slots } = await rotateDataKey(storage, own, AT)
  assert.deepEqual(
    slots.map(({ id }) => id),
    [own.slotId],
  )
  await assert.rejects(unlockRepository(storage, removed))
})

test('a slot that was removed since the last rotation is known', async () => {
  const slot = await addSlot(storage, own, slotFor(secretOf('removed')))
  own = (await rotateDataKey(storage, own, AT)).sealing
  assert.deepEqual(listRemoved(await readKeyState(storage, own)), [])
  await removeSlot(storage, own, slot.id)
  assert.deepEqual(listRemoved(await readKeyState(storage, own)), [slot.id])
  own = (await rotateDataKey(storage, own, AT)).sealing
  assert.deepEqual(listRemoved(await readKeyState(storage, own)), [])
})

test('who held an older key makes no generation for processes that know a newer one', async () => {
  const [first] = own.keys as [DataKey]
  own = (await rotateDataKey(storage, own, AT)).sealing
  plant(3, [first, makeDataKey(2, EVIL)])
  const running = openSealedStorage(storage, own, 0)
  await assert.rejects(running.write('clusters/x', Buffer.from('x')), fails('TM1606'))
})

test('a slot that was added later trusts what was the newest key then', async () => {
  const [first] = own.keys as [DataKey]
  own = (await rotateDataKey(storage, own, AT)).sealing
  const late = secretOf('late')
  await addSlot(storage, own, slotFor(late))
  own = await unlockRepository(storage, late)
  plant(3, [first, makeDataKey(2, EVIL)])
  await assert.rejects(unlockRepository(storage, late), fails('TM1606'))
  objects.delete(generationKey(3))
  objects.delete(generationKey(2))
  await assert.rejects(unlockRepository(storage, late), fails('TM1606'), 'put back to before')
})

test('nothing is sealed with a key whose generation has gone', async () => {
  own = (await rotateDataKey(storage, own, AT)).sealing
  const running = openSealedStorage(storage, own, 0)
  await running.write('clusters/x', Buffer.from('x'))
  objects.delete(generationKey(2))
  await assert.rejects(running.write('clusters/y', Buffer.from('y')), fails('TM1606'))
  assert.equal((await running.read('clusters/x'))?.length, 1, 'what is known still reads')
  objects.delete(generationKey(1))
  await assert.rejects(running.write('clusters/y', Buffer.from('y')), fails('TM1606'))
})
