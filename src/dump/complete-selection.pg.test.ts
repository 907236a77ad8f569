/** What a selection leaves out is told, or refused. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { dumpOptions, toolDirectory } from '../../test/harness/dumping.ts'
import { readWholeFile } from '../../test/harness/dumped-files.ts'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { newRepository } from '../../test/scenarios/backup-fixture.ts'
import { isFailure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import type { Storage } from '../storage/storage.ts'
import { formatTableOption } from './complete-selection.ts'
import type { TakeDumpOptions } from './dump-context.ts'
import { type DumpSelection, WHOLE_DATABASE } from './selection.ts'
import { takeDump } from './take-dump.ts'

let server: PostgresServer
let storage: Storage

const SCHEMA = `
  CREATE TABLE orders (t text); INSERT INTO orders VALUES ('an order');
  CREATE SCHEMA "Old $.""größe";
  CREATE TABLE events (id int, t text) PARTITION BY RANGE (id);
  CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100);
  CREATE TABLE "Old $.""größe"."e*?é" PARTITION OF events FOR VALUES FROM (100) TO (200)
    PARTITION BY RANGE (id);
  CREATE TABLE "Old $.""größe".deep PARTITION OF "Old $.""größe"."e*?é"
    FOR VALUES FROM (100) TO (150);
  INSERT INTO events VALUES (1, 'first event'), (101, 'second event');
  CREATE TABLE parent (t text); CREATE TABLE child () INHERITS (parent);
  INSERT INTO child VALUES ('a child')`

before(async () => {
  server = await startPostgres()
  storage = await newRepository()
  await server.sql('CREATE DATABASE shop')
  await server.sql(SCHEMA, [], 'shop')
  await server.sql(`CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'`)
  await server.sql(SCHEMA, [], 'latin')
})

after(async () => {
  await server.dispose()
})

async function dump(selected: Partial<DumpSelection>, extra: Partial<TakeDumpOptions> = {}) {
  const selection = { ...WHOLE_DATABASE, ...selected }
  const options = dumpOptions(server, storage, {
    ...{ databases: ['shop'], format: 'plain', selection },
    ...extra,
  })
  const { record, notes } = await takeDump(options, SILENT, new AbortController().signal)
  const file = record.databases[0]?.files[0] ?? 0
  return { text: (await readWholeFile(storage, record, file)).toString(), notes: notes.join('\n') }
}

test('a pattern that nothing fits is not passed over because another one fits', async () => {
  for (const selected of [
    { tables: ['orders', 'customers'] },
    { schemas: ['public', 'customers'] },
  ]) {
    await assert.rejects(dump(selected), (error) => {
      return isFailure(error, 'TM2002') && /customers/.test(error.because ?? '')
    })
  }
})

test('a table comes with its partitions of every depth, and with its children', async () => {
  const newer = findTool('pg_dump', 17) === undefined ? [] : [toolDirectory(17)]
  for (const tools of [toolDirectory(server.major), ...newer]) {
    for (const database of ['shop', 'latin']) {
      const { text, notes } = await dump(
        { tables: ['events', 'parent'] },
        { toolDirectory: tools, databases: [database] },
      )
      for (const row of ['first event', 'second event', 'a child']) {
        assert.ok(text.includes(row), `${tools} ${database}: ${row}`)
      }
      assert.ok(!text.includes('an order'))
      assert.match(notes, /public\.events_1/)
    }
  }
})

test('rows alone come too; what is excluded stays out', async () => {
  const { text } = await dump({
    tables: ['events'],
    excludedTables: ['events_1'],
    dataOnly: true,
    sections: ['data'],
  })
  assert.ok(text.includes('second event') && !text.includes('first event'))
})

test('partitions in a schema that is not selected are told of', async () => {
  const { text, notes } = await dump({ schemas: ['public'] })
  assert.ok(text.includes('first event') && !text.includes('second event'))
  assert.match(notes, /not in the dump are .*: Old \$\."größe\.deep, Old \$\."größe\.e\*\?é$/m)
  const whole = await dump({})
  assert.ok(whole.text.includes('second event') && !whole.notes.includes('not in the dump'))
})

test('the pattern of a table means this table', () => {
  const table = { schema: 'a.b', name: 'x"é*$' }
  assert.equal(formatTableOption(table, 'UTF8'), '--table="a.b"."x""é*$"')
  assert.equal(formatTableOption(table, 'LATIN1'), '--table="a.b"."x"""*"*$"')
})
