/**
 * The clusters that are backed up, and how they change between backups. `standard` is the
 * set of the documents: pgbench tables, 300 small tables, and 36,000 values of 8 kB that no
 * compressor makes smaller. The others stress one thing each.
 */
import type { PostgresServer } from '../test/harness/postgres-server.ts'

export const SETS = ['standard', 'small-relations', 'incompressible'] as const
export type SetName = (typeof SETS)[number]

/** Scale of pgbench at which a set has its full size. */
export const FULL_SCALE = 200

const SMALL_TABLES = 300
const BLOBS = 36_000
const MANY_TABLES = 20_000
const TABLES_PER_TRANSACTION = 500

/** Settings of the server in every set. */
export const SETTINGS = {
  shared_buffers: '1GB',
  max_wal_size: '6GB',
  checkpoint_timeout: '30min',
  autovacuum: 'off',
  archive_mode: 'on',
  archive_command: '/bin/true',
  max_locks_per_transaction: '256',
} as const

export async function makeWorkload(
  server: PostgresServer,
  set: SetName,
  scale: number,
): Promise<void> {
  const share = Math.min(1, scale / FULL_SCALE)
  if (set === 'standard') {
    await makeAccounts(server, scale)
    await makeSmallTables(server, Math.ceil(SMALL_TABLES * share))
    await makeBlobs(server, Math.ceil(BLOBS * share))
  } else if (set === 'small-relations') {
    await makeManyTables(server, Math.ceil(MANY_TABLES * share))
  } else {
    await makeBlobs(server, Math.ceil(BLOBS * 10 * share))
  }
  await server.sql('CHECKPOINT')
}

/**
 * pgbench_accounts is rewritten with room in every page, so that an update of one row
 * stays in its page (HOT) and dirties that page only.
 */
async function makeAccounts(server: PostgresServer, scale: number): Promise<void> {
  await server.sql('CREATE DATABASE bench')
  await server.tool('pgbench', ['-i', '-q', '-s', String(scale), 'bench'])
  await server.sql('ALTER TABLE pgbench_accounts SET (fillfactor = 90)', [], 'bench')
  await server.sql('VACUUM FULL pgbench_accounts', [], 'bench')
}

async function makeSmallTables(server: PostgresServer, count: number): Promise<void> {
  await server.sql('CREATE DATABASE small')
  await server.sql(
    `DO $$ BEGIN FOR n IN 1..${count} LOOP
       EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', n);
       EXECUTE format('INSERT INTO t%s SELECT g, md5(g::text) FROM generate_series(1,200) g', n);
     END LOOP; END $$`,
    [],
    'small',
  )
}

async function makeBlobs(server: PostgresServer, count: number): Promise<void> {
  await server.sql('CREATE DATABASE blob')
  await server.sql('CREATE EXTENSION pgcrypto', [], 'blob')
  await server.sql(
    `CREATE TABLE blobs (id int PRIMARY KEY, v bytea);
     ALTER TABLE blobs ALTER v SET STORAGE EXTERNAL;`,
    [],
    'blob',
  )
  await server.sql(
    `INSERT INTO blobs SELECT g, ${RANDOM_8K} FROM generate_series(1, ${count}) g`,
    [],
    'blob',
  )
}

/** gen_random_bytes() gives at most 1024; naming g keeps it from being run only once. */
const RANDOM_8K = `(SELECT string_agg(gen_random_bytes(1024), ''::bytea)
                      FROM generate_series(1, 8) WHERE g > 0)`

async function makeManyTables(server: PostgresServer, count: number): Promise<void> {
  await server.sql('CREATE DATABASE many')
  for (let first = 1; first <= count; first += TABLES_PER_TRANSACTION) {
    const last = Math.min(count, first + TABLES_PER_TRANSACTION - 1)
    await server.sql(
      `DO $$ BEGIN FOR n IN ${first}..${last} LOOP
         EXECUTE format('CREATE TABLE t%s (id int, v char(80))', n);
         EXECUTE format('INSERT INTO t%s SELECT g, g FROM generate_series(1, 50) g', n);
       END LOOP; END $$`,
      [],
      'many',
    )
  }
}

/**
 * Changes 1 % of the cluster at random, then runs a checkpoint. `round` counts from 1 and
 * picks rows that no earlier round has touched.
 */
export async function touchOnePercent(
  server: PostgresServer,
  set: SetName,
  round: number,
): Promise<void> {
  if (set === 'standard') await touchPages(server, round)
  else if (set === 'small-relations') await touchTables(server)
  else await touchBlobs(server)
  await server.sql('CHECKPOINT')
}

async function touchPages(server: PostgresServer, round: number): Promise<void> {
  await server.sql(
    `WITH pages AS (SELECT pg_relation_size('pgbench_accounts') / 8192 AS count),
          chosen AS (SELECT p FROM pages, generate_series(0, pages.count - 2) AS p
                      ORDER BY random() LIMIT (SELECT count / 100 FROM pages))
     UPDATE pgbench_accounts SET abalance = abalance + 1
      WHERE ctid = ANY (ARRAY(SELECT format('(%s,%s)', p, ${round})::tid FROM chosen))`,
    [],
    'bench',
  )
}

async function touchTables(server: PostgresServer): Promise<void> {
  await server.sql(
    `DO $$ DECLARE name text; BEGIN
       FOR name IN SELECT relname FROM pg_class WHERE relname ~ '^t[0-9]+$'
                    ORDER BY random() LIMIT (SELECT count(*) / 100 FROM pg_class
                                              WHERE relname ~ '^t[0-9]+$') LOOP
         EXECUTE format('UPDATE %I SET v = v WHERE id = 1', name);
       END LOOP; END $$`,
    [],
    'many',
  )
}

async function touchBlobs(server: PostgresServer): Promise<void> {
  await server.sql(
    `UPDATE blobs SET v = (SELECT string_agg(gen_random_bytes(1024), ''::bytea)
                             FROM generate_series(1, 8) WHERE blobs.id > 0)
      WHERE id IN (SELECT id FROM blobs ORDER BY random()
                    LIMIT (SELECT count(*) / 100 FROM blobs))`,
    [],
    'blob',
  )
}
