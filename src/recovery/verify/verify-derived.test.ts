/** Damage of what is derived is told, and is no finding. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  INDEXED,
  indexedKey,
  listDerived,
  nameKeyAt,
  storeIndex,
  storeNames,
} from '../../../test/harness/indexed-wal.ts'
import { breakKey, type WalBreak, writeBreak } from '../../archive/break-mark.ts'
import { lsn } from '../../postgres/lsn.ts'
import { openMemoryStorage } from '../../storage/memory-storage.ts'
import { takeInventory } from './inventory.ts'
import { verifyDerived } from './verify-derived.ts'
import type { VerifyState } from './verify-state.ts'

test('every byte of an index and of names is proved', async () => {
  const storage = openMemoryStorage()
  await storeIndex(storage, 1n)
  await storeNames(storage, 1n)
  const run = async (): Promise<readonly string[]> => {
    const inventory = await takeInventory(storage, 'main')
    assert.deepEqual(inventory.strangers, [])
    assert.deepEqual(inventory.derived, await listDerived(storage))
    const notes: string[] = []
    const { signal } = new AbortController()
    const proved = { objects: 0, bytes: 0 }
    const memory = { objects: new Map() }
    const state = { storage, cluster: 'main', inventory, notes, signal, proved, memory }
    await verifyDerived(state as unknown as VerifyState, 'full')
    return notes
  }
  assert.deepEqual(await run(), [])
  for (const key of [indexedKey(1n), nameKeyAt(1n)]) {
    const whole = Buffer.from((await storage.read(key)) as Uint8Array)
    for (let at = 0; at < whole.length; at += 5) {
      const flipped = Buffer.from(whole)
      flipped[at] = (flipped[at] as number) ^ 4
      await storage.write(key, flipped)
      const notes = await run()
      assert.equal(notes.length, 1, `byte ${at} of ${key}`)
      assert.ok(notes[0]?.includes(key))
    }
    await storage.write(key, whole)
  }
})

test('a mark of a break is known and proved, and what damages it is told', async () => {
  const storage = openMemoryStorage()
  const { cluster, systemIdentifier } = INDEXED
  const mark: WalBreak = { timeline: 1, lsn: lsn(40n), kind: 'minimal' }
  await writeBreak(storage, cluster, systemIdentifier, mark)
  const key = breakKey(cluster, systemIdentifier, mark)
  const inventory = await takeInventory(storage, cluster)
  assert.deepEqual([inventory.strangers, inventory.derived], [[], [key]])
  const notes: string[] = []
  const { signal } = new AbortController()
  const kept = { proved: { objects: 0, bytes: 0 }, memory: { objects: new Map() } }
  const state = { storage, cluster, inventory, notes, signal, ...kept } as unknown as VerifyState
  await verifyDerived(state, 'full')
  assert.deepEqual(notes, [])
  await storage.write(key, Buffer.alloc(80))
  await verifyDerived(state, 'full')
  assert.match(notes.join(), new RegExp(`${key}; compute again: tidemark wal index --rebuild`))
})
