import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lsn } from '../postgres/lsn.ts'
import type { FoldedEvent, FoldedTransaction, OtherContent } from './folded-event.ts'
import type { NameResolver, RelationName } from './name-resolver.ts'
import { EventReporter, reportEvents } from './report-events.ts'
import type { ReportedEvent } from './reported-event.ts'

const NAMES: NameResolver = {
  learn() {},
  nameOf: () => undefined,
  databaseName: (oid) => (oid === 5 ? 'shop' : undefined),
  isCatalogue: ({ number }) => number < 16384,
}

function transaction(xid: number, parts: Partial<FoldedTransaction> = {}): FoldedTransaction {
  return {
    kind: 'transaction',
    outcome: 'committed',
    isPrepared: false,
    xid,
    topXid: undefined,
    timeline: 1,
    lsn: lsn(0x5000000n),
    endLsn: lsn(0x5000040n),
    firstLsn: lsn(0x4000000n),
    time: 1_000_000n,
    database: undefined,
    subxids: [],
    rows: [],
    created: [],
    dropped: [],
    isIncomplete: false,
    ...parts,
  }
}

function other(at: bigint, content: OtherContent, xid = 0): FoldedEvent {
  return { lsn: lsn(at), timeline: 1, xid, ...content }
}

async function report(...events: FoldedEvent[]): Promise<ReportedEvent[]> {
  async function* stream() {
    yield* events
  }
  const reported: ReportedEvent[] = []
  for await (const event of reportEvents(stream(), NAMES, async () => undefined))
    reported.push(event)
  return reported
}

const dropDatabase: OtherContent = { kind: 'database-dropped', database: 5, tablespaces: [1663] }

test('DROP DATABASE has the time of its commit, and goes back to before all of it', async () => {
  const dropped = other(0x4500000n, dropDatabase, 700)
  const [removal, rest] = await report(dropped, transaction(700))
  assert.deepEqual(removal?.kinds, ['drop-database'])
  assert.equal(removal?.text, 'DROP DATABASE shop')
  assert.equal(removal?.time, 1_000_000n)
  assert.equal(removal?.beforeLsn, 0x4000000n)
  assert.deepEqual(rest?.kinds, ['commit'])
})

test('the files of a database are gone even when its transaction did not commit', async () => {
  const dropped = other(0x4500000n, dropDatabase, 700)
  const lost = transaction(700, { outcome: 'lost', time: undefined })
  assert.equal((await report(dropped, lost))[0]?.text, 'DROP DATABASE shop')
  const [open] = await report(dropped)
  assert.deepEqual(
    [open?.text, open?.time, open?.beforeLsn],
    ['DROP DATABASE shop', undefined, 0x4500000n],
  )
})

test('what rolled back did nothing, whatever it dropped', async () => {
  const dropped = [{ tablespace: 1663, database: 5, number: 20001 }]
  const [event] = await report(transaction(700, { outcome: 'aborted', dropped }))
  assert.deepEqual(event?.kinds, ['abort'])
})

test('kinds are given gravest first', async () => {
  const node = { tablespace: 1663, database: 5, number: 20001 }
  const counts = { inserted: 1, updated: 2, deleted: 3, movedAway: 0, pagesLogged: 0 }
  const rows = [{ node: { ...node, number: 20002 }, ...counts, isToast: false }]
  const [event] = await report(transaction(700, { dropped: [node], rows }))
  assert.deepEqual(event?.kinds, ['drop', 'delete', 'update', 'insert'])
  assert.deepEqual(event?.database, { oid: 5, name: 'shop' })
})

test('the end of an index or a sequence rewritten is no loss of a table', async () => {
  const kinds = async (kind: string) => {
    const name = { database: 'shop', schema: 'public', name: 'x', kind, rows: undefined }
    const known: RelationName = { ...name, isInternal: false, asOf: undefined }
    const reporter = new EventReporter({ ...NAMES, nameOf: () => known })
    const dropped = [{ tablespace: 1663, database: 5, number: 20001 }]
    return [...reporter.report(transaction(700, { dropped }))].flatMap((one) => one.kinds)
  }
  assert.deepEqual(await kinds('i'), ['index'])
  assert.deepEqual(await kinds('S'), ['drop'])
  assert.deepEqual(await kinds('m'), ['drop'])
})

test('TRUNCATE of a subtransaction at wal_level=logical belongs to its transaction', async () => {
  const node = { tablespace: 1663, database: 5, number: 20001 }
  const created = [{ node: { ...node, number: 20009 }, lsn: lsn(0x4000000n), isUnlogged: false }]
  const truncated: OtherContent = { kind: 'relation-truncated', database: 5, relationOids: [20001] }
  const parts = { subxids: [701], dropped: [node], created }
  const [event] = await report(other(0x4100000n, truncated, 701), transaction(700, parts))
  assert.deepEqual(event?.kinds, ['truncate'])
})

test('timelines, restarts, restore points, settings and gaps in words', async () => {
  const checkpoint = {
    kind: 'checkpoint',
    isShutdown: true,
    redo: lsn(0n),
    timelineAfter: 1,
    timelineBefore: 1,
    fullPageWrites: true,
    nextXid: 700n,
    nextOid: 20000,
    time: 5n,
    isFirst: false,
  } as const
  const end = { kind: 'end-of-recovery', timelineAfter: 2, timelineBefore: 1, time: 6n } as const
  const said = async (content: OtherContent) => (await report(other(1n, content)))[0]
  assert.deepEqual((await said(checkpoint))?.kinds, ['restart'])
  assert.equal(await said({ ...checkpoint, isShutdown: false }), undefined)
  assert.deepEqual((await said({ ...checkpoint, isFirst: true }))?.kinds, ['reset'])
  assert.deepEqual((await said({ ...checkpoint, timelineAfter: 2 }))?.kinds, ['timeline'])
  assert.match((await said(end))?.text ?? '', /timeline 2 begins, it left timeline 1/)
  assert.deepEqual((await said({ ...end, timelineAfter: 1 }))?.kinds, ['restart'])
  const point = await said({ kind: 'restore-point', name: 'a "b"', time: 7n })
  assert.equal(point?.text, 'restore point "a \\"b\\""')
  const gap = {
    kind: 'gap',
    timeline: 1,
    lsn: lsn(1n),
    firstSegment: 'A',
    lastSegment: 'B',
  } as const
  const [told] = await report({ ...gap, reason: 'missing' })
  assert.equal(told?.text, 'WAL is missing: A to B')
})
