/** Every record that PostgreSQL's own regression tests write, against pg_waldump. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compareRecord, type ReadRecord, readRecords } from '../../test/harness/read-records.ts'
import { fetchRegressionSuite, runRegressionSuite } from '../../test/harness/regression-suite.ts'
import { archiveOf, currentLsn, startArchiving, streamDump } from '../../test/harness/wal-dump.ts'

/** Debian has the tests of 15 only; servers of later majors run nearly all of them. */
const SUITE = 15

/** Once as most servers run, once with what replication of rows adds. */
const RUNS: readonly { readonly major: number; readonly settings: Record<string, string> }[] = [
  { major: 15, settings: { wal_compression: 'lz4' } },
  { major: 15, settings: { wal_compression: 'pglz', wal_level: 'logical' } },
  { major: 17, settings: { wal_level: 'logical' } },
  { major: 18, settings: { wal_compression: 'pglz' } },
]

for (const { major, settings } of RUNS) {
  const named = [major, ...Object.values(settings)].join(', ')
  test(`the regression tests of PostgreSQL ${SUITE} on ${named}`, async (t) => {
    const suite = await fetchRegressionSuite(SUITE)
    const kept = { wal_keep_size: '8GB', max_wal_size: '4GB', allow_in_place_tablespaces: 'on' }
    const all = { ...kept, ...settings }
    const embedded = major === SUITE ? undefined : true
    const { server, directory } = await startArchiving(major, 16, embedded, all)
    await using _ = server
    const from = await currentLsn(server)
    await server.sql('CREATE DATABASE regression TEMPLATE template0')
    const files = await runRegressionSuite(server, suite, 'regression')
    const archive = await archiveOf(server, directory, from, 16)
    const dumped = streamDump(major, archive)
    assert.ok(dumped !== undefined)
    const ours = readRecords(archive, true)
    const reference = readRecords(archive, false)
    const wrong = new Map<string, string>()
    let records = 0
    for await (const line of dumped) {
      const [{ value: one }, { value: other }] = [ours.next(), reference.next()]
      assert.ok(one !== undefined, `${line.lsn} is missing`)
      assert.deepEqual(one, other as ReadRecord)
      const difference = compareRecord(one as ReadRecord, line)
      if (difference !== undefined) wrong.set(difference.split(' ')[1] ?? '', difference)
      records++
    }
    assert.equal(ours.next().done, true)
    assert.deepEqual([...wrong.values()], [])
    t.diagnostic(`${files} files, ${records} records`)
    assert.ok(records > 500_000, String(records))
  })
}
