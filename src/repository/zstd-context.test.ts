import assert from 'node:assert/strict'
import { test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
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
