/** Content-defined chunks: by the bytes alone, within bounds, and the same for ever. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { madeUpRows } from '../../test/harness/dumped-files.ts'
import { MAX_CHUNK_BYTES } from '../repository/chunk-list.ts'
import { ChunkCutter, MIN_CHUNK_BYTES } from './cut-chunks.ts'

function cutAll(bytes: Buffer, pieces: Iterable<number>): Buffer[] {
  const cutter = new ChunkCutter()
  const chunks: Buffer[] = []
  let at = 0
  for (const piece of pieces) {
    if (at >= bytes.length) break
    for (const chunk of cutter.cut(bytes.subarray(at, at + piece))) chunks.push(Buffer.from(chunk))
    at += piece
  }
  const last = cutter.finish()
  if (last !== undefined) chunks.push(Buffer.from(last))
  return chunks
}

const lengthsOf = (chunks: readonly Buffer[]): number[] => chunks.map(({ length }) => length)

function* repeating(pieces: readonly number[]): Generator<number> {
  for (;;) yield* pieces
}

const ROWS = madeUpRows(2_000_000, 3)
/** Never a cut by content: each chunk is as long as it may be. */
const ZEROS = Buffer.alloc(MAX_CHUNK_BYTES * 3 + 5)

test('chunks are the same however the bytes were handed over', () => {
  const known = new Map([ROWS, ZEROS].map((bytes) => [bytes, cutAll(bytes, [bytes.length])]))
  const piece = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 600_000 }))
  const pieces = fc.array(piece, { minLength: 1, maxLength: 12 })
  fc.assert(
    fc.property(fc.constantFrom(ROWS, ZEROS), pieces, (bytes, lengths) => {
      // Of many tiny pieces the beginning is enough.
      const many = Math.max(...lengths) < 1000 ? [...lengths, 65_536] : lengths
      const chunks = cutAll(bytes, repeating(many))
      assert.deepEqual(lengthsOf(chunks), lengthsOf(known.get(bytes) ?? []))
      assert.ok(Buffer.concat(chunks).equals(bytes))
    }),
    { numRuns: 60 },
  )
})

test('byte by byte they are the same, around every bound', () => {
  const bytes = ROWS.subarray(0, 300_000)
  assert.deepEqual(
    lengthsOf(cutAll(bytes, repeating([1]))),
    lengthsOf(cutAll(bytes, [bytes.length])),
  )
})

test('chunks keep their bounds, and have some 64 KiB', () => {
  const lengths = lengthsOf(cutAll(madeUpRows(16_000_000, 5), repeating([65_536])))
  const whole = lengths.slice(0, -1)
  assert.ok(Math.min(...whole) >= MIN_CHUNK_BYTES)
  assert.ok(Math.max(...whole) <= MAX_CHUNK_BYTES)
  const average = 16_000_000 / lengths.length
  assert.ok(average > 50_000 && average < 80_000, String(average))
  assert.deepEqual(lengthsOf(cutAll(ZEROS, [ZEROS.length])), [
    MAX_CHUNK_BYTES,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_BYTES,
    5,
  ])
})

test('no bytes are no chunk, and a cutter begins anew after finish()', () => {
  const cutter = new ChunkCutter()
  assert.equal(cutter.finish(), undefined)
  for (let round = 0; round < 2; round++) {
    const chunks = [...cutter.cut(ROWS)].map(({ length }) => length)
    const last = cutter.finish()
    assert.deepEqual([...chunks, last?.length], lengthsOf(cutAll(ROWS, [ROWS.length])))
  }
})

test('the places of cuts are those of every version: else all rows would be stored anew', () => {
  const lengths = lengthsOf(cutAll(ROWS, [ROWS.length]))
  const digest = createHash('sha256').update(lengths.join()).digest('hex').slice(0, 16)
  assert.equal(digest, '466d4c4286703eb4')
})

test('after bytes were inserted the cuts fall where they were', () => {
  const changed = Buffer.concat([
    ROWS.subarray(0, 700_000),
    Buffer.from('x'),
    ROWS.subarray(700_000),
  ])
  const hashOf = (chunk: Buffer): string => createHash('sha256').update(chunk).digest('hex')
  const before = new Set(cutAll(ROWS, [ROWS.length]).map(hashOf))
  const after = cutAll(changed, [changed.length]).map(hashOf)
  assert.ok(after.filter((chunk) => !before.has(chunk)).length <= 3)
})
