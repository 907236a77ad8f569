/** The index of known chunks against a Map. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { ChunkIndex } from './chunk-index.ts'

const hashOf = (number: number): Buffer => createHash('sha256').update(String(number)).digest()
const PACKS = ['a', 'b', 'c'].map((digit) => digit.repeat(32))

test('what was added is found, nothing else, through every growth', () => {
  const index = new ChunkIndex(200_000)
  for (let number = 0; number < 150_000; number++) {
    index.add(hashOf(number), number % 9, PACKS[number % 3] as string, number)
  }
  assert.equal(index.count, 150_000)
  for (let number = 0; number < 150_000; number += 7) {
    const entry = index.find(hashOf(number), number % 9)
    assert.ok(entry >= 0, String(number))
    assert.equal(index.packOf(entry), PACKS[number % 3])
    assert.equal(index.frameOf(entry), number)
  }
  for (let number = 150_000; number < 160_000; number++) {
    assert.equal(index.find(hashOf(number), number % 9), -1)
  }
})

test('the length belongs to it, and each of the 16 bytes does', () => {
  const index = new ChunkIndex(100)
  const hash = hashOf(1)
  index.add(hash, 70_000, PACKS[0] as string, 5)
  assert.equal(index.find(hash, 70_001), -1)
  for (let byte = 0; byte < 16; byte++) {
    const other = Buffer.from(hash)
    other[byte] = (other[byte] as number) ^ 0x80
    assert.equal(index.find(other, 70_000), -1, `byte ${byte}`)
  }
  assert.equal(index.find(Buffer.concat([hash.subarray(0, 16), Buffer.alloc(16)]), 70_000), 0)
})

test('the first place of a chunk stays, and a full index takes no more', () => {
  const index = new ChunkIndex(2)
  index.add(hashOf(1), 1, PACKS[0] as string, 1)
  index.add(hashOf(1), 1, PACKS[1] as string, 2)
  assert.equal(index.count, 1)
  assert.equal(index.frameOf(index.find(hashOf(1), 1)), 1)
  index.add(hashOf(2), 1, PACKS[1] as string, 2)
  index.add(hashOf(3), 1, PACKS[1] as string, 3)
  assert.equal(index.isFull, true)
  assert.equal(index.find(hashOf(3), 1), -1)
  assert.ok(index.find(hashOf(2), 1) >= 0)
})
