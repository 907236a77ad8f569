/** Rows that COPY has dumped come back as they were, whatever they are, all or none. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isFailure } from '../base/failure.ts'
import type { CopyFormat } from '../repository/dump-record.ts'
import { dumpPackKey } from '../repository/keys.ts'
import { CopyFixture } from '../../test/harness/copying.ts'
import type { CopyOptions } from './copy-options.ts'
import type { DumpResult } from './dump-context.ts'

let fixture: CopyFixture

before(async () => {
  fixture = await CopyFixture.start(15)
})

after(async () => await fixture.dispose())

const ODD = String.raw`'', NULL, 'NULL', '\N', '\\N', '\.', E'\\.\n', E'a\n\\.\nb', E'\n', E'\r',
  E'\r\n', E'\t', ',', '"', '""', '''', '\', '\\', E'\\\n', ' ', '  x ', 'null', 'N', ';', '|', '-',
  'ünï', '€', '日本', E'a\tb,c"d\\e\nf\rg', E'\b\f\v', E'\x01\x7f', 'x''y', '\b', '\x41', '\101', '@',
  E'#\n@'`

const FORMS: readonly (readonly [CopyFormat, Partial<CopyOptions>])[] = [
  ['csv', {}],
  ['csv', { header: true }],
  ['csv', { null: 'NULL' }],
  ['csv', { null: '\\N', forceQuote: true }],
  ['csv', { forceQuote: true }],
  ['csv', { delimiter: ';', quote: "'", escape: '\\' }],
  ['csv', { delimiter: '\t', quote: '|', encoding: 'UTF8' }],
  ['csv', { delimiter: '.', null: '@' }],
  ['csv', { quote: 'N', null: '' }],
  ['text', {}],
  ['text', { header: true }],
  ['text', { delimiter: ',' }],
  ['text', { delimiter: '|', null: '\\@' }],
  ['text', { delimiter: 'N', null: '\\-' }],
  ['text', { encoding: 'UTF-8' }],
  ['binary', {}],
]

test('every odd value comes back in every form, in one column and in many', async () => {
  await fixture.server.sql(
    `CREATE TABLE one (t text); CREATE TABLE two (n int, a text, b text);
     INSERT INTO one SELECT unnest(ARRAY[${ODD}]);
     INSERT INTO two SELECT row_number() OVER (), a, b
       FROM unnest(ARRAY[${ODD}]) a, unnest(ARRAY[${ODD}]) b`,
    [],
    'shop',
  )
  await fixture.server.sql(
    'CREATE TABLE one (t text); CREATE TABLE two (n int, a text, b text)',
    [],
    'goal',
  )
  for (const table of ['one', 'two']) {
    const rows = await fixture.rowsOf('shop', table)
    assert.ok(rows.length > 30)
    for (const [number, [format, copy]] of FORMS.entries()) {
      if (table === 'two' && number % 3 !== 0) continue
      const dumped = await fixture.dump(format, { table, copy })
      assert.equal(dumped.record.copy?.rows, rows.length)
      const loaded = await fixture.load(dumped, { truncate: true })
      const what = `${table} ${format} ${JSON.stringify(copy)}`
      assert.equal(loaded.rows, rows.length, what)
      assert.deepEqual(await fixture.rowsOf('goal', table), rows, what)
      const [nulls] = await fixture.server.sql(
        `SELECT count(*)::int AS nulls, (SELECT count(*)::int FROM one WHERE t = '') AS empty
           FROM one WHERE t IS NULL`,
        [],
        'goal',
      )
      assert.deepEqual(nulls, { nulls: 1, empty: 1 }, what)
    }
  }
})

test('encodings: as the database has them, another one, bytes without one', async () => {
  for (const encoding of ['LATIN1', 'SQL_ASCII', 'EUC_JP']) {
    await fixture.server.sql(`CREATE DATABASE ${encoding} ENCODING ${encoding} TEMPLATE template0
      LC_COLLATE 'C' LC_CTYPE 'C'`)
    await fixture.server.sql('CREATE TABLE "tä" ("ü" text, n text)', [], encoding.toLowerCase())
  }
  await fixture.server.sql(`INSERT INTO "tä" VALUES ('äöü', ''), (NULL, 'ß')`, [], 'latin1')
  await fixture.server.sql(`INSERT INTO "tä" VALUES ('日本', ''), (NULL, 'カナ')`, [], 'euc_jp')
  await fixture.server.sql(
    `INSERT INTO "tä" SELECT convert_from('\\xff80'::bytea, 'SQL_ASCII')`,
    [],
    'sql_ascii',
  )
  await fixture.server.sql('CREATE TABLE "tä" ("ü" text, n text)', [], 'goal')
  for (const database of ['latin1', 'euc_jp']) {
    const rows = await fixture.rowsOf(database, '"tä"')
    for (const format of ['csv', 'text', 'binary'] as const) {
      for (const encoding of [undefined, 'UTF8', 'SQL_ASCII']) {
        const dumped = await fixture.dump(format, { database, table: '"tä"', copy: { encoding } })
        const own = database.toUpperCase()
        assert.equal(dumped.record.copy?.encoding, encoding === 'UTF8' ? 'UTF8' : own)
        const isOwn = encoding !== 'UTF8'
        const word = database === 'latin1' ? 'äöü' : '日本'
        const holds = (await fixture.contentsOf(dumped)).includes(Buffer.from(word))
        assert.equal(holds, !isOwn, `${database} ${format} ${encoding}`)
        await fixture.load(dumped, { truncate: true })
        assert.deepEqual(await fixture.rowsOf('goal', '"tä"'), rows)
        if (isOwn && format === 'csv') continue
        await fixture.load(dumped, { truncate: true, into: database, force: true })
        assert.deepEqual(await fixture.rowsOf(database, '"tä"'), rows)
      }
    }
  }
  for (const format of ['csv', 'text', 'binary'] as const) {
    const dumped = await fixture.dump(format, { database: 'sql_ascii', table: '"tä"' })
    assert.ok((await fixture.contentsOf(dumped)).includes(Buffer.from([0xff, 0x80])))
    await fixture.load(dumped, { truncate: true, into: 'sql_ascii', force: true })
    const [row] = await fixture.server.sql(
      `SELECT encode("ü"::bytea, 'hex') AS hex FROM "tä"`,
      [],
      'sql_ascii',
    )
    assert.equal(row?.['hex'], 'ff80')
    await assert.rejects(fixture.load(dumped, { truncate: true }), (error) =>
      isFailure(error, 'TM2084'),
    )
  }
  assert.equal((await fixture.rowsOf('goal', '"tä"')).length, 2)
})

test('settings of the role do not change values', async () => {
  await fixture.inBoth(
    'CREATE TABLE exact (f float8, r float4, i interval, at timestamptz, b bytea)',
  )
  await fixture.server.sql(
    `INSERT INTO exact VALUES (0.1::float8 + 0.2, 1.1::float4 / 3, '-1 year 2 days -03:04:05.6',
       '2026-01-02 03:04:05.678901+05', '\\x00ff5c'), ('NaN', '-Infinity', NULL, 'infinity', '')`,
    [],
    'shop',
  )
  await fixture.server.sql(`ALTER ROLE ${fixture.server.user} SET extra_float_digits = -10;
    ALTER ROLE ${fixture.server.user} SET intervalstyle = 'sql_standard';
    ALTER ROLE ${fixture.server.user} SET datestyle = 'SQL, DMY';
    ALTER ROLE ${fixture.server.user} SET bytea_output = 'escape'`)
  try {
    for (const format of ['csv', 'text', 'binary'] as const) {
      await fixture.load(await fixture.dump(format, { table: 'exact' }), { truncate: true })
      const sums = await Promise.all(['shop', 'goal'].map(exactSum))
      assert.equal(sums[0], sums[1], format)
    }
  } finally {
    await fixture.server.sql(`ALTER ROLE ${fixture.server.user} RESET ALL`)
  }
})

async function exactSum(database: string): Promise<unknown> {
  const [row] = await fixture.server.sql(
    `SELECT string_agg(concat_ws(',', encode(float8send(f), 'hex'), encode(float4send(r), 'hex'),
              encode(interval_send(i), 'hex'), extract(epoch FROM at), encode(b, 'hex')), ';')
              AS sum
       FROM exact`,
    [],
    database,
  )
  return row?.['sum']
}

test('a load is judged before anything is written', async () => {
  await fixture.server.sql(
    `CREATE TABLE goods (id int, name text); INSERT INTO goods VALUES (1, 'a'), (2, 'b')`,
    [],
    'shop',
  )
  const csv = await fixture.dump('csv', { table: 'goods' })
  const binary = await fixture.dump('binary', { table: 'goods' })
  const refused = async (sql: string, pattern: RegExp, dumped = csv): Promise<void> => {
    await fixture.server.sql(sql, [], 'goal')
    await assert.rejects(fixture.load(dumped), (error) => {
      assert.ok(isFailure(error, 'TM2083'), String(error))
      assert.match(error.because ?? '', pattern)
      return true
    })
  }
  await refused('SELECT', /no table "public"."goods" in goal/)
  await refused('CREATE VIEW goods AS SELECT 1 AS id', /no table/)
  await refused(
    'DROP VIEW goods; CREATE TABLE goods (id int, label text NOT NULL)',
    /no column "name".*"label" .* must have a value/,
  )
  await refused(
    'DROP TABLE goods; CREATE TABLE goods (id bigint, name text)',
    /"id" .* is bigint, that of the dump integer/,
    binary,
  )
  await refused(
    `DROP TABLE goods; CREATE TABLE goods (name text, id int, x int DEFAULT 7);
    INSERT INTO goods VALUES ('old', 0)`,
    /has rows already/,
  )
  await assert.rejects(fixture.load(csv, { into: 'shop', append: true }), (error) => {
    return isFailure(error, 'TM2083') && /very database/.test(error.because ?? '')
  })
  assert.deepEqual(await fixture.rowsOf('goal', 'goods'), ['(old,0,7)'])
  await fixture.load(csv, { append: true })
  assert.deepEqual(await fixture.rowsOf('goal', 'goods'), ['(a,1,7)', '(b,2,7)', '(old,0,7)'])
  await fixture.load(binary, { truncate: true })
  assert.deepEqual(await fixture.rowsOf('goal', 'goods'), ['(a,1,7)', '(b,2,7)'])
})

test('a row that is refused is told with line and column, and nothing stays or goes', async () => {
  const csv = await fixture.dump('csv', {
    query: `SELECT id, CASE id WHEN 3 THEN 'x' ELSE '1' END AS name
    FROM generate_series(1, 5) id`,
  })
  await fixture.server.sql(
    `DROP TABLE goods; CREATE TABLE goods (id int PRIMARY KEY, name int);
    INSERT INTO goods VALUES (77, 7)`,
    [],
    'goal',
  )
  const failing = async (dumped: DumpResult, code: string, pattern: RegExp): Promise<void> => {
    await assert.rejects(fixture.load(dumped, { table: 'goods', truncate: true }), (error) => {
      assert.ok(isFailure(error, code as 'TM2084'), String(error))
      assert.match(`${error.message} ${error.because}`, pattern)
      return true
    })
    assert.deepEqual(await fixture.rowsOf('goal', 'goods'), ['(77,7)'])
  }
  await failing(csv, 'TM2084', /invalid input syntax.*COPY goods, line 3, column name: "x"/)
  const twice = await fixture.dump('text', { query: 'VALUES (1, 2), (1, 3)', columns: [] })
  await assert.rejects(fixture.load(twice, { table: 'goods', truncate: true }), /cannot be loaded/)
  const doubled = await fixture.dump('text', {
    query: 'SELECT 1 AS id, g AS name FROM generate_series(1, 9) g',
  })
  await failing(doubled, 'TM2084', /duplicate key.*line 2/)
  await fixture.server.sql(
    `ALTER TABLE goods DROP CONSTRAINT goods_pkey;
    ALTER TABLE goods ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED`,
    [],
    'goal',
  )
  await failing(doubled, 'TM2084', /duplicate key/)
  await fixture.server.sql(
    `CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN IF NEW.name = 4 THEN RETURN NULL; END IF; RETURN NEW; END';
    CREATE TRIGGER skip BEFORE INSERT ON goods FOR EACH ROW EXECUTE FUNCTION skip()`,
    [],
    'goal',
  )
  await failing(doubled, 'TM2085', /has 9 rows, and 8 came/)
})

test('a damaged dump is not loaded, not even its first rows', async () => {
  await fixture.inBoth('CREATE TABLE many (id int, t text)')
  await fixture.server.sql(
    `INSERT INTO many SELECT g, md5(g::text) FROM generate_series(1, 100000) g`,
    [],
    'shop',
  )
  const dumped = await fixture.dump('csv', { table: 'many' })
  const last = dumped.record.packs.at(-1)?.id ?? ''
  const key = dumpPackKey('main', last)
  const path = join(fileURLToPath(fixture.storage.url), key)
  const whole = readFileSync(path)
  const damaged = Buffer.from(whole)
  damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] as number) ^ 0xff
  writeFileSync(path, damaged)
  await fixture.server.sql('INSERT INTO many VALUES (7)', [], 'goal')
  await assert.rejects(fixture.load(dumped, { append: true }), (error) =>
    isFailure(error, 'TM1601'),
  )
  writeFileSync(path, whole)
  assert.deepEqual(await fixture.rowsOf('goal', 'many'), ['(7,)'])
})

for (const major of [13, 18]) {
  test(`rows go from ${major} to 15 and back`, async () => {
    await using other = await CopyFixture.start(major)
    await other.inBoth('CREATE TABLE one (t text)')
    await other.server.sql(`INSERT INTO one SELECT unnest(ARRAY[${ODD}])`, [], 'shop')
    const rows = await other.rowsOf('shop', 'one')
    for (const format of ['csv', 'text', 'binary'] as const) {
      const there = await other.dump(format, { table: 'one' })
      await other.load(there, { truncate: true, connection: fixture.server.url() })
      assert.deepEqual(await fixture.rowsOf('goal', 'one'), rows, format)
      const back = await fixture.dump(format, { table: 'one' })
      await fixture.load(back, { truncate: true, connection: other.server.url() })
      const own = await fixture.rowsOf('shop', 'one')
      assert.deepEqual(await other.rowsOf('goal', 'one'), own, format)
    }
  })
}
