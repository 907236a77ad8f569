/**
 * Records, their blocks and what the decoders say of them, against pg_waldump and
 * pg_walinspect, record by record; where a version has neither, against what SQL did.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { MAJORS } from '../../test/harness/postgres-server.ts'
import { compareRecord, type ReadRecord, readRecords } from '../../test/harness/read-records.ts'
import {
  archiveOf,
  currentLsn,
  type DumpedRecord,
  dumpWal,
  inspectWal,
  startArchiving,
} from '../../test/harness/wal-dump.ts'
import { makeEveryKindOfWal } from '../../test/harness/wal-workload.ts'
import { lsn } from './lsn.ts'

/** Rows of CREATE TABLE … AS SELECT n, md5(n), by their line pointers. */
function assertLoggedRows(all: readonly ReadRecord[]): void {
  const bodies = all.flatMap(({ rows }) => rows ?? [])
  for (const n of [1, 1999]) {
    const text = createHash('md5').update(String(n)).digest('hex')
    const found = bodies.filter(({ body }) => Buffer.from(body).includes(text))
    assert.ok(
      found.some(({ body, headerBytes }) => {
        return Buffer.from(body).readInt32LE(headerBytes - 23) === n
      }),
    )
  }
}

function compare(all: readonly ReadRecord[], dumped: readonly DumpedRecord[]): void {
  assert.ok(dumped.length > 3000, String(dumped.length))
  const wrong = new Map<string, string>()
  for (const [n, record] of all.entries()) {
    const difference = compareRecord(record, dumped[n])
    if (difference !== undefined) wrong.set(difference.split(' ')[1] ?? '', difference)
  }
  assert.deepEqual([...wrong.values()], [])
  assert.equal(all.length, dumped.length)
}

/** Kinds of changes, so that none is missed by a workload that lost its way. */
function kindsOf(all: readonly ReadRecord[]): Set<string> {
  return new Set(
    all.flatMap(({ record, heap }) => [record.resourceManager, ...(heap ? [heap.kind] : [])]),
  )
}

const EXPECTED = [
  ...['insert', 'multi-insert', 'delete', 'update', 'lock', 'prune', 'visible', 'inplace'],
  ...['Btree', 'Hash', 'Gin', 'Gist', 'SPGist', 'BRIN', 'Sequence', 'RelMap', 'Storage'],
  ...['Standby', 'Transaction', 'Database', 'Tablespace', 'MultiXact', 'LogicalMessage', 'XLOG'],
]

const SETTINGS: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  14: { wal_compression: 'on', autovacuum: 'off' },
  15: { wal_compression: 'lz4', autovacuum: 'off' },
  16: { wal_compression: 'pglz', autovacuum: 'off', wal_level: 'logical' },
  17: { wal_compression: 'off', autovacuum: 'off', wal_consistency_checking: 'heap' },
  18: { autovacuum: 'off', wal_level: 'logical' },
}

for (const major of MAJORS) {
  test(`every kind of record and block reference of PostgreSQL ${major}`, async () => {
    const settings = { wal_keep_size: '1GB', ...SETTINGS[major] }
    const debian = major === 15 ? undefined : true
    const { server, directory } = await startArchiving(major, 1, debian, settings)
    await using _ = server
    const from = await currentLsn(server)
    await makeEveryKindOfWal(server)
    const archive = await archiveOf(server, directory, from, 1)
    const all = [...readRecords(archive, true)]
    assert.deepEqual([...readRecords(archive, false)], all)
    const kinds = kindsOf(all)
    assert.deepEqual(
      EXPECTED.filter((kind) => !kinds.has(kind)),
      [],
    )
    assertLoggedRows(all)
    const dumped = await dumpWal(major, archive)
    if (dumped !== undefined) compare(all, dumped)
    if (major >= 15) {
      const last = lsn(BigInt(`0x${all.at(-1)?.record.lsn.replace('/', '')}`))
      const inspected = await inspectWal(server, from, last)
      compare(all.slice(0, inspected.length), inspected)
    }
  })
}
