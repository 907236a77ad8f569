import assert from 'node:assert/strict'
import { test } from 'node:test'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { decodeFrame, encodeFrame } from './frame-codec.ts'
import { frameHash } from './pack-format.ts'
import { makeZstdContext } from './zstd-context.ts'

const MAX = 8192

test('what goes in comes out, in any order of calls, sizes and errors', () => {
  const context = makeZstdContext(1, MAX)
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 2 * MAX }),
    fc.nat(2 * MAX).map((length) => Buffer.alloc(length, 'abc')),
  )
  fc.assert(
    fc.property(fc.array(fc.tuple(bytes, fc.boolean()), { maxLength: 6 }), (inputs) => {
      for (const [raw, damage] of inputs) {
        const stored = Buffer.from(context.compress(raw))
        assert.ok(zstdDecompressSync(stored).equals(raw))
        if (damage) {
          assert.throws(() => context.decompress(stored.subarray(1), raw.length))
        }
        assert.ok(Buffer.from(raw).equals(context.decompress(stored, raw.length)))
      }
    }),
    { numRuns: 300 },
  )
})

/** Words in an order that does not repeat: each level finds more in it than the one below. */
function compressible(bytes: number): Buffer {
  let state = 1
  const words = Array.from({ length: bytes / 4 }, () => {
    state = (state * 48_271) % 0x7fffffff
    return `${(state % 1999).toString(36)} `
  })
  return Buffer.from(words.join('')).subarray(0, bytes)
}

test('the level that is asked for is the one of every frame', () => {
  const raw = compressible(128 * 1024)
  const sizes = [1, 3, 6].map((level) => {
    const context = makeZstdContext(level, raw.length)
    const params = { [constants.ZSTD_c_compressionLevel]: level }
    const expected = zstdCompressSync(raw, { params })
    for (let frame = 0; frame < 3; frame++) {
      assert.ok(expected.equals(context.compress(raw)), `level ${level}, frame ${frame}`)
    }
    return expected.length
  })
  assert.equal(new Set(sizes).size, 3, String(sizes))
})

test('a frame that is larger than it says does not overrun', () => {
  const context = makeZstdContext(1, MAX)
  const stored = Buffer.from(context.compress(Buffer.alloc(4 * MAX, 'x')))
  assert.throws(() => context.decompress(stored, MAX))
})

test('a decoded frame keeps its bytes when the next one is decoded', () => {
  const frames = ['first', 'second'].map((text) => {
    const raw = Buffer.from(text.repeat(500))
    const { codec, stored } = encodeFrame(raw, 1)
    const bytes = Buffer.from(stored)
    const entry = { kind: 2, codec, slots: 1, offset: 0, extents: [], hash: frameHash(bytes) }
    const lengths = { storedLength: bytes.length, rawLength: raw.length }
    return { raw, decoded: decodeFrame('a key', 0, { ...entry, ...lengths }, bytes) }
  })
  for (const { raw, decoded } of frames) assert.ok(raw.equals(decoded))
})
