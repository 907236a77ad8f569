import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import pico from 'picocolors'
import { Failure } from '../../../base/failure.ts'
import type { RelationEffect } from '../../../events/classify-transaction.ts'
import type { RelationName } from '../../../events/name-resolver.ts'
import { EVENT_KINDS, type EventKind, type ReportedEvent } from '../../../events/reported-event.ts'
import { lsn } from '../../../postgres/lsn.ts'
import { formatTime, parseTarget } from '../../../recovery/parse-target.ts'
import { type EventFilter, isShown } from './filter-events.ts'
import { eventJson, formatEvent, type FormatOptions } from './format-event.ts'
import { drawHistogram, drawLevels, Histogram } from './histogram.ts'
import { parseMoment } from './parse-moment.ts'
import { buildProgram } from '../../program.ts'

const PLAIN = pico.createColors(false)

function relation(name: string, parts: Partial<RelationEffect> = {}): RelationEffect {
  const known: RelationName = {
    database: 'shop',
    schema: 'public',
    name,
    kind: 'r',
    isInternal: false,
    rows: undefined,
    asOf: undefined,
  }
  const counts = { storage: undefined, inserted: 0, updated: 0, deleted: 0, share: undefined }
  const node = { tablespace: 1663, database: 5, number: 20001 }
  return { node, name: known, ...counts, ...parts }
}

function event(kinds: EventKind[], ...relations: RelationEffect[]): ReportedEvent {
  const sum = (key: 'inserted' | 'updated' | 'deleted'): number =>
    relations.reduce((total, one) => total + one[key], 0)
  return {
    kinds,
    time: 1_763_647_391_123_456n,
    after: undefined,
    timeline: 1,
    lsn: lsn(0x3000060n),
    beforeLsn: lsn(0x3000060n),
    xid: 48211,
    subxids: [48212],
    database: { oid: 5, name: 'shop' },
    transaction: {
      relations,
      inserted: sum('inserted'),
      updated: sum('updated'),
      deleted: sum('deleted'),
      internalRows: 0,
      outcome: 'committed',
      isPrepared: false,
    },
    text: '',
    isIncomplete: false,
  }
}

function shows(one: ReportedEvent, filter: Partial<EventFilter> = {}): boolean {
  const none = { kinds: undefined, relation: undefined, database: undefined, xid: undefined }
  return isShown(one, { ...none, minRows: undefined, all: false, ...filter })
}

const del = (deleted: number, share?: number): ReportedEvent =>
  event(['delete'], relation('orders', { deleted, share }))

test('by itself: what dropped, and transactions of many rows or of half a table', () => {
  assert.equal(shows(event(['drop'], relation('orders', { storage: 'dropped' }))), true)
  assert.deepEqual(
    [del(999), del(1000)].map((one) => shows(one)),
    [false, true],
  )
  assert.deepEqual(
    [del(10, 0.5), del(9, 1), del(400, 0.4)].map((one) => shows(one)),
    [true, false, false],
  )
  assert.equal(shows(event(['insert'], relation('orders', { inserted: 1e6 }))), false)
  assert.equal(shows(event(['abort'])), false)
  assert.equal(shows(event(['index'])), false)
})

test('a rewrite that lost most of the rows is shown, another is not', () => {
  const table = relation('orders', { storage: 'rewritten', inserted: 40 })
  const of = (rows: number): ReportedEvent =>
    event(['rewrite'], { ...table, name: { ...(table.name as RelationName), rows } })
  assert.deepEqual(
    [of(100), of(41)].map((one) => shows(one)),
    [true, false],
  )
})

test('--min-rows counts, --kind chooses, --all takes everything, --xid finds a part', () => {
  assert.equal(shows(del(10, 1), { minRows: 11 }), false)
  assert.equal(shows(del(11, 0.1), { minRows: 11 }), true)
  assert.equal(shows(del(1), { kinds: ['delete'] }), true)
  assert.equal(shows(del(1), { kinds: ['update', 'drop'] }), false)
  assert.equal(shows(del(5), { kinds: ['delete'], minRows: 6 }), false)
  assert.equal(shows(event(['abort']), { all: true }), true)
  assert.equal(shows(del(1), { xid: 48212 }), true)
  assert.equal(shows(del(1), { xid: 48213 }), false)
})

test('--relation and --database', () => {
  const both = event(
    ['delete'],
    relation('orders', { deleted: 1 }),
    relation('lines', { deleted: 2000 }),
  )
  assert.equal(shows(both, { relation: 'lines' }), true)
  assert.equal(shows(both, { relation: 'orders' }), false, 'only what is asked for counts')
  for (const name of ['public.lines', 'public.li*', '*', '20001', '1663/5/20001']) {
    assert.equal(shows(both, { relation: name }), true, name)
  }
  for (const name of ['line', 'lines2', 'public.', '.ines', '2000']) {
    assert.equal(shows(both, { relation: name, all: true }), false, name)
  }
  assert.equal(shows(both, { database: 'shop' }), true)
  assert.equal(shows(both, { database: '5' }), true)
  assert.equal(shows(both, { database: 'other' }), false)
})

const OPTIONS: FormatOptions = {
  restore: { cluster: 'main', config: undefined, repository: undefined, timeline: undefined },
  isRecoverable: true,
  isNotable: true,
}

test('one event, with the line that recovers to just before it', () => {
  const one = event(
    ['drop', 'delete'],
    relation('orders', { storage: 'dropped' }),
    relation('lines', { deleted: 1200, share: 0.75 }),
  )
  assert.deepEqual(formatEvent(one, OPTIONS, PLAIN), [
    '2025-11-20T14:03:11.123456Z  shop: DROP TABLE public.orders; deleted 1,200 rows (75 %) from public.lines  xid 48211 at 0/3000060',
    '    tidemark restore main --to before:xid:48211 --into restored-before-xid-48211',
  ])
  const everyday = formatEvent(one, { ...OPTIONS, isNotable: false }, PLAIN)
  assert.equal(everyday.length, 1)
  const [, unreachable] = formatEvent(one, { ...OPTIONS, isRecoverable: false }, PLAIN)
  assert.match(unreachable ?? '', /no backup leads to before it/)
})

test('a pasted line says everything again that was given here', () => {
  const restore = { cluster: 'my main', config: '/etc/t m.yaml', repository: 'off', timeline: 3 }
  const [, line] = formatEvent(event(['drop']), { ...OPTIONS, restore }, PLAIN)
  assert.equal(
    line?.trim(),
    "tidemark --config '/etc/t m.yaml' restore 'my main' --to before:xid:48211 --timeline 3 --repository off --into restored-before-xid-48211",
  )
})

test('every target that is printed can be read by restore', () => {
  const base = event(['drop'])
  const removal = { ...base, transaction: undefined, kinds: ['drop-database'] as const }
  const point = { ...removal, kinds: ['restore-point'] as const }
  const targets = [base, removal, point].map((one) => String(eventJson(one, OPTIONS)['target']))
  assert.deepEqual(targets, ['before:xid:48211', 'before:lsn:0/3000060', 'lsn:0/3000060'])
  for (const target of targets) parseTarget(target)
})

test('a name cannot command the terminal', () => {
  const evil = event(['drop'], relation('a\u001b]0;x\u0007', { storage: 'dropped' }))
  assert.doesNotMatch(formatEvent(evil, OPTIONS, PLAIN).join(''), /\p{Cc}/u)
})

test('many relations are counted, unknown ones have their number', () => {
  const many = Array.from({ length: 14 }, (_, n) => relation(`t${n}`, { storage: 'dropped' }))
  const [line] = formatEvent(event(['drop'], ...many), OPTIONS, PLAIN)
  assert.match(line ?? '', /DROP TABLE public.t0, public.t1, public.t2 and 11 more/)
  const unknown = relation('x', { storage: 'gone', name: undefined })
  assert.match(
    formatEvent(event(['drop'], unknown), OPTIONS, PLAIN)[0] ?? '',
    /dropped or replaced: file 1663\/5\/20001/,
  )
})

const NOW = new Date('2026-11-20T23:30:00Z')

test('moments: with a zone, of today in that zone, or so long ago', () => {
  const read = (text: string): string => formatTime(parseMoment(text, '--since', NOW))
  assert.equal(read('2026-11-20T14:00:00+01:00'), '2026-11-20T13:00:00Z')
  assert.equal(read('14:00Z'), '2026-11-20T14:00:00Z')
  assert.equal(read('14:00:05.5Z'), '2026-11-20T14:00:05.500Z')
  // There it is the 21st already.
  assert.equal(read('00:15+02:00'), '2026-11-20T22:15:00Z')
  assert.equal(read('30min'), '2026-11-20T23:00:00Z')
  assert.equal(read('3d'), '2026-11-17T23:30:00Z')
  for (const text of [
    '14:00',
    '2026-11-20T14:00:00',
    '2026-11-20',
    'yesterday',
    '25:00Z',
    '3w',
    '',
  ]) {
    assert.throws(
      () => parseMoment(text, '--until', NOW),
      (error) =>
        error instanceof Failure && error.code === 'TM1482' && error.message.includes('--until'),
      text,
    )
  }
})

test('a histogram keeps every count, whatever the order and the span of times', () => {
  const times = fc.array(fc.integer({ min: 0, max: 10 ** 12 }), { minLength: 1, maxLength: 300 })
  fc.assert(
    fc.property(times, fc.integer({ min: 1, max: 90 }), (list, count) => {
      const histogram = new Histogram()
      for (const time of list) histogram.add(time, 2, time % 7 === 0)
      const columns = histogram.columns(count)
      assert.ok(columns !== undefined && columns.transactions.length <= count)
      const { fromMs, widthMs, transactions, rows } = columns
      const expected = transactions.map((_, at) => {
        const from = fromMs + at * widthMs
        return list.filter((time) => time >= from && time < from + widthMs).length
      })
      assert.deepEqual(transactions, expected)
      assert.equal(
        rows.reduce((a, b) => a + b, 0),
        2 * list.length,
      )
    }),
  )
})

test('a histogram is drawn within the width, and never hides a little', () => {
  const histogram = new Histogram()
  for (let second = 0; second < 600; second++)
    histogram.add(second * 1000, second === 300 ? 9000 : 1, second === 300)
  const lines = drawHistogram(histogram, { columns: 60, isUtf8: true }, PLAIN)
  assert.ok(
    lines.every((line) => line.length <= 60),
    lines.join('\n'),
  )
  assert.match(lines[0] ?? '', /^transactions {2}█+.$/)
  assert.match(lines[1] ?? '', /^rows changed {2}▁+█▁+$/)
  assert.match(lines[2] ?? '', /^shown above {3} +▲$/)
  assert.equal(drawLevels([0, 1, 1e9], ' .:#'), ' .#')
  const ascii = drawHistogram(histogram, { columns: 60, isUtf8: false }, PLAIN).join('\n')
  assert.match(ascii, /^[ -~\n]+$/)
})

test('the help names all kinds', () => {
  const program = buildProgram('0', async () => {})
  const command = program.commands.find((one) => one.name() === 'events')
  const option = command?.options.find(({ long }) => long === '--kind')
  const named = option?.description.split(': ')[1]?.split(', ') ?? []
  assert.deepEqual([...named].sort(), [...EVENT_KINDS].sort())
})
