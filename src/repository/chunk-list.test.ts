/** Chunk lists: bytes there and back, and no list that does not fit. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { CHUNKS_PER_LIST, ChunkListBuilder, decodeChunkList } from './chunk-list.ts'

const hashOf = (number: number): Buffer => createHash('sha256').update(String(number)).digest()
const packOf = (number: number): string =>
  hashOf(number % 5)
    .toString('hex')
    .slice(0, 32)

function listOf(count: number): Uint8Array {
  const builder = new ChunkListBuilder()
  for (let number = 0; number < count; number++) {
    builder.add(hashOf(number), number + 1, packOf(number), 3 * number)
  }
  assert.equal(builder.count, count)
  assert.equal(builder.isFull, count === CHUNKS_PER_LIST)
  const bytes = builder.take()
  assert.equal(builder.count, 0)
  return bytes
}

for (const count of [1, 2, CHUNKS_PER_LIST]) {
  test(`a list of ${count} chunks is read as it was written`, () => {
    const bytes = listOf(count)
    assert.equal(bytes.length, 8 + 16 * Math.min(count, 5) + 28 * count)
    const list = decodeChunkList('key', 7, bytes)
    assert.equal(list.count, count)
    for (let number = 0; number < count; number++) {
      assert.ok(list.hashOf(number).equals(hashOf(number).subarray(0, 16)))
      assert.equal(list.rawLengthOf(number), number + 1)
      assert.equal(list.packOf(number), packOf(number))
      assert.equal(list.frameOf(number), 3 * number)
    }
  })
}

test('what does not fit is damage of that frame', () => {
  const good = Buffer.from(listOf(2))
  const changed = (at: number, value: number): Buffer => {
    const bytes = Buffer.from(good)
    bytes.writeUInt32LE(value, at)
    return bytes
  }
  const chunksAt = 8 + 2 * 16
  const bad = {
    'too short': good.subarray(0, 7),
    'cut off': good.subarray(0, -1),
    'more bytes': Buffer.concat([good, Buffer.alloc(1)]),
    'no chunks': Buffer.alloc(8),
    'another count of packs': changed(0, 1),
    'another count of chunks': changed(4, 3),
    'an empty chunk': changed(chunksAt + 16, 0),
    'a chunk that is too long': changed(chunksAt + 16, 262_145),
    'a pack without an id': changed(chunksAt + 20, 2),
  }
  for (const [what, bytes] of Object.entries(bad)) {
    assert.throws(
      () => decodeChunkList('clusters/x/dump-packs/y', 7, bytes),
      (error) => isFailure(error, 'TM1601') && /frame 7/.test(error.because ?? ''),
      what,
    )
  }
})
