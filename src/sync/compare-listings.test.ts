import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { type ComparedObject, compareListings } from './compare-listings.ts'

const KEYS = ['a', 'a/b', 'a-b', 'b/00000001.pack', 'b/00000002.pack', 'B', 'c.wal', 'c/d/e']

test('two listings side by side tell of every key once, with the size of each side', async () => {
  const side = fc.dictionary(fc.constantFrom(...KEYS), fc.nat(5))
  await fc.assert(
    fc.asyncProperty(side, side, async (source, target) => {
      const [from, to] = [source, target].map((sizes) => {
        const objects = Object.entries(sizes).map(([key, size]) => [key, new Uint8Array(size)])
        return openMemoryStorage(new Map(objects as [string, Uint8Array][]))
      })
      assert.ok(from !== undefined && to !== undefined)
      const found: ComparedObject[] = []
      for await (const one of compareListings(from.list(''), to.list(''))) found.push(one)
      const keys = [...new Set([...Object.keys(source), ...Object.keys(target)])].sort()
      assert.deepEqual(
        found,
        keys.map((key) => ({ key, source: source[key], target: target[key] })),
      )
    }),
  )
})
