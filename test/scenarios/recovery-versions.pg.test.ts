/** Every supported major: back up, restore to a moment under way, recover, compare. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { amcheckMissing, checkWithAmcheck } from '../harness/amcheck.ts'
import { embeddedDirectory, findTool } from '../harness/postgres-binaries.ts'
import { SAMPLED_MAJORS } from '../harness/postgres-server.ts'
import { openRecovered, protectServer } from './recovery-cluster.ts'

for (const major of SAMPLED_MAJORS) {
  const missing = existsSync(embeddedDirectory(major)) ? false : 'no embedded server here'
  test(`PostgreSQL ${major} recovers to a restore point`, { skip: missing }, async () => {
    await using cluster = await protectServer({ major, embedded: true })
    const { server } = cluster
    await server.sql(
      'CREATE TABLE t AS SELECT g AS i, md5(g::text) FROM generate_series(1, 5000) g',
    )
    await server.sql('CREATE INDEX ON t (i)')
    await cluster.backup()
    await server.sql('DELETE FROM t WHERE i > 4000')
    await server.sql(`SELECT pg_create_restore_point('here')`)
    await server.sql('DROP TABLE t')
    await cluster.archiveNow()
    const into = cluster.path('copy')
    const { started, replayEndLsn } = (
      await cluster.ok(
        '--json',
        'restore',
        '--into',
        into,
        '--to',
        'name:here',
        '--start',
        '--action',
        'shutdown',
        '--pg-bin',
        server.binDirectory,
      )
    ).json<{ started: { reachedLsn: string }; replayEndLsn: string }>()
    assert.equal(started.reachedLsn, replayEndLsn)
    const again = cluster.path('again')
    await cluster.ok('restore', '--into', again, '--to', 'name:here')
    if (findTool('pg_verifybackup', major) !== undefined) {
      await server.tool('pg_verifybackup', ['-n', again])
    }
    await using copy = await openRecovered(again, { major, embedded: true })
    assert.equal((await copy.sql('SELECT * FROM t')).length, 4000)
    if (amcheckMissing(major) === false) await checkWithAmcheck(copy)
  })
}

for (const walSegmentSizeMb of [1, 64]) {
  test(`WAL segments of ${walSegmentSizeMb} MB, without page checksums`, async () => {
    await using cluster = await protectServer({ walSegmentSizeMb, checksums: false })
    const { server } = cluster
    await server.sql('CREATE TABLE t (i int)')
    await cluster.backup()
    await server.sql('INSERT INTO t SELECT generate_series(1, 50000)')
    await cluster.archiveNow()
    const into = cluster.path('copy')
    await cluster.ok('restore', '--into', into)
    await using copy = await openRecovered(into)
    assert.equal((await copy.sql('SELECT * FROM t')).length, 50000)
  })
}
