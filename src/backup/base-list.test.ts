import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { FileEntry } from '../repository/backup-record.ts'
import { encodePiece } from '../repository/file-list.ts'
import { BaseList } from './base-list.ts'

const PACKS = ['a', 'b', 'c'].map((digit) => digit.repeat(32)) as [string, string, string]

const entry = fc.record({
  path: fc.stringMatching(/^base\/[1-3]\/[0-9]{1,3}$/),
  pack: fc.constantFrom(...PACKS),
})
const pieces = fc
  .uniqueArray(entry, { selector: ({ path }) => path, minLength: 1, maxLength: 40 })
  .map((list) => list.toSorted((a, b) => (a.path < b.path ? -1 : 1)))
  .chain((list) => {
    const cuts = fc.array(fc.nat(list.length), { maxLength: 8 })
    return cuts.map((at) => {
      const borders = [...new Set([0, ...at, list.length])].sort((a, b) => a - b)
      return borders.slice(1).map((to, number) => list.slice(borders[number], to))
    })
  })

function contentOf({ path, pack }: { path: string; pack: string }): FileEntry {
  const chunks = [{ pack, frame: 7 }]
  return { kind: 'content', path, mode: 0o600, size: 5, chunks, sha256: hash('sha256', path) }
}

test('whatever is kept decoded, every entry that may be given is found by its path', () => {
  const kept = fc.constantFrom(0, 1, 5, 1000)
  fc.assert(
    fc.property(pieces, kept, fc.boolean(), (all, keptEntries, isWhole) => {
      const lookups = all.flat().map(contentOf)
      const whole = isWhole ? lookups.length : -1
      const judge = {
        isThere: (one: FileEntry) => one.kind === 'content' && one.chunks[0]?.pack !== PACKS[1],
        mayBeCompared: (one: FileEntry) => !one.path.endsWith('5'),
        mayRefer: (pack: string) => pack !== PACKS[2],
      }
      const list = new BaseList(lookups.length, judge, { whole, kept: keptEntries })
      const references = PACKS.map((pack, frame) => ({ pack, frame }))
      all.forEach((piece, number) => {
        const bytes = encodePiece(piece.map(contentOf))
        const reference = references[number % 3] as (typeof references)[0]
        list.add({ reference, key: 'k', bytes, sha256: hash('sha256', bytes) })
      })
      assert.equal(list.lost, lookups.filter((one) => !judge.isThere(one)).length)
      for (const one of [...lookups, ...lookups.toReversed()]) {
        const expected = judge.isThere(one) && judge.mayBeCompared(one) ? one : undefined
        assert.deepEqual(list.entries.get(one.path), expected)
        assert.equal(list.entries.get(`${one.path}_`), undefined)
      }
      assert.equal(list.entries.get(''), undefined)
      all.forEach((piece, number) => {
        const reference = references[number % 3] as (typeof references)[0]
        const known = list.byFirstPath.get(piece[0]?.path ?? '')
        const sha256 = hash('sha256', encodePiece(piece.map(contentOf)))
        assert.deepEqual(known?.reference, number % 3 === 2 ? undefined : reference)
        if (known !== undefined) assert.deepEqual(known.entries, piece.map(contentOf))
        assert.deepEqual(list.bySha256.get(sha256), number % 3 === 2 ? undefined : reference)
      })
    }),
  )
})
