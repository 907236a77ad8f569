/** That the check which the other scenarios rely on does see a damaged copy. */
import assert from 'node:assert/strict'
import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { amcheckMissing, checkWithAmcheck } from '../harness/amcheck.ts'
import { defaultMajor } from '../harness/postgres-binaries.ts'
import { startPostgres } from '../harness/postgres-server.ts'

const PAGE_BYTES = 8192

test('amcheck sees an index that lacks a page', {
  skip: amcheckMissing(defaultMajor()),
}, async () => {
  await using server = await startPostgres()
  await server.sql('CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 5000) g')
  await server.sql('CREATE INDEX t_id ON t (id)')
  await checkWithAmcheck(server)
  const [row] = await server.sql<{ path: string }>("SELECT pg_relation_filepath('t_id') AS path")
  await server.stop()
  const file = openSync(join(server.dataDirectory, String(row?.path)), 'r+')
  writeSync(file, Buffer.alloc(PAGE_BYTES), 0, PAGE_BYTES, 2 * PAGE_BYTES)
  closeSync(file)
  await server.start()
  await assert.rejects(checkWithAmcheck(server), /t_id/)
})
