import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { packKey } from './keys.ts'
import {
  emptyMemory,
  formatMemory,
  parseMemory,
  readVerifiedMemory,
  verifiedKey,
  writeVerifiedMemory,
} from './verified-memory.ts'

const hex = (number: number): string => number.toString(16).padStart(8, '0')

const keys = fc.oneof(
  fc.nat(40).map((number) => packKey('main', 'ab'.repeat(12) + hex(number))),
  fc
    .nat(300)
    .map(
      (number) =>
        `clusters/main/wal/1/00000001/00000000/0000000100000000${hex(number).toUpperCase()}.wal`,
    ),
  fc.nat(300).map((number) => `clusters/main/wal/1/${hex(number).toUpperCase()}.history`),
  fc.constantFrom(
    'tidemark.repository',
    'clusters/main/systems/7400000000000000001.json',
    'clusters/main/backups/20261121-164041-05u2.record',
    'clusters/main/wal/1/labels/000000010000000000000001.0000AB28.backup',
    'clusters/main/wal/1/partial/000000010000000000000009.partial-6d2d50e47617953d',
    'clusters/main/wal/1/quarantine/000000010000000000000003-0c9690ff32f06327.damaged',
  ),
)

test('what is remembered comes back, whatever it is', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(keys, fc.integer({ min: 1, max: 3 }))), (seen) => {
      const memory = emptyMemory()
      for (const [key, at] of seen) memory.objects.set(key, at)
      memory.backups.set('20261121-164041-05u2', { at: 7, recordPack: 'ab' })
      memory.sweep = { backups: ['20261121-164041-05u2'], nextPath: 'base/5/1' }
      for (const [key, at] of seen) if (at === 1) memory.damagedObjects.add(key)
      const back = parseMemory(formatMemory(memory))
      assert.deepEqual([...back.damagedObjects].sort(), [...memory.damagedObjects].sort())
      assert.deepEqual(new Map([...back.objects].sort()), new Map([...memory.objects].sort()))
      assert.deepEqual(back.backups, memory.backups)
      assert.deepEqual(back.sweep, memory.sweep)
    }),
  )
})

test('a hundred thousand segments and packs, seen together, take a few kilobytes', async () => {
  const memory = emptyMemory()
  for (let number = 0; number < 100_000; number++) {
    const [log, segment] = [number >> 8, number & 255].map((one) => hex(one).toUpperCase())
    const key = `clusters/main/wal/1/00000001/${log}/00000001${log}${segment}.wal`
    memory.objects.set(key, 1)
    memory.objects.set(packKey('main', 'cd'.repeat(12) + hex(number)), 1)
  }
  const storage = openMemoryStorage()
  await writeVerifiedMemory(storage, 'main', memory)
  assert.ok(((await storage.size(verifiedKey('main'))) ?? 0) < 20_000)
  const { memory: back } = await readVerifiedMemory(storage, 'main')
  assert.equal(back.objects.size, 200_000)
})

test('none, a damaged one and one of another version are as good as none', async () => {
  const storage = openMemoryStorage()
  const none = await readVerifiedMemory(storage, 'main')
  assert.deepEqual(none, { memory: emptyMemory(), damaged: undefined })
  await storage.write(verifiedKey('main'), Buffer.from('rot'))
  assert.notEqual((await readVerifiedMemory(storage, 'main')).damaged, undefined)
  const refusing = openFaultyStorage(storage, [{ at: 1, kind: 'refused' }])
  assert.match((await readVerifiedMemory(refusing, 'main')).damaged ?? '', /permission denied/)
  assert.throws(() => parseMemory(Buffer.from('{"format":2}')), /format 2/)
})
