import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { FileEntry } from '../repository/backup-record.ts'
import { StaleSegments } from './assemble-files.ts'

const SEGMENT = 4 * 8192

function entry(path: string, size: number): FileEntry {
  return { kind: 'content', path, mode: 0o600, size, chunks: [], sha256: '' }
}

function emptyStaleSegments(entries: readonly FileEntry[], segmentBytes: number): FileEntry[] {
  const stale = new StaleSegments(segmentBytes)
  for (const entry of entries) stale.look(entry)
  return entries.map((one) => (stale.isStale(one) ? { ...one, kind: 'empty' } : one) as FileEntry)
}

function kinds(entries: readonly FileEntry[]): string[] {
  return emptyStaleSegments(entries, SEGMENT).map(({ path, kind }) => `${path} ${kind}`)
}

test('segments behind a short or missing one are stored empty', () => {
  const whole = [
    entry('base/5/1', SEGMENT),
    entry('base/5/1.1', SEGMENT),
    entry('base/5/1.2', 8192),
  ]
  assert.ok(kinds(whole).every((kind) => kind.endsWith('content')))
  const short = [entry('base/5/1', 8192), entry('base/5/1.1', SEGMENT), entry('base/5/1.2', 8192)]
  assert.deepEqual(kinds(short), ['base/5/1 content', 'base/5/1.1 empty', 'base/5/1.2 empty'])
  const hole = [entry('base/5/1', SEGMENT), entry('base/5/1.2', SEGMENT)]
  assert.deepEqual(kinds(hole), ['base/5/1 content', 'base/5/1.2 empty'])
  assert.deepEqual(kinds([entry('base/5/1.1', SEGMENT)]), ['base/5/1.1 empty'])
})

test('forks, databases and files that are no relations do not touch each other', () => {
  const files = [
    entry('base/5/1', SEGMENT),
    entry('base/5/1_vm', 8192),
    entry('base/5/1.1', 8192),
    entry('base/6/1', 8192),
    entry('base/6/1.1', 8192),
    entry('log/server.1', 10),
  ]
  const emptied = kinds(files).filter((kind) => kind.endsWith('empty'))
  assert.deepEqual(emptied, ['base/6/1.1 empty'])
})

test('of any set of segments those stay that follow whole ones without a gap', () => {
  const segment = fc.record({ number: fc.nat(6), whole: fc.boolean() })
  const segments = fc.uniqueArray(segment, { selector: ({ number }) => number })
  fc.assert(
    fc.property(segments, (given) => {
      const name = (number: number) => (number === 0 ? 'base/5/7' : `base/5/7.${number}`)
      const entries = given.map(({ number, whole }) => entry(name(number), whole ? SEGMENT : 8192))
      const kept = emptyStaleSegments(entries, SEGMENT)
      given.forEach(({ number }, index) => {
        const before = Array.from({ length: number }, (_, at) => at)
        const follows = before.every((at) => given.some((one) => one.number === at && one.whole))
        assert.equal(kept[index]?.kind, follows ? 'content' : 'empty')
      })
    }),
  )
})
