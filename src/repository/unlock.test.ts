/** Key slots and data keys: who gets in, and what is told of a wrong key and of damage. */
import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { forEachCrashPoint } from '../../test/harness/faulty-storage.ts'
import { isFailure } from '../base/failure.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import { formatKeyObject, generationKey, parseKeyObject, slotKey } from '../storage/data-keys.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { openSealedStorage, type SealedStorage } from '../storage/sealed-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { KeySecret, Slot, SlotMemory } from './key-slots.ts'
import { createRepository } from './repository.ts'
import { ensureFirstKey, unlockRepository } from './unlock.ts'

const AT = new Date('2026-11-21T00:00:00Z')
const QUICK = { label: 'first', createdAt: AT, scryptCost: 1024 } as const

const secretOf = (text: string, kind: KeySecret['kind'] = 'passphrase'): KeySecret => ({
  kind,
  bytes: Buffer.from(text),
  where: 'repositories.local.encryption',
})

const RIGHT = secretOf('correct horse battery')
const WRONG = secretOf('incorrect horse')

let objects: Map<string, Uint8Array>
let storage: Storage

beforeEach(async () => {
  objects = new Map()
  storage = openMemoryStorage(objects)
  await createRepository(storage, AT, true)
})

const fails = (code: FailureCode) => (error: unknown) => isFailure(error, code) && error.fix !== ''

const slotKeys = () => [...objects.keys()].filter((key) => key.startsWith('keys/slots/'))

test('the first key seals, and its secret opens again', async () => {
  await assert.rejects(unlockRepository(storage, RIGHT), fails('TM1526'))
  await ensureFirstKey(storage, { ...QUICK, secret: RIGHT })
  const sealing = await unlockRepository(storage, RIGHT)
  await openSealedStorage(storage, sealing).write('clusters/a', Buffer.from('content'))
  const again = openSealedStorage(storage, await unlockRepository(storage, RIGHT))
  assert.equal(Buffer.from((await again.read('clusters/a')) ?? []).toString(), 'content')
  await ensureFirstKey(storage, { ...QUICK, secret: WRONG })
  assert.equal(slotKeys().length, 1, 'the second run makes nothing')
})

test('a wrong key is told apart from damage', async () => {
  await ensureFirstKey(storage, { ...QUICK, secret: RIGHT })
  await assert.rejects(unlockRepository(storage, WRONG), fails('TM1522'))
  const asFile = secretOf('correct horse battery', 'key-file')
  await assert.rejects(unlockRepository(storage, asFile), fails('TM1522'))
  for (const [key, whole] of [...objects].filter(([name]) => name.startsWith('keys/'))) {
    for (let at = 0; at < whole.length - 1; at += 3) {
      const damaged = new Uint8Array(whole)
      damaged[at] = (damaged[at] as number) ^ 2
      objects.set(key, damaged)
      const expected = fails('TM1606')
      await assert.rejects(unlockRepository(storage, RIGHT), expected, `${key} at ${at}`)
    }
    objects.set(key, whole)
  }
  await unlockRepository(storage, RIGHT)
})

test('files and commands open the same slots, passphrases their own', async () => {
  const key = 'k'.repeat(40)
  await ensureFirstKey(storage, { ...QUICK, secret: secretOf(key, 'key-file') })
  await unlockRepository(storage, secretOf(key, 'key-command'))
  await assert.rejects(unlockRepository(storage, secretOf(key)), fails('TM1522'))
})

test('a slot of another repository opens nothing here', async () => {
  await ensureFirstKey(storage, { ...QUICK, secret: RIGHT })
  const others = new Map<string, Uint8Array>()
  const other = openMemoryStorage(others)
  await createRepository(other, AT, true)
  for (const [key, bytes] of objects) if (key.startsWith('keys/')) others.set(key, bytes)
  await assert.rejects(unlockRepository(other, RIGHT), fails('TM1606'))
})

test('a repository that is not encrypted is not taken for one that is', async () => {
  const plain = openMemoryStorage()
  await createRepository(plain, AT)
  await assert.rejects(unlockRepository(plain, RIGHT), fails('TM1521'))
  await assert.rejects(createRepository(plain, AT, true), fails('TM1521'))
  await assert.rejects(createRepository(storage, AT), fails('TM1520'))
  await assert.rejects(unlockRepository(openMemoryStorage(), RIGHT), fails('TM1503'))
})

test('a marker that was made anew is not taken for a wrong key', async () => {
  await ensureFirstKey(storage, { ...QUICK, secret: RIGHT })
  const { repositoryId } = await unlockRepository(storage, RIGHT)
  objects.delete('tidemark.repository')
  await createRepository(storage, AT, true)
  await assert.rejects(unlockRepository(storage, RIGHT), (error) => {
    return isFailure(error, 'TM1606') && error.fix.includes(repositoryId)
  })
})

test('a slot whose costs cannot be is damaged, and keeps no other from opening', async () => {
  await ensureFirstKey(storage, { ...QUICK, secret: RIGHT })
  const { slotId } = await unlockRepository(storage, RIGHT)
  const { content } = parseKeyObject<Slot>('', objects.get(slotKey(slotId)) as Uint8Array)
  const id = '0'.repeat(16)
  const costs = [{ n: 3 }, { n: 1 }, { n: 1.5 }, { n: -2 }, { n: 2 ** 30 }, { r: 0 }, { r: 0.5 }]
  for (const cost of [...costs, { p: 0 }, { p: 17 }, { p: 'x' }, { salt: 5 }, { salt: 'ab' }]) {
    const planted = { ...content, id, kdf: { ...content.kdf, ...cost } }
    objects.set(slotKey(id), formatKeyObject(planted))
    assert.equal((await unlockRepository(storage, RIGHT)).slotId, slotId)
    const refusal = JSON.stringify(cost)
    await assert.rejects(unlockRepository(storage, WRONG), fails('TM1606'), refusal)
  }
})

test('keys that were lost are not replaced by new ones', async () => {
  objects.set('clusters/main/x', Buffer.from('sealed with what is lost'))
  await assert.rejects(ensureFirstKey(storage, { ...QUICK, secret: RIGHT }), fails('TM1526'))
})

test('scrypt is paid for once, and what is kept is of no use to others', async () => {
  await ensureFirstKey(storage, { ...QUICK, secret: RIGHT })
  const kept = new Map<string, Uint8Array>()
  const memory: SlotMemory = {
    recall: (slot) => kept.get(slot),
    remember: (slot, bytes) => kept.set(slot, bytes),
  }
  const first = await unlockRepository(storage, RIGHT, memory)
  assert.equal(kept.size, 1)
  const [[slot, bytes] = ['', new Uint8Array(0)]] = kept
  assert.deepEqual(await unlockRepository(storage, RIGHT, memory), first)
  assert.equal(kept.get(slot), bytes, 'it was used')
  await assert.rejects(unlockRepository(storage, WRONG, memory), fails('TM1522'))
  for (const secret of [first.slotKey, ...first.keys.map((key) => key.secret)]) {
    assert.ok(!Buffer.from(bytes).toString('hex').includes(secret))
  }
  kept.set(slot, Buffer.from('damaged'))
  assert.deepEqual(await unlockRepository(storage, RIGHT, memory), first)
})

test('of two that make the first key at once one wins, and what it sealed stays', async () => {
  const late = openMemoryStorage(objects)
  const write = late.write.bind(late)
  let sealed: SealedStorage | undefined
  late.write = async (key, bytes, options) => {
    if (key === generationKey(1)) {
      await ensureFirstKey(storage, { ...QUICK, secret: RIGHT })
      sealed = openSealedStorage(storage, await unlockRepository(storage, RIGHT))
      await sealed.write('clusters/a', Buffer.from('acknowledged'))
    }
    await write(key, bytes, options)
  }
  await ensureFirstKey(late, { ...QUICK, secret: WRONG })
  assert.ok(sealed !== undefined)
  const again = openSealedStorage(storage, await unlockRepository(storage, RIGHT))
  assert.equal((await again.read('clusters/a'))?.length, 12)
  await assert.rejects(unlockRepository(storage, WRONG), fails('TM1522'))
  assert.equal(slotKeys().length, 1, 'the slot of the loser is gone')
})

test('creation cut off anywhere: nothing sealed is lost, and a second run ends it', async () => {
  const crashes = await forEachCrashPoint({
    async prepare() {
      objects = new Map()
      return openMemoryStorage(objects)
    },
    async run(faulty) {
      await createRepository(faulty, AT, true)
      await ensureFirstKey(faulty, { ...QUICK, secret: RIGHT })
      const sealed = openSealedStorage(faulty, await unlockRepository(faulty, RIGHT))
      await sealed.write('clusters/a', Buffer.from('acknowledged'))
    },
    async check(left) {
      const wasWritten = objects.has('clusters/a')
      await createRepository(left, AT, true)
      await ensureFirstKey(left, { ...QUICK, secret: RIGHT })
      const sealed = openSealedStorage(left, await unlockRepository(left, RIGHT))
      if (wasWritten) assert.equal((await sealed.read('clusters/a'))?.length, 12)
      await sealed.write('clusters/b', Buffer.from('x'))
    },
  })
  assert.ok(crashes > 15, `${crashes} crashes`)
})
