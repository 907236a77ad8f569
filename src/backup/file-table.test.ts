import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { describeVersion } from '../postgres/versions.ts'
import { FileTable } from './file-table.ts'
import { type Listed, listDataDirectory } from './list-files.ts'

const EXCLUSIONS = {
  ...describeVersion(150_000).exclusions,
  tablespaceVersionDirectory: 'PG_15_202209061',
}

const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const path = fc.stringMatching(/^(@@)?[a-zé\u{1f600}]{1,9}(\/[a-z0-9._]{1,9}){0,3}$/u)
const mode = fc.nat(0o7777)
const plain = { noNullPrototype: true }
const listed: fc.Arbitrary<Listed> = fc.oneof(
  fc.record({ kind: fc.constant('directory'), path, mode }, plain),
  fc.record({ kind: fc.constant('link'), path, mode, target: fc.string() }, plain),
  fc
    .record({
      path,
      mode,
      size: fc.maxSafeNat(),
      status: fc.record({ device: i64, inode: i64, modifiedNs: i64, changedNs: i64 }, plain),
    })
    .map((file) => {
      const place = file.path.startsWith('@@') ? file.path.slice(1) : file.path
      return { kind: 'file', location: `/data/${place}`, ...file } as const
    }),
)

test('entries come back as they were, as objects and in columns', () => {
  fc.assert(
    fc.property(fc.array(listed), fc.nat(4), (entries, kept) => {
      const table = new FileTable('/data/', kept)
      for (const entry of entries) table.add(entry)
      assert.equal(table.length, entries.length)
      assert.deepEqual([...table], entries)
      assert.equal(table.at(entries.length), undefined)
      assert.equal(table.at(-1), undefined)
    }),
  )
})

test('a directory is listed in the order of its paths, whatever the names', () => {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'tidemark-list-')))
  const part = fc.stringMatching(/^[a@b\-.0é\u{1f600}\uffee][ab\-.0]{0,2}$/u)
  const paths = fc.array(fc.array(part, { minLength: 1, maxLength: 3 }), { maxLength: 12 })
  let run = 0
  try {
    fc.assert(
      fc.property(paths, (given) => {
        const directory = join(root, String(run++))
        mkdirSync(directory)
        for (const parts of given) {
          if (parts.includes('.')) continue
          try {
            mkdirSync(dirname(join(directory, ...parts)), { recursive: true })
            writeFileSync(join(directory, ...parts), 'x', { flag: 'wx' })
          } catch {
            // A file lies where a directory should be, or the reverse.
          }
        }
        const found = [...listDataDirectory(directory, EXCLUSIONS).entries].map((one) => one.path)
        assert.deepEqual(found, [...found].sort())
        assert.equal(new Set(found).size, found.length)
      }),
      { numRuns: 60 },
    )
  } finally {
    rmSync(root, { recursive: true })
  }
})

test('a tablespace is its link and what lies below it, in their places', () => {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'tidemark-list-')))
  const data = join(root, 'data')
  const space = join(root, 'space', EXCLUSIONS.tablespaceVersionDirectory, '5')
  for (const directory of [space, join(data, 'pg_tblspc'), join(data, 'base/1')]) {
    mkdirSync(directory, { recursive: true })
  }
  writeFileSync(join(space, '16400'), '')
  writeFileSync(join(data, 'base/1/16384'), '')
  writeFileSync(join(data, 'base-x'), '')
  symlinkSync(join(root, 'space'), join(data, 'pg_tblspc/16399'))
  const { entries, tablespaces } = listDataDirectory(`${data}/`, EXCLUSIONS)
  const below = `pg_tblspc/16399/${EXCLUSIONS.tablespaceVersionDirectory}`
  const expected = ['base', 'base-x', 'base/1', 'base/1/16384', 'pg_tblspc', 'pg_tblspc/16399']
  assert.deepEqual(
    [...entries].map((one) => one.path),
    [...expected, below, `${below}/5`, `${below}/5/16400`],
  )
  assert.equal(tablespaces[0]?.oid, 16_399)
  rmSync(root, { recursive: true })
})
