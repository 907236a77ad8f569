import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  formatHistoryFile,
  includes,
  parseHistoryFile,
  parseHistoryFileName,
  pathOf,
  sameAncestors,
  timelineAt,
  timelineEnd,
  timelineStart,
} from './history-file.ts'
import { type Lsn, parseLsn } from './lsn.ts'

const at = (text: string): Lsn => parseLsn(text) as Lsn

/** As PostgreSQL writes it: the parent's history, a line feed, its own line. */
const REAL =
  '1\t0/3000148\tno recovery target specified\n\n2\t0/40000A0\tbefore 2026-11-21 12:00:00+00\n'

function parse(timeline: number, text: string) {
  const parsed = parseHistoryFile(timeline, Buffer.from(text))
  assert.ok(parsed.ok, text)
  return parsed.history
}

test('reads what PostgreSQL writes', () => {
  const history = parse(3, REAL)
  assert.deepEqual(history.ancestors, [
    { timeline: 1, endLsn: at('0/3000148'), reason: 'no recovery target specified' },
    { timeline: 2, endLsn: at('0/40000A0'), reason: 'before 2026-11-21 12:00:00+00' },
  ])
  assert.deepEqual(parse(3, formatHistoryFile(history)), history)
})

test('comments, empty lines, spaces and a missing reason', () => {
  const history = parse(9, '# comment\n\n  1   0/100  \r\n#2 0/200\n4\t1/0\tx y\n')
  assert.deepEqual(pathOf(history), [1, 4, 9])
  assert.equal(history.ancestors[0]?.reason, '')
})

test('refuses what cannot be a history, naming the line', () => {
  const cases: [string, number][] = [
    ['x\n', 1],
    ['1\t0/100\n1\t0/200\n', 2],
    ['2\t0/100\n1\t0/200\n', 2],
    ['1\t0/200\n2\t0/100\n', 2],
    ['5\t0/200\n', 1],
    ['0\t0/200\n', 1],
    ['1\t200\n', 1],
    ['1\t0/200junk\n', 1],
  ]
  for (const [text, line] of cases) {
    const parsed = parseHistoryFile(5, Buffer.from(text))
    assert.ok(!parsed.ok, text)
    assert.equal(parsed.error.line, line, text)
  }
})

test('the owner of an LSN: the first byte at the fork belongs to the new timeline', () => {
  const history = parse(3, REAL)
  assert.equal(timelineAt(history, at('0/0')), 1)
  assert.equal(timelineAt(history, at('0/3000147')), 1)
  assert.equal(timelineAt(history, at('0/3000148')), 2)
  assert.equal(timelineAt(history, at('0/40000A0')), 3)
  assert.equal(timelineAt(history, at('FF/0')), 3)
})

test('two promotions at one place leave the middle timeline without WAL', () => {
  const history = parse(3, '1\t0/3000148\tx\n2\t0/3000148\ty\n')
  assert.equal(timelineAt(history, at('0/3000148')), 3)
})

test('where timelines begin and end on a path', () => {
  const history = parse(3, REAL)
  assert.equal(timelineStart(history, 1), 0n)
  assert.equal(timelineStart(history, 2), at('0/3000148'))
  assert.equal(timelineStart(history, 3), at('0/40000A0'))
  assert.equal(timelineStart(history, 4), undefined)
  assert.equal(timelineEnd(history, 1), at('0/3000148'))
  assert.equal(timelineEnd(history, 3), undefined)
})

test('is a place of a timeline part of the path', () => {
  const history = parse(3, REAL)
  assert.equal(includes(history, 1, at('0/3000148')), true)
  assert.equal(includes(history, 1, at('0/3000149')), false)
  assert.equal(includes(history, 2, at('0/3000150')), true)
  assert.equal(includes(history, 3, at('FF/0')), true)
  assert.equal(includes(history, 7, at('0/1')), false)
})

test('ancestors are compared by timeline and place, not by reason', () => {
  const one = parse(3, REAL).ancestors
  const other = parse(3, '1\t0/3000148\ta\n2\t0/40000A0\tb\n').ancestors
  assert.equal(sameAncestors(one, other), true)
  assert.equal(sameAncestors(one, other.slice(0, 1)), false)
  assert.equal(sameAncestors(one, parse(3, '1\t0/3000148\ta\n2\t0/40000A8\tb\n').ancestors), false)
})

test('file names', () => {
  assert.equal(parseHistoryFileName('0000000A.history'), 10)
  for (const name of ['00000000.history', '0000000a.history', '1.history', '00000001.history.x']) {
    assert.equal(parseHistoryFileName(name), undefined)
  }
})
