/**
 * A cluster with a bit of everything, an incremental backup after every kind of change, and
 * more changes behind it: what pg_dump says of the restored cluster is what it says of the
 * original, database by database, and amcheck finds nothing.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { amcheckMissing, checkWithAmcheck } from '../harness/amcheck.ts'
import { findTool } from '../harness/postgres-binaries.ts'
import { SAMPLED_MAJORS, type PostgresServer } from '../harness/postgres-server.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { openRecovered, protectServer } from './recovery-cluster.ts'

const SCHEMA = `
  CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL, price numeric(10, 2), tags text[]);
  CREATE INDEX items_name ON items (lower(name));
  CREATE TABLE wide (id int PRIMARY KEY, body text);
  ALTER TABLE wide ALTER body SET STORAGE EXTERNAL;
  CREATE TABLE parts (day date, amount int) PARTITION BY RANGE (day);
  CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
  CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
  CREATE TABLE emptied (id int);
  CREATE TABLE rewritten (id int, text text);
  CREATE TABLE moved (id int PRIMARY KEY);
  CREATE TABLE dropped (id int);
  CREATE VIEW cheap AS SELECT * FROM items WHERE price < 10;
  CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM items;
  CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql AS 'SELECT 2 * i';`

const FIRST_ROWS = `
  INSERT INTO items (name, price, tags)
    SELECT 'item ' || g, g % 100, ARRAY['a', g::text] FROM generate_series(1, 5000) g;
  INSERT INTO wide SELECT g, repeat(md5(g::text), 400) FROM generate_series(1, 200) g;
  INSERT INTO parts SELECT date '2026-01-01' + g % 365, g FROM generate_series(1, 2000) g;
  INSERT INTO emptied SELECT generate_series(1, 1000);
  INSERT INTO rewritten SELECT g, md5(g::text) FROM generate_series(1, 3000) g;
  INSERT INTO moved SELECT generate_series(1, 3000);
  INSERT INTO dropped SELECT generate_series(1, 1000);
  SELECT lo_from_bytea(4711, decode(repeat('00ff10', 5000), 'hex'));`

/** Before the incremental backup; what cannot run in one transaction stands alone. */
const CHANGES = [
  `UPDATE items SET price = price + 1 WHERE id % 50 = 0`,
  `DELETE FROM items WHERE id % 77 = 0`,
  `TRUNCATE emptied`,
  `VACUUM FULL rewritten`,
  `DROP TABLE dropped`,
  `CREATE TABLE fresh AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 4000) g`,
  `ALTER TABLE moved SET TABLESPACE far`,
  `CREATE DATABASE second TEMPLATE template0`,
  `DROP DATABASE passing`,
  `REFRESH MATERIALIZED VIEW totals`,
  `CREATE ROLE reader LOGIN`,
  `GRANT SELECT ON items TO reader`,
]

/** Behind it: these are in the WAL alone. */
const LATER = [
  `UPDATE wide SET body = body || 'x' WHERE id < 20`,
  `CREATE INDEX fresh_text ON fresh (text)`,
  `INSERT INTO emptied SELECT generate_series(1, 300)`,
  // Not nextval(): WAL runs up to 32 values ahead of it (SEQ_LOG_VALS), and so does a copy.
  `SELECT setval('items_id_seq', 7000)`,
  `SELECT lo_put(4711, 100, '\\x010203')`,
  `CREATE TABLE last AS SELECT 1 AS i`,
  `ALTER DATABASE second RENAME TO renamed`,
]

async function run(server: PostgresServer, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await server.sql(statement)
}

/** By database. The keys of \\restrict are drawn anew for each dump. */
async function dumpAll(server: PostgresServer): Promise<Record<string, string>> {
  const databases = await server.sql<{ name: string }>(
    'SELECT datname AS name FROM pg_database WHERE datallowconn ORDER BY 1',
  )
  const dumps: Record<string, string> = {}
  const dump = async (tool: string, args: readonly string[]): Promise<string> => {
    const { stdout } = await server.tool(tool, args)
    return stdout.replace(/^\\(un)?restrict .*$/gm, '')
  }
  for (const { name } of databases) dumps[name] = await dump('pg_dump', ['--create', name])
  dumps['globals'] = await dump('pg_dumpall', ['--globals-only'])
  return dumps
}

for (const major of SAMPLED_MAJORS) {
  const skip = findTool('pg_dump', major) === undefined && 'no pg_dump for it here'
  test(`PostgreSQL ${major}: what pg_dump says of the restored cluster`, { skip }, async () => {
    await using cluster = await protectServer({ major, embedded: true })
    const { server } = cluster
    await server.sql(`CREATE TABLESPACE far LOCATION '${temporaryDirectory(server.runAs)}'`)
    await run(server, [SCHEMA, FIRST_ROWS, 'CREATE DATABASE passing'])
    await cluster.backup()
    await run(server, CHANGES)
    await server.sql('CREATE TABLE t AS SELECT generate_series(1, 100) AS i', [], 'second')
    await cluster.backup()
    await run(server, LATER)
    await cluster.archiveNow()
    const original = await dumpAll(server)
    assert.ok(Object.keys(original).length >= 4, 'postgres, renamed, template1, globals')

    const into = cluster.path('copy')
    const place = temporaryDirectory(server.runAs)
    const [row] = await server.sql<{ place: string }>(
      `SELECT pg_tablespace_location(oid) AS place FROM pg_tablespace WHERE spcname = 'far'`,
    )
    await cluster.ok('restore', '--into', into, '--tablespace', `${row?.place}=${place}/far`)
    await using copy = await openRecovered(into, { major, embedded: true })
    const restored = await dumpAll(copy)
    for (const name of Object.keys(original)) {
      const expected = original[name]?.replaceAll(row?.place ?? '', `${place}/far`)
      assert.equal(restored[name], expected, name)
    }
    assert.deepEqual(Object.keys(restored), Object.keys(original))
    if (amcheckMissing(major) === false) await checkWithAmcheck(copy)
  })
}
