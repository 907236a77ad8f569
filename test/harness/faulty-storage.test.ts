import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../../src/base/failure.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { CrashError, damageObject, forEachCrashPoint, openFaultyStorage } from './faulty-storage.ts'
import { keysOf } from './storage-contract.ts'

const bytes = Buffer.from('abc')

test('fails the call that was asked for, and only that', async () => {
  const storage = openFaultyStorage(openMemoryStorage(), [
    { at: 2, kind: 'full' },
    { at: 3, kind: 'refused' },
  ])
  await storage.write('a', bytes)
  await assert.rejects(storage.write('b', bytes), (error) => isFailure(error, 'TM1506'))
  await assert.rejects(storage.read('a'), (error) => isFailure(error, 'TM1501'))
  assert.deepEqual(await keysOf(storage), ['a'])
  const calls = storage.trace.map(({ operation, key }) => `${operation} ${key}`)
  assert.deepEqual(calls, ['write a', 'write b', 'read a', 'list '])
})

test('nothing works after a crash', async () => {
  for (const when of ['before', 'after'] as const) {
    const inner = openMemoryStorage()
    const storage = openFaultyStorage(inner, [{ at: 1, kind: 'crash', when }])
    await assert.rejects(storage.write('a', bytes), CrashError)
    await assert.rejects(storage.read('a'), CrashError)
    assert.equal(storage.crashed, true)
    assert.equal(storage.trace.length, 1)
    assert.deepEqual(await keysOf(inner), when === 'after' ? ['a'] : [])
  }
})

test('damages objects', async () => {
  const storage = openMemoryStorage()
  await storage.write('a', bytes)
  await damageObject(storage, 'a', { kind: 'flip-bit', byte: -1, bit: 1 })
  assert.equal(Buffer.from((await storage.read('a')) ?? []).toString(), 'aba')
  await damageObject(storage, 'a', { kind: 'truncate', sizeBytes: 1 })
  assert.equal(await storage.size('a'), 1)
  await damageObject(storage, 'a', { kind: 'delete' })
  assert.equal(await storage.size('a'), undefined)
})

test('visits every crash point, before and after its effect', async () => {
  const states: string[] = []
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(),
    run: async (storage) => {
      const writer = await storage.openWriter('pack')
      writer.append([bytes])
      await writer.commit()
      await storage.write('record', bytes)
    },
    check: async (storage) => {
      const keys = await keysOf(storage)
      assert.ok(!keys.includes('record') || keys.includes('pack'), 'a record without its pack')
      states.push(keys.join('+'))
    },
  })
  assert.equal(crashes, 8)
  const both = 'pack+record'
  assert.deepEqual(states, ['', '', '', 'pack', '', '', 'pack', both, both])
})

test('finds a wrong order of writes', async () => {
  const broken = forEachCrashPoint({
    prepare: async () => openMemoryStorage(),
    run: async (storage) => {
      await storage.write('record', bytes)
      await storage.write('pack', bytes)
    },
    check: async (storage) => {
      const keys = await keysOf(storage)
      assert.ok(!keys.includes('record') || keys.includes('pack'), 'a record without its pack')
    },
  })
  await assert.rejects(broken, /a record without its pack/)
})
