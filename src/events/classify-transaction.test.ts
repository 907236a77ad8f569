import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lsn } from '../postgres/lsn.ts'
import { type ClassifiedTransaction, classifyTransaction } from './classify-transaction.ts'
import type { FoldedTransaction, RelationNode, RelationRows } from './folded-event.ts'
import type { RelationName } from './name-resolver.ts'

const node = (number: number): RelationNode => ({ tablespace: 1663, database: 5, number })

function rows(number: number, counts: Partial<RelationRows>): RelationRows {
  const none = { inserted: 0, updated: 0, deleted: 0, movedAway: 0, pagesLogged: 0 }
  return { node: node(number), ...none, isToast: false, ...counts }
}

function transaction(parts: Partial<FoldedTransaction>): FoldedTransaction {
  return {
    kind: 'transaction',
    outcome: 'committed',
    isPrepared: false,
    xid: 700,
    topXid: undefined,
    timeline: 1,
    lsn: lsn(0x5000000n),
    endLsn: lsn(0x5000040n),
    firstLsn: lsn(0x4000000n),
    time: 0n,
    database: 5,
    subxids: [],
    rows: [],
    created: [],
    dropped: [],
    isIncomplete: false,
    ...parts,
  }
}

const created = (...numbers: number[]) =>
  numbers.map((number) => ({ node: node(number), lsn: lsn(0x4000000n), isUnlogged: false }))

function named(name: string, kind = 'r', more: Partial<RelationName> = {}): RelationName {
  const known = { database: 'shop', schema: 'public', name, kind, rows: undefined }
  return { ...known, isInternal: false, asOf: undefined, ...more }
}

function classify(
  parts: Partial<FoldedTransaction>,
  names: Record<number, RelationName> = {},
  truncatedOids: number[] = [],
): ClassifiedTransaction {
  return classifyTransaction(transaction(parts), {
    nameOf: ({ number }) => names[number],
    isCatalogue: ({ number }) => number < 16384,
    truncatedOids,
  })
}

const effects = ({ relations }: ClassifiedTransaction) =>
  relations.map(({ name, node: { number }, storage }) => [name?.name ?? number, storage])

test('files that go while none is made are dropped, with or without a name', () => {
  const dropped = [node(20001), node(20002), node(20003)]
  const names = { 20002: named('orders_pkey', 'i'), 20001: named('orders') }
  assert.deepEqual(effects(classify({ dropped }, names)), [
    ['orders', 'dropped'],
    ['orders_pkey', 'dropped'],
    [20003, 'dropped'],
  ])
})

test('a successor that stays empty is a truncate; one that is filled is a rewrite', () => {
  const names = {
    20001: named('orders'),
    20002: named('orders_pkey', 'i'),
    20011: named('orders'),
    20012: named('orders_pkey', 'i'),
  }
  const dropped = [node(20002), node(20001)]
  const replaced = { dropped, created: created(20011, 20012) }
  // An index that is built on nothing has a page of its own.
  const empty = classify({ ...replaced, rows: [rows(20012, { pagesLogged: 1 })] }, names)
  assert.deepEqual(effects(empty), [
    ['orders', 'truncated'],
    ['orders_pkey', 'rewritten'],
  ])
  for (const counts of [{ pagesLogged: 3 }, { inserted: 10 }]) {
    const filled = classify({ ...replaced, rows: [rows(20011, counts)] }, names)
    assert.deepEqual(effects(filled)[0], ['orders', 'rewritten'])
  }
})

test('REFRESH of a materialized view that comes out empty is no truncate', () => {
  const names = { 20001: named('sums', 'm'), 20011: named('sums', 'm') }
  const refreshed = classify({ dropped: [node(20001)], created: created(20011) }, names)
  assert.deepEqual(effects(refreshed), [['sums', 'rewritten']])
})

test('without the name of the new file it is not known whether a table went', () => {
  const replaced = { dropped: [node(20001)], created: created(20011) }
  assert.deepEqual(effects(classify(replaced, { 20001: named('orders') })), [['orders', 'gone']])
  assert.deepEqual(effects(classify(replaced)), [[20001, 'gone']])
})

test('a new table of another name is no successor, save where names may have changed', () => {
  const replaced = { dropped: [node(20001)], created: created(20011) }
  const names = { 20001: named('orders'), 20011: named('orders_new') }
  assert.deepEqual(effects(classify(replaced, names)), [['orders', 'dropped']])
  const old = { 20001: named('orders'), 20011: named('orders_new', 'r', { asOf: 1n }) }
  assert.deepEqual(effects(classify(replaced, old)), [['orders', 'gone']])
  // Of another kind it is none whatever it was called.
  const other = { 20001: named('orders'), 20011: named('some_index', 'i', { asOf: 1n }) }
  assert.deepEqual(effects(classify(replaced, other)), [['orders', 'dropped']])
})

test('a TRUNCATE that WAL names is one, even when the table was filled again', () => {
  const names = { 20001: named('orders') }
  const filled = {
    dropped: [node(20001)],
    created: created(20011),
    rows: [rows(20011, { inserted: 5 })],
  }
  assert.deepEqual(effects(classify(filled, names, [20001]))[0], ['orders', 'truncated'])
})

test('what was made and dropped in one transaction is told of only for its rows', () => {
  const work = { dropped: [node(20001)], created: created(20001) }
  assert.deepEqual(effects(classify(work)), [])
  const filled = classify({ ...work, rows: [rows(20001, { inserted: 2 })] })
  assert.deepEqual(effects(filled), [[20001, undefined]])
})

test('catalogue and TOAST rows are counted apart', () => {
  const classified = classify(
    {
      rows: [
        rows(1259, { inserted: 3, updated: 1 }),
        rows(20001, { inserted: 2, deleted: 1 }),
        rows(20005, { inserted: 9, isToast: true }),
        rows(20006, { deleted: 4 }),
      ],
    },
    { 20006: named('pg_toast_20001', 't', { isInternal: true }) },
  )
  const { internalRows, inserted, updated, deleted } = classified
  assert.deepEqual([internalRows, inserted, updated, deleted], [17, 2, 0, 1])
})

test('a row that moves to another partition is one update, as in SQL', () => {
  const classified = classify({
    rows: [rows(20001, { movedAway: 7, updated: 1 }), rows(20002, { inserted: 7 })],
  })
  const { inserted, updated, deleted } = classified
  assert.deepEqual([inserted, updated, deleted], [0, 8, 0])
  assert.equal(classified.relations.find(({ node: { number } }) => number === 20001)?.updated, 8)
})

test('the share is of what the table had, where that is known, and never above all', () => {
  const share = (rowsBefore: number | undefined): number | undefined => {
    const names = { 20001: named('orders', 'r', { rows: rowsBefore }) }
    return classify({ rows: [rows(20001, { deleted: 50 })] }, names).relations[0]?.share
  }
  assert.deepEqual(
    [share(200), share(40), share(0), share(undefined)],
    [0.25, 1, undefined, undefined],
  )
})

test('of an unlogged table the new file tells nothing, and is no truncate', () => {
  const names = { 20001: named('work'), 20011: named('work') }
  const successors = [{ node: node(20011), lsn: lsn(0x4000000n), isUnlogged: true }]
  const replaced = classify({ dropped: [node(20001)], created: successors }, names)
  assert.deepEqual(effects(replaced), [['work', 'rewritten']])
})
