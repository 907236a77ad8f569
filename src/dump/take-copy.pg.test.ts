/** Rows are dumped by COPY: of what, in which form, and nothing by halves. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import type { CopyFormat } from '../repository/dump-record.ts'
import { findDump, listDumps } from '../repository/read-dumps.ts'
import { type CopyAsked, CopyFixture } from '../../test/harness/copying.ts'
import { startCuttingProxy } from '../../test/harness/cutting-proxy.ts'
import { proveDump } from './read-dump.ts'

let fixture: CopyFixture

before(async () => {
  fixture = await CopyFixture.start(15)
  await fixture.inBoth('CREATE TABLE one (t text); CREATE TABLE two (n int, a text, b text)')
  await fixture.server.sql(
    `INSERT INTO one SELECT 'x' || g FROM generate_series(1, 40) g;
     INSERT INTO two SELECT g, '', nullif(g, 3) FROM generate_series(1, 40000) g`,
    [],
    'shop',
  )
})

after(async () => await fixture.dispose())

test('a text for NULL that a value could read like is refused for text', async () => {
  for (const text of ['', 'NULL', '\\\\N', '\\n', '\\.', 'a\nb', 'x\\t']) {
    const before = await fixture.keys()
    await assert.rejects(
      fixture.dump('text', { table: 'one', copy: { null: text } }),
      (error) => {
        return isFailure(error, 'TM2081')
      },
      JSON.stringify(text),
    )
    assert.deepEqual(await fixture.keys(), before)
  }
})

const WRONG: readonly (readonly [CopyFormat, CopyAsked, string])[] = [
  ['csv', {}, 'TM2081'],
  ['csv', { query: 'SELECT 1', where: 'true' }, 'TM2081'],
  ['csv', { query: 'SELECT 1', columns: ['a'] }, 'TM2081'],
  ['text', { table: 'one', copy: { quote: '"' } }, 'TM2081'],
  ['text', { table: 'one', copy: { delimiter: 'a' } }, 'TM2081'],
  ['binary', { table: 'one', copy: { header: true } }, 'TM2081'],
  ['binary', { table: 'one', copy: { null: 'x' } }, 'TM2081'],
  ['csv', { table: 'one', copy: { delimiter: ';;' } }, 'TM2081'],
  ['csv', { table: 'one', copy: { delimiter: 'ü' } }, 'TM2081'],
  ['csv', { table: 'one', copy: { delimiter: '"' } }, 'TM2081'],
  ['csv', { table: 'one', copy: { delimiter: '\\' } }, 'TM2081'],
  ['csv', { table: 'one', copy: { null: 'a,b' } }, 'TM2081'],
  ['csv', { table: 'one', copy: { null: '"' } }, 'TM2081'],
  ['csv', { table: 'one', copy: { encoding: 'nothing' } }, 'TM2081'],
  ['csv', { table: 'nowhere' }, 'TM2080'],
  ['csv', { table: 'a.b.c.d' }, 'TM2080'],
  ['csv', { table: '"' }, 'TM2080'],
  ['csv', { table: 'one', columns: ['nix'] }, 'TM2080'],
  ['csv', { table: 'one', where: 'nix > 1' }, 'TM2080'],
  ['csv', { query: 'SELECT 1 AS a, 2 AS a' }, 'TM2080'],
  ['csv', { query: 'SELECT 1; SELECT 2' }, 'TM2080'],
  ['csv', { query: 'SELECT 1) q; DROP TABLE one; SELECT * FROM (SELECT 1' }, 'TM2080'],
  ['csv', { query: 'INSERT INTO one VALUES (1) RETURNING t' }, 'TM2080'],
  ['csv', { query: 'SELECT' }, 'TM2080'],
]

test('what cannot be dumped is told before anything is written', async () => {
  const before = await fixture.keys()
  for (const [format, asked, code] of WRONG) {
    const what = JSON.stringify([format, asked])
    await assert.rejects(
      fixture.dump(format, asked),
      (error) => isFailure(error, code as 'TM2080'),
      what,
    )
  }
  assert.deepEqual(await fixture.keys(), before)
  assert.equal((await fixture.server.sql('TABLE one', [], 'shop')).length > 30, true)
})

test('the record says all that a load needs, and verify proves the dump', async () => {
  const first = await fixture.dump('csv', { table: 'public.two', copy: { header: true } })
  const { record } = first
  assert.equal(record.format, 'copy')
  assert.deepEqual(record.selection, ['--table=public.two'])
  assert.deepEqual(record.copy?.table, { schema: 'public', name: 'two' })
  assert.deepEqual(record.copy?.columns, [
    { name: 'n', type: 'integer' },
    { name: 'a', type: 'text' },
    { name: 'b', type: 'text' },
  ])
  assert.equal(record.copy?.quote, '"')
  assert.equal(record.files[0]?.name, '1.csv')
  assert.deepEqual(await findDump(fixture.storage, 'main', record.id), record)
  assert.deepEqual(await proveDump(fixture.storage, record), [])
  assert.match((await fixture.contentsOf(first)).toString(), /^n,a,b\n1,"",1\n2,"",2\n3,"",\n/)
  const again = await fixture.dump('csv', { table: 'public.two', copy: { header: true } })
  assert.equal(again.record.base, record.id)
  assert.equal(again.record.sizes.reusedChunks, again.record.sizes.chunks)
  const other = await fixture.dump('csv', { table: 'one' })
  assert.notEqual(other.record.base, again.record.id)
})

test('what is dumped: queries, conditions, columns, views, partitions', async () => {
  await fixture.inBoth(`
    CREATE SCHEMA "Od""d";
    CREATE TABLE "Od""d"."Ta ble" ("A,a" int, g int GENERATED ALWAYS AS ("A,a" * 2) STORED,
      i int GENERATED ALWAYS AS IDENTITY, "käse" text);
    CREATE TABLE part (id int, v text) PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (5);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (5) TO (10);
    CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
    CREATE MATERIALIZED VIEW mat AS SELECT 1 AS m;
    CREATE VIEW view AS SELECT id, v FROM part WHERE id > 6`)
  await fixture.server.sql(
    `INSERT INTO "Od""d"."Ta ble" ("A,a", "käse") VALUES (1, 'x'), (2, 'é');
     INSERT INTO part SELECT g, 'v' || g FROM generate_series(0, 9) g;
     INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2); CREATE SEQUENCE seq`,
    [],
    'shop',
  )
  const text = async (asked: CopyAsked, format: CopyFormat = 'csv'): Promise<string> => {
    return (await fixture.contentsOf(await fixture.dump(format, asked))).toString()
  }
  const odd = '"Od""d"."Ta ble"'
  assert.equal(await text({ table: odd }), '1,1,x\n2,2,é\n')
  assert.equal(await text({ table: odd, columns: ['"käse"', ' "A,a"'] }), 'x,1\né,2\n')
  assert.equal(await text({ table: odd, where: '"käse" = \'é\' -- only' }), '2,2,é\n')
  await assert.rejects(
    fixture.dump('csv', { table: odd, columns: ['G'] }),
    /column G .* is generated/,
  )
  assert.equal((await text({ table: 'part' })).split('\n').length, 11)
  assert.equal(await text({ table: 'PART', where: 'id < 1' }), '0,v0\n')
  assert.equal(await text({ table: 'view' }), '7,v7\n8,v8\n9,v9\n')
  assert.equal(await text({ table: 'mat' }), '1\n')
  assert.equal(await text({ query: 'SELECT 1 AS "é", NULL::text AS b; ' }), '1,\n')
  assert.equal(await text({ query: 'VALUES (1, 2), (3, 4) -- x' }), '1,2\n3,4\n')
  assert.equal(await text({ query: 'SELECT g FROM generate_series(3, 1, -1) g' }), '3\n2\n1\n')
  await assert.rejects(fixture.dump('csv', { table: 'seq' }), /no rows of its own/)
  const parent = await fixture.dump('csv', { table: 'parent' })
  assert.equal((await fixture.contentsOf(parent)).toString(), '1\n')
  assert.match(parent.notes.join(), /1 tables inherit from "public"."parent"/)
  const empty = await fixture.dump('csv', { table: 'one', where: 'false' })
  assert.equal(empty.record.copy?.rows, 0)
  assert.equal((await fixture.load(empty, { truncate: true })).rows, 0)

  for (const format of ['csv', 'binary'] as const) {
    await fixture.load(await fixture.dump(format, { table: odd }), {
      truncate: format === 'binary',
    })
    assert.deepEqual(await fixture.rowsOf('goal', odd), await fixture.rowsOf('shop', odd))
    await fixture.load(await fixture.dump(format, { table: 'part' }), { truncate: true })
    assert.deepEqual(await fixture.rowsOf('goal', 'part'), await fixture.rowsOf('shop', 'part'))
  }
  const query = await fixture.dump('csv', { query: 'SELECT v, id + 100 - 100 AS id FROM part' })
  await assert.rejects(fixture.load(query), (error) => isFailure(error, 'TM2083'))
  await fixture.load(query, { table: 'public.part', truncate: true })
  assert.deepEqual(await fixture.rowsOf('goal', 'part'), await fixture.rowsOf('shop', 'part'))
})

test('row-level security hides nothing in silence', async () => {
  await fixture.server.sql(
    `CREATE ROLE clerk LOGIN; CREATE TABLE secrets (who text);
     INSERT INTO secrets VALUES ('clerk'), ('boss'); GRANT SELECT ON secrets TO clerk;
     ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
     CREATE POLICY own ON secrets USING (who = current_user);
     GRANT EXECUTE ON FUNCTION pg_control_system() TO clerk`,
    [],
    'shop',
  )
  const connection = fixture.server.url('shop').replace(`user=${fixture.server.user}`, 'user=clerk')
  assert.match(connection, /clerk/)
  const before = await fixture.keys()
  for (const asked of [
    { table: 'secrets' },
    { table: 'secrets', where: 'true' },
    { query: 'TABLE secrets' },
  ]) {
    await assert.rejects(fixture.dump('csv', { ...asked, extra: { connection } }), (error) => {
      return isFailure(error, 'TM2080') || isFailure(error, 'TM2082')
    })
  }
  assert.deepEqual(await fixture.keys(), before)
  const seen = await fixture.dump('csv', {
    table: 'secrets',
    extra: { connection, rowSecurity: true },
  })
  assert.equal((await fixture.contentsOf(seen)).toString(), 'clerk\n')
  assert.deepEqual(seen.record.selection, ['--table=secrets', '--enable-row-security'])
})

test('an error behind the first rows, a lost session, an abort: nothing is left', async () => {
  await fixture.server.sql(
    `CREATE TABLE many AS SELECT g AS id, repeat(md5(g::text), 20) AS t
       FROM generate_series(1, 30000) g`,
    [],
    'shop',
  )
  const before = await fixture.keys()
  const query = 'SELECT t, 1 / (29000 - id) AS x FROM many'
  await assert.rejects(fixture.dump('csv', { query }), (error) => {
    return isFailure(error, 'TM2082') && /division by zero/.test(error.because ?? '')
  })
  assert.deepEqual(await fixture.keys(), before)
  const end =
    'SELECT t, CASE WHEN id = 25000 THEN pg_terminate_backend(pg_backend_pid()) END FROM many'
  await assert.rejects(fixture.dump('text', { query: end }), (error) => isFailure(error, 'TM1106'))
  assert.deepEqual(await fixture.keys(), before)
  const stop = new AbortController()
  const slow = 'SELECT t, CASE WHEN id = 20000 THEN pg_sleep(60)::text END FROM many'
  const running = fixture.dump('csv', { query: slow }, stop.signal)
  await fixture.waitFor(`SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)
  stop.abort(new Error('enough'))
  await assert.rejects(running, /enough/)
  assert.deepEqual(await fixture.keys(), before)
  await fixture.waitFor(
    `SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')`,
  )
})

test('a connection that is cut anywhere leaves nothing, and loads nothing', async () => {
  await fixture.server.sql('CREATE TABLE many (id int, t text)', [], 'goal')
  const proxy = await startCuttingProxy(
    `${fixture.server.socketDirectory}/.s.PGSQL.${fixture.server.port}`,
  )
  const connection = proxy.url.replace('/postgres?', '/shop?')
  try {
    const whole = await fixture.dump('text', { table: 'many' })
    const before = await fixture.keys()
    for (const bytes of [100_000, 5_000_000, whole.record.sizes.rawBytes - 10_000]) {
      proxy.cutAfter(bytes)
      await assert.rejects(
        fixture.dump('text', { table: 'many', extra: { connection } }),
        (error) => {
          return isFailure(error, 'TM1106') || isFailure(error, 'TM2004')
        },
      )
      assert.deepEqual(await fixture.keys(), before, String(bytes))
    }
    proxy.cutAfter(undefined)
    const through = await fixture.dump('text', { table: 'many', extra: { connection } })
    assert.equal(through.record.files[0]?.sha256, whole.record.files[0]?.sha256)
    assert.equal((await fixture.load(through, { connection })).rows, 30_000)
    assert.deepEqual(await fixture.rowsOf('goal', 'many'), await fixture.rowsOf('shop', 'many'))
  } finally {
    await proxy.close()
  }
})

test('what is read is locked before the snapshot: a TRUNCATE empties no dump', async () => {
  await fixture.server.sql(
    `CREATE TABLE cleared AS SELECT 'old' AS t; CREATE VIEW through AS TABLE cleared`,
    [],
    'shop',
  )
  for (const asked of [{ table: 'cleared' }, { query: 'TABLE cleared' }, { table: 'through' }]) {
    const client = await fixture.server.connect('shop')
    let isFirst = true
    /** The repository is looked at between the first look and the snapshot. */
    const watched = new Proxy(fixture.storage, {
      get: (target, name) => {
        const value = Reflect.get(target, name) as unknown
        if (name !== 'list' || !isFirst)
          return typeof value === 'function' ? value.bind(target) : value
        isFirst = false
        return async function* (prefix: string) {
          await client.query(`BEGIN; TRUNCATE cleared; INSERT INTO cleared VALUES ('new')`)
          yield* target.list(prefix)
        }
      },
    })
    const targets = [
      {
        name: 'main',
        storage: watched,
        specification: { url: fixture.storage.url },
        required: true,
      },
    ]
    const running = fixture.dump('csv', { ...asked, extra: { targets } })
    await fixture.waitFor(`SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation'`)
    await client.query('COMMIT')
    await client.end()
    assert.equal(
      (await fixture.contentsOf(await running)).toString(),
      'new\n',
      JSON.stringify(asked),
    )
  }
})

test('nothing of what failed is listed', async () => {
  const { dumps, unreadable } = await listDumps(fixture.storage, 'main')
  assert.deepEqual(unreadable, [])
  for (const record of dumps)
    assert.deepEqual(await proveDump(fixture.storage, record), [], record.id)
})
