import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { CopyResult } from './copy/protocol.ts'
import { CopyResults } from './copy-results.ts'

const FILES = 5
const plain = { noNullPrototype: true }
const file = fc.nat(FILES - 1)
const u32 = fc.nat(2 ** 32 - 1)
const pack = fc.constantFrom('a'.repeat(32), 'b'.repeat(32))
const digest = fc.stringMatching(/^[0-9a-f]{64}$/)
const leaf = fc.tuple(fc.record({ pack, frame: u32, slot: fc.nat(65_535) }, plain), digest)
const badPage = fc.record({ block: u32, lsn: fc.bigInt(), isNew: fc.boolean() }, plain)

const pages = fc
  .record({
    file,
    firstPage: fc.nat(131_071),
    pages: u32,
    leaves: fc.array(leaf, { maxLength: 8 }),
    packs: fc.array(pack, { maxLength: 2 }),
    badPages: fc.array(badPage, { maxLength: 2 }),
    storedPages: fc.nat(100),
    lostBaseLeaves: fc.nat(1),
  })
  .map(({ leaves, ...rest }): CopyResult => {
    const leafDigests = leaves.map(([, hex]) => hex)
    return { form: 'pages', ...rest, leaves: leaves.map(([place]) => place), leafDigests }
  })
const chunk = fc.record({ pack, frame: u32 }, plain)
const content = fc
  .record({ file, size: fc.maxSafeNat(), sha256: digest, chunks: fc.array(chunk) })
  .map((rest): CopyResult => ({ form: 'content', ...rest }))
const vanished = file.map((number): CopyResult => ({ form: 'vanished', file: number }))

/** Counted when they come, and not kept. */
function withoutCounts(result: CopyResult): CopyResult {
  if (result.form !== 'pages') return result
  return { ...result, storedPages: 0, lostBaseLeaves: 0 }
}

test('answers come back by file as they were', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(pages, content, vanished)), (given) => {
      const results = new CopyResults(FILES)
      for (const result of given) results.add(result)
      for (let number = 0; number < FILES; number++) {
        const own = given.filter((result) => result.file === number)
        assert.deepEqual(results.of(number).reverse(), own.map(withoutCounts))
      }
      const all = given.filter((result) => result.form === 'pages')
      const sum = all.reduce((total, { storedPages }) => total + storedPages, 0)
      assert.equal(results.storedPages, sum)
      const hurt = all.filter((result) => result.lostBaseLeaves > 0)
      assert.equal(results.filesWithLostLeaves, hurt.length)
      const gone = given.filter(({ form }) => form === 'vanished').map((result) => result.file)
      assert.deepEqual(results.vanished, gone)
      const bad = all.filter(({ badPages }) => badPages.length > 0).map((result) => result.file)
      assert.deepEqual(results.filesWithBadPages, new Set(bad))
    }),
  )
})
