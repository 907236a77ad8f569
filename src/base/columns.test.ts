import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BigColumn, BytesColumn, NumberColumn, TextNumbers } from './columns.ts'

test('numbers come back over the borders of chunks', () => {
  const small = new NumberColumn(Uint32Array)
  const large = new BigColumn(BigInt64Array)
  for (let at = 0; at < 40_000; at++) {
    small.push(at * 7)
    large.push(BigInt(at) - 20_000n)
  }
  small.set(16_384, 3)
  assert.equal(small.length, 40_000)
  for (let at = 0; at < 40_000; at++) {
    assert.equal(small.get(at), at === 16_384 ? 3 : at * 7)
    assert.equal(large.get(at), BigInt(at) - 20_000n)
  }
})

test('texts of any length come back as they were', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme', maxLength: 2000 })), (texts) => {
      const column = new BytesColumn()
      const numbers = new TextNumbers()
      for (const text of texts) column.pushText(text)
      const known = texts.map((text) => numbers.numberOf(text))
      texts.forEach((text, at) => {
        assert.equal(column.getText(at), text)
        assert.deepEqual(column.get(at), Buffer.from(text))
        assert.equal(numbers.textOf(known[at] as number), text)
      })
    }),
  )
})

test('a string that does not fit into the rest of a chunk begins the next one', () => {
  const column = new BytesColumn()
  const sizes = [700_000, 700_000, 1 << 20, 0, 5]
  for (const [at, size] of sizes.entries()) column.push(Buffer.alloc(size, at))
  for (const [at, size] of sizes.entries()) {
    assert.deepEqual(column.get(at), Buffer.alloc(size, at))
  }
  assert.throws(() => column.push(Buffer.alloc((1 << 20) + 1)))
})
