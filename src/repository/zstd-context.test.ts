import assert from 'node:assert/strict'
import { test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
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
