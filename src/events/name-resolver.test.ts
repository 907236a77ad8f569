/** Names as of a moment: what is sure, what is as of another moment, and what has none. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import type { FoldedEvent, FoldedTransaction, RelationNode } from './folded-event.ts'
import { makeNameResolver } from './name-resolver.ts'
import { type NameSource, sourceOfSnapshot } from './naming/name-source.ts'

const DATABASE = 5
const node = (number: number): RelationNode => ({ tablespace: 1663, database: DATABASE, number })
const at = (position: number): { timeline: number; lsn: Lsn } => ({
  timeline: 1,
  lsn: lsn(BigInt(position)),
})

/** A snapshot at an LSN: file node -> name in `public`. */
function snapshot(position: number, names: Readonly<Record<number, string>>): NameSource {
  return sourceOfSnapshot({
    timeline: 1,
    firstLsn: lsn(BigInt(position)),
    lastLsn: lsn(BigInt(position + 1)),
    at: new Date(position * 1000).toISOString(),
    databases: [
      {
        oid: DATABASE,
        name: 'shop',
        tablespace: 1663,
        isRead: true,
        schemas: [
          [2200, 'public'],
          [11, 'pg_catalog'],
        ],
        relations: Object.entries(names).map(
          ([number, name]) => [Number(number), 0, 2200, name, 'r', Number(number), 100, 1] as const,
        ),
      },
    ],
  })
}

function transaction(position: number, more: Partial<FoldedTransaction>): FoldedTransaction {
  return {
    kind: 'transaction',
    outcome: 'committed',
    isPrepared: false,
    xid: 700,
    topXid: undefined,
    timeline: 1,
    lsn: lsn(BigInt(position)),
    endLsn: lsn(BigInt(position + 8)),
    firstLsn: lsn(BigInt(position)),
    time: BigInt(position) * 1_000_000n,
    database: DATABASE,
    subxids: [],
    rows: [],
    created: [],
    dropped: [],
    isIncomplete: false,
    ...more,
  }
}

const created = (position: number, number: number): FoldedEvent => ({
  kind: 'storage-created',
  isUnlogged: false,
  node: node(number),
  lsn: lsn(BigInt(position)),
  timeline: 1,
  xid: 700,
})

const named = (position: number, number: number, name: string): FoldedEvent => ({
  kind: 'relation-named',
  node: node(number),
  oid: number,
  schemaOid: 2200,
  name,
  relationKind: 'r',
  lsn: lsn(BigInt(position)),
  timeline: 1,
  xid: 700,
})

test('a name is sure where a reading before and one behind agree', () => {
  const names = makeNameResolver([
    snapshot(100, { 20000: 'orders' }),
    snapshot(200, { 20000: 'orders' }),
  ])
  assert.deepEqual(names.nameOf(node(20000), at(150)), {
    database: 'shop',
    schema: 'public',
    name: 'orders',
    kind: 'r',
    isInternal: false,
    rows: 100,
    asOf: undefined,
  })
})

test('a renamed table has its older name, as of the older reading', () => {
  const names = makeNameResolver([snapshot(100, { 20000: 'old' }), snapshot(200, { 20000: 'new' })])
  const found = names.nameOf(node(20000), at(150))
  assert.deepEqual([found?.name, found?.asOf], ['old', 100_000_000n])
  assert.equal(names.nameOf(node(20000), at(50))?.name, 'old')
  assert.equal(names.nameOf(node(20000), at(250))?.asOf, 200_000_000n)
})

test('unknown numbers have no name, and nor has the same number in another tablespace', () => {
  const names = makeNameResolver([snapshot(100, { 20000: 'orders' })])
  assert.equal(names.nameOf(node(20001), at(150)), undefined)
  assert.equal(names.nameOf({ ...node(20000), tablespace: 9999 }, at(150)), undefined)
  assert.equal(names.nameOf({ ...node(20000), database: 6 }, at(150)), undefined)
})

test('a number that was given away and used again is another relation', () => {
  const names = makeNameResolver([
    snapshot(100, { 20000: 'old' }),
    snapshot(300, { 20000: 'other' }),
  ])
  names.learn(transaction(150, { dropped: [node(20000)] }))
  const dropped = names.nameOf(node(20000), at(150))
  assert.equal(dropped?.name, 'old')
  names.learn(created(200, 20000))
  const found = names.nameOf(node(20000), at(250))
  assert.deepEqual([found?.name, found?.asOf], ['other', 300_000_000n])
})

test('what was created behind the last reading has the name that the WAL tells', () => {
  const names = makeNameResolver([snapshot(100, { 20000: 'orders' })])
  names.learn(created(150, 20005))
  names.learn(named(155, 20005, 'made'))
  assert.equal(names.nameOf(node(20005), at(160))?.name, 'made', 'its own transaction')
  names.learn(
    transaction(160, { created: [{ node: node(20005), lsn: lsn(150n), isUnlogged: false }] }),
  )
  const found = names.nameOf(node(20005), at(170))
  assert.deepEqual([found?.schema, found?.name, found?.asOf], ['public', 'made', 160_000_000n])
})

test('a name of a transaction that was rolled back is none', () => {
  const names = makeNameResolver([snapshot(100, { 20000: 'orders' })])
  names.learn(created(150, 20005))
  names.learn(named(155, 20005, 'never'))
  names.learn(named(156, 20000, 'renamed'))
  names.learn(transaction(160, { outcome: 'aborted', dropped: [node(20005)] }))
  assert.equal(names.nameOf(node(20005), at(170)), undefined)
  assert.equal(names.nameOf(node(20000), at(170))?.name, 'orders')
})

test('a truncated table keeps its name in its new file', () => {
  const names = makeNameResolver([snapshot(100, { 20000: 'orders' })])
  const counts = { inserted: 0, deleted: 0, movedAway: 0, pagesLogged: 0, isToast: false }
  names.learn(created(150, 20007))
  names.learn(
    transaction(160, {
      dropped: [node(20000)],
      created: [{ node: node(20007), lsn: lsn(150n), isUnlogged: false }],
      rows: [{ node: node(1259), ...counts, updated: 1 }],
    }),
  )
  assert.equal(names.nameOf(node(20007), at(170))?.name, 'orders')
  assert.equal(names.nameOf(node(20000), at(160))?.name, 'orders')
})

test('a table that was made while another was dropped does not get its name', () => {
  const names = makeNameResolver([snapshot(100, { 20000: 'orders' })])
  const counts = { movedAway: 0, pagesLogged: 0, isToast: false }
  names.learn(created(150, 20007))
  names.learn(
    transaction(160, {
      dropped: [node(20000)],
      created: [{ node: node(20007), lsn: lsn(150n), isUnlogged: false }],
      rows: [{ node: node(1259), ...counts, inserted: 1, deleted: 1, updated: 1 }],
    }),
  )
  assert.equal(names.nameOf(node(20007), at(170)), undefined)
})

test('the new file of VACUUM FULL is the table, not the passing relation that filled it', () => {
  const swap = (oid: number, ...dropped: number[]) => {
    const names = makeNameResolver([snapshot(100, { 20000: 'orders', 20001: 'lines' })])
    names.learn(created(150, 20007))
    names.learn(named(155, 20007, `pg_temp_${oid}`))
    const made = [{ node: node(20007), lsn: lsn(150n), isUnlogged: false }]
    names.learn(transaction(160, { dropped: dropped.map(node), created: made }))
    return names.nameOf(node(20007), at(170))
  }
  const found = swap(20000, 20000)
  assert.deepEqual([found?.schema, found?.name, found?.rows], ['public', 'orders', undefined])
  assert.equal(swap(19999, 20000)?.name, 'orders', 'a table that was rewritten before')
  assert.equal(swap(20001, 20000, 20001)?.name, 'lines', 'two at once, told by the oid')
  assert.equal(swap(19999, 20000, 20001), undefined, 'two at once, and nothing tells')
})

test('rows are those of a reading before the moment', () => {
  const names = makeNameResolver([snapshot(200, { 20000: 'orders' })])
  assert.equal(names.nameOf(node(20000), at(150))?.rows, undefined)
  assert.equal(names.nameOf(node(20000), at(250))?.rows, 100)
})
