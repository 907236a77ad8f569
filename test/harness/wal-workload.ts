/**
 * Makes WAL of as many kinds as a server has: all access methods, all row changes, storage
 * that comes and goes, transactions of every form, vacuum, records of many pages.
 */
import { chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { PostgresServer } from './postgres-server.ts'
import { serverUser } from './server-user.ts'

const ACCESS_METHODS = [
  'CREATE TABLE am (id int, t text, a int[], p point, r int4range, j int)',
  `INSERT INTO am SELECT n, md5(n::text), ARRAY[n % 7, n % 11], point(n % 97, n),
     int4range(n, n + 5), n % 50 FROM generate_series(1, 600) AS n`,
  'CREATE INDEX am_btree ON am (t)',
  'CREATE INDEX am_hash ON am USING hash (t)',
  'CREATE INDEX am_gin ON am USING gin (a)',
  'CREATE INDEX am_gist ON am USING gist (p)',
  'CREATE INDEX am_spgist ON am USING spgist (r)',
  'CREATE INDEX am_brin ON am USING brin (id) WITH (pages_per_range = 2)',
  `INSERT INTO am SELECT n, md5(n::text), ARRAY[n % 7, n], point(n % 97, n),
     int4range(n, n + 5), n % 50 FROM generate_series(601, 1800) AS n`,
  'DELETE FROM am WHERE id % 3 = 0',
  'VACUUM am',
  `INSERT INTO am SELECT n, md5((n * 7)::text), ARRAY[n % 3], point(n, n), int4range(1, n + 5), 1
     FROM generate_series(1, 600) AS n`,
  "SELECT gin_clean_pending_list('am_gin')",
  "SELECT brin_summarize_new_values('am_brin')",
  'REINDEX TABLE am',
]

const ROWS = [
  'CREATE TABLE rows (id int PRIMARY KEY, v int, body text) WITH (fillfactor = 70)',
  'INSERT INTO rows SELECT n, 0, md5(n::text) FROM generate_series(1, 500) AS n',
  'UPDATE rows SET v = v + 1 WHERE id % 2 = 0',
  'UPDATE rows SET id = id + 10000 WHERE id % 5 = 0',
  'DELETE FROM rows WHERE id % 7 = 0',
  'SELECT count(*) FROM (SELECT * FROM rows FOR UPDATE) AS locked',
  'INSERT INTO rows VALUES (1, 2, $$x$$) ON CONFLICT (id) DO UPDATE SET v = 9',
  'INSERT INTO rows VALUES (777777, 2, $$x$$) ON CONFLICT (id) DO NOTHING',
  `CREATE TABLE toasted (id int, body text); ALTER TABLE toasted ALTER body SET STORAGE EXTERNAL`,
  `INSERT INTO toasted SELECT n, repeat(md5(n::text), 1000) FROM generate_series(1, 20) AS n`,
  'UPDATE toasted SET body = body || $$x$$ WHERE id < 5',
  'DELETE FROM toasted WHERE id > 15',
  'CREATE TABLE parts (k int, v int) PARTITION BY LIST (k)',
  'CREATE TABLE parts1 PARTITION OF parts FOR VALUES IN (1)',
  'CREATE TABLE parts2 PARTITION OF parts FOR VALUES IN (2)',
  'INSERT INTO parts SELECT 1, n FROM generate_series(1, 20) AS n',
  'UPDATE parts SET k = 2 WHERE v < 10',
  'CREATE SEQUENCE counted; SELECT nextval($$counted$$) FROM generate_series(1, 100)',
  'CREATE TABLE many AS SELECT n AS id, md5(n::text) AS body FROM generate_series(1, 2000) AS n',
  'CREATE TABLE copied (id int); COPY copied FROM PROGRAM $$seq 1 3000$$',
  'CREATE MATERIALIZED VIEW seen AS SELECT * FROM many; REFRESH MATERIALIZED VIEW seen',
  'VACUUM FREEZE rows; VACUUM rows; ANALYZE rows',
  'CREATE UNLOGGED TABLE unlogged (id int); INSERT INTO unlogged VALUES (1)',
]

const STORAGE = [
  'TRUNCATE many',
  'INSERT INTO many SELECT n FROM generate_series(1, 3000) AS n',
  'DELETE FROM many WHERE id > 100; VACUUM many',
  'BEGIN; CREATE TABLE gone (id int); INSERT INTO gone VALUES (1); TRUNCATE gone; ROLLBACK',
  'VACUUM FULL rows',
  'VACUUM FULL pg_class',
  'VACUUM FULL pg_database',
  'CLUSTER am USING am_btree',
  'DROP MATERIALIZED VIEW seen; ALTER TABLE many ALTER id TYPE bigint',
  'DROP TABLE toasted',
]

/** In order; what a session must do alone (COPY, two transactions at once) is below. */
export async function makeEveryKindOfWal(server: PostgresServer): Promise<void> {
  for (const text of [...ACCESS_METHODS, ...ROWS]) await run(server, text)
  await server.sql('CHECKPOINT')
  for (const text of STORAGE) await run(server, text)
  await makeTransactions(server)
  await makeDatabases(server)
  await server.sql(`SELECT pg_logical_emit_message(true, 'kind', repeat('m', 500))`)
  await server.sql(`SELECT pg_logical_emit_message(false, 'kind', repeat('large', 60000))`)
  await server.sql(`SELECT pg_create_restore_point('every kind')`)
  await server.sql('CHECKPOINT')
}

/** VACUUM and the like must be alone: a statement at a time, unless it is one transaction. */
async function run(server: PostgresServer, text: string): Promise<void> {
  const statements = text.startsWith('BEGIN') ? [text] : text.split(/; /)
  for (const statement of statements) await server.sql(statement)
}

async function makeTransactions(server: PostgresServer): Promise<void> {
  const [one, other] = [await server.connect(), await server.connect()]
  await one.query('CREATE TABLE x (id int PRIMARY KEY, v int)')
  await one.query('INSERT INTO x SELECT n, 0 FROM generate_series(1, 10) AS n')
  await one.query('BEGIN')
  for (let n = 0; n < 70; n++) {
    await one.query(`SAVEPOINT s${n}`)
    await one.query(`INSERT INTO x VALUES (${1000 + n}, 1)`)
    if (n % 10 === 9) await one.query(`ROLLBACK TO s${n}`)
  }
  await one.query('COMMIT')
  // Two share locks make a multixact; the update of a locked row follows its chain.
  await one.query('BEGIN')
  await one.query('SELECT * FROM x WHERE id = 1 FOR KEY SHARE')
  await other.query('BEGIN')
  await other.query('SELECT * FROM x WHERE id = 1 FOR KEY SHARE')
  await other.query('UPDATE x SET v = v + 1 WHERE id = 1')
  await other.query('COMMIT')
  await one.query('SELECT * FROM x WHERE id = 2 FOR UPDATE')
  await one.query('COMMIT')
  await one.query('BEGIN')
  await one.query('DELETE FROM x WHERE id = 3')
  await one.query("PREPARE TRANSACTION 'first'")
  await one.query('BEGIN')
  await one.query('DELETE FROM x WHERE id = 4')
  await one.query("PREPARE TRANSACTION 'second'")
  await one.query("COMMIT PREPARED 'first'")
  await one.query("ROLLBACK PREPARED 'second'")
  await one.end()
  await other.end()
}

async function makeDatabases(server: PostgresServer): Promise<void> {
  const tablespace = join(server.socketDirectory, 'kinds')
  mkdirSync(tablespace)
  const owner = serverUser()
  if (owner !== undefined) chownSync(tablespace, owner.uid, owner.gid)
  await server.sql(`CREATE TABLESPACE kinds LOCATION '${tablespace}'`)
  await server.sql('ALTER TABLE x SET TABLESPACE kinds')
  await server.sql('ALTER TABLE x SET TABLESPACE pg_default')
  const strategies = server.major >= 15 ? [' STRATEGY file_copy', ' STRATEGY wal_log'] : ['']
  for (const strategy of strategies) {
    await server.sql(`CREATE DATABASE kinds TEMPLATE template0${strategy}`)
    await server.sql('DROP DATABASE kinds')
  }
  await server.sql('DROP TABLESPACE kinds')
}
