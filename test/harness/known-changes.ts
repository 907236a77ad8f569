/**
 * Does known things to a server, each with a check of what the event index must say of it.
 */
import assert from 'node:assert/strict'
import type { FoldedEvent, FoldedTransaction, RelationRows } from '../../src/events/folded-event.ts'
import { replacedStorage } from '../../src/events/replaced-storage.ts'
import { type Lsn, parseLsn } from '../../src/postgres/lsn.ts'
import type { PostgresServer } from './postgres-server.ts'

export type Check = (events: readonly FoldedEvent[]) => void

export function transactions(events: readonly FoldedEvent[]): FoldedTransaction[] {
  return events.filter((event) => event.kind === 'transaction')
}

/** Runs statements as one transaction; returns its xid. */
async function transaction(server: PostgresServer, ...statements: string[]): Promise<number> {
  const client = await server.connect()
  try {
    await client.query('BEGIN')
    const { rows } = await client.query('SELECT txid_current()::text AS xid')
    for (const statement of statements) await client.query(statement)
    await client.query('COMMIT')
    return Number(BigInt(rows[0]?.['xid']) & 0xffff_ffffn)
  } finally {
    await client.end()
  }
}

async function nodeOf(server: PostgresServer, relation: string): Promise<number> {
  const [row] = await server.sql('SELECT pg_relation_filenode($1::regclass)::int8 AS node', [
    relation,
  ])
  return Number(row?.['node'])
}

async function position(server: PostgresServer): Promise<Lsn> {
  const [row] = await server.sql('SELECT pg_current_wal_insert_lsn()::text AS lsn')
  return parseLsn(String(row?.['lsn'])) as Lsn
}

type Counts = Pick<RelationRows, 'inserted' | 'updated' | 'deleted' | 'movedAway'>

function countsOf(rows: readonly RelationRows[], node: number): Counts | undefined {
  const found = rows.find((one) => one.node.number === node)
  if (found === undefined) return undefined
  const { inserted, updated, deleted, movedAway } = found
  return { inserted, updated, deleted, movedAway }
}

const counts = (inserted: number, updated = 0, deleted = 0, movedAway = 0): Counts => ({
  inserted,
  updated,
  deleted,
  movedAway,
})

function find(events: readonly FoldedEvent[], xid: number): FoldedTransaction {
  const found = transactions(events).filter((one) => one.xid === xid)
  assert.equal(found.length, 1, `transaction ${xid}`)
  return found[0] as FoldedTransaction
}

export async function doKnownThings(server: PostgresServer): Promise<Check[]> {
  await server.sql(`
    CREATE TABLE t (id int PRIMARY KEY, v text);
    CREATE TABLE parts (k int, v text) PARTITION BY LIST (k);
    CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
    CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2);
    CREATE TABLE wide (id int, v text);
    ALTER TABLE wide ALTER v SET STORAGE EXTERNAL;
    CREATE TABLE emptied (id int PRIMARY KEY, v text);
    INSERT INTO emptied SELECT n, 'x' FROM generate_series(1, 500) n;
    CREATE TABLE rewritten (id int PRIMARY KEY);
    INSERT INTO rewritten SELECT generate_series(1, 1000);
    CREATE TABLE gone (id int);
    INSERT INTO gone VALUES (1);
    CHECKPOINT`)
  const checks: Check[] = []
  const t = await nodeOf(server, 't')
  checks.push(await rowsOfOneTransaction(server, t))
  checks.push(await rowsOfCopy(server, t))
  checks.push(await subtransactions(server, t))
  checks.push(await rolledBack(server, t))
  checks.push(await conflicts(server, t))
  checks.push(await lostRace(server))
  checks.push(await partitionMoves(server))
  checks.push(await toastRows(server))
  checks.push(await prepared(server, t))
  checks.push(await storage(server))
  checks.push(await longTransaction(server, t))
  checks.push(await clusterEvents(server))
  return checks
}

async function rowsOfOneTransaction(server: PostgresServer, t: number): Promise<Check> {
  const before = await position(server)
  const xid = await transaction(
    server,
    `INSERT INTO t SELECT n, 'a' FROM generate_series(1, 100) n`,
    `UPDATE t SET v = 'b' WHERE id <= 30`,
    'DELETE FROM t WHERE id > 95',
  )
  const after = await position(server)
  return (events) => {
    const found = find(events, xid)
    assert.equal(found.outcome, 'committed')
    assert.deepEqual(countsOf(found.rows, t), counts(100, 30, 5))
    assert.ok(found.lsn > before && found.lsn < after)
    assert.ok(found.firstLsn >= before && found.firstLsn < found.lsn)
    assert.ok(found.endLsn > found.lsn && found.endLsn <= after)
    assert.equal(found.isIncomplete, false)
  }
}

async function rowsOfCopy(server: PostgresServer, t: number): Promise<Check> {
  const before = await transactionIds(server)
  await server.sql(`COPY t FROM PROGRAM 'seq 1001 6000 | sed "s/$/\\tcopied/"'`)
  return (events) => {
    const copied = transactions(events).filter(
      ({ xid, rows }) => xid >= before && countsOf(rows, t)?.inserted === 5000,
    )
    assert.equal(copied.length, 1)
  }
}

async function transactionIds(server: PostgresServer): Promise<number> {
  const [row] = await server.sql('SELECT txid_current()::text AS xid')
  return Number(BigInt(String(row?.['xid'])) & 0xffff_ffffn)
}

async function subtransactions(server: PostgresServer, t: number): Promise<Check> {
  const many = Array.from({ length: 70 }, (_, n) => [
    `SAVEPOINT m${n}`,
    `INSERT INTO t VALUES (${20_000 + n}, 'm')`,
  ]).flat()
  const xid = await transaction(
    server,
    `INSERT INTO t VALUES (7001, 'kept')`,
    'SAVEPOINT a',
    `INSERT INTO t VALUES (7002, 'kept'), (7003, 'kept')`,
    'RELEASE a',
    'SAVEPOINT b',
    `INSERT INTO t SELECT n, 'lost' FROM generate_series(8001, 8010) n`,
    'ROLLBACK TO b',
    ...many,
  )
  return (events) => {
    const found = find(events, xid)
    assert.deepEqual(countsOf(found.rows, t), counts(73))
    assert.ok(found.subxids.length >= 71)
    const lost = transactions(events).find(
      (one) => one.outcome === 'aborted' && countsOf(one.rows, t)?.inserted === 10,
    )
    assert.ok(lost !== undefined && lost.xid > xid)
  }
}

async function rolledBack(server: PostgresServer, t: number): Promise<Check> {
  const client = await server.connect()
  await client.query('BEGIN')
  await client.query('DELETE FROM t WHERE id <= 20')
  await client.query('CREATE TABLE never (id int)')
  await client.query('ROLLBACK')
  await client.end()
  return (events) => {
    const found = transactions(events).filter(
      ({ outcome, rows }) => outcome === 'aborted' && countsOf(rows, t)?.deleted === 20,
    )
    assert.equal(found.length, 1)
    assert.equal(found[0]?.created.length, 1, 'the storage of a table that never was')
    assert.equal(found[0]?.dropped.length, 1)
  }
}

async function conflicts(server: PostgresServer, t: number): Promise<Check> {
  const xid = await transaction(
    server,
    `INSERT INTO t SELECT n, 'c' FROM generate_series(1, 40) n ON CONFLICT (id) DO NOTHING`,
    `INSERT INTO t VALUES (9001, 'c'), (1, 'c') ON CONFLICT (id) DO UPDATE SET v = 'upserted'`,
  )
  return (events) => assert.deepEqual(countsOf(find(events, xid).rows, t), counts(1, 1))
}

/** Both insert the row, and find out when they reach the index: one is taken back. */
async function lostRace(server: PostgresServer): Promise<Check> {
  await server.sql(`
    CREATE FUNCTION slow(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE
      AS 'BEGIN PERFORM pg_sleep(0.3); RETURN k; END';
    CREATE TABLE race (k int);
    CREATE UNIQUE INDEX ON race (slow(k))`)
  const race = await nodeOf(server, 'race')
  const insert = async (): Promise<unknown> =>
    await server.sql('INSERT INTO race VALUES (1) ON CONFLICT (slow(k)) DO NOTHING')
  await Promise.all([insert(), insert(), insert()])
  return (events) => {
    const rows = transactions(events).flatMap((one) => {
      const found = countsOf(one.rows, race)
      return found === undefined ? [] : [found]
    })
    assert.ok(rows.length >= 2, 'several have tried')
    assert.equal(rows.filter(({ inserted }) => inserted === 1).length, 1)
    assert.ok(rows.every(({ inserted, deleted }) => inserted >= 0 && deleted === 0))
  }
}

async function partitionMoves(server: PostgresServer): Promise<Check> {
  const [one, two] = [await nodeOf(server, 'part1'), await nodeOf(server, 'part2')]
  await server.sql(`INSERT INTO parts SELECT 1, 'p' FROM generate_series(1, 50)`)
  const xid = await transaction(server, 'UPDATE parts SET k = 2', 'DELETE FROM part2')
  return (events) => {
    const { rows } = find(events, xid)
    assert.deepEqual(countsOf(rows, one), counts(0, 0, 0, 50))
    assert.deepEqual(countsOf(rows, two), counts(50, 0, 50))
  }
}

async function toastRows(server: PostgresServer): Promise<Check> {
  const wide = await nodeOf(server, 'wide')
  const [row] = await server.sql(
    `SELECT pg_relation_filenode(reltoastrelid)::int8 AS node FROM pg_class WHERE relname = 'wide'`,
  )
  const toast = Number(row?.['node'])
  const xid = await transaction(server, `INSERT INTO wide VALUES (1, repeat('x', 20000))`)
  return (events) => {
    const { rows } = find(events, xid)
    assert.deepEqual(countsOf(rows, wide), counts(1))
    const found = rows.find(({ node }) => node.number === toast)
    assert.ok(found !== undefined && found.inserted > 5)
  }
}

async function prepared(server: PostgresServer, t: number): Promise<Check> {
  const client = await server.connect()
  const prepare = async (end: string, id: number): Promise<number> => {
    await client.query('BEGIN')
    const { rows } = await client.query('SELECT txid_current()::text AS xid')
    await client.query(`INSERT INTO t VALUES (${id}, 'p')`)
    await client.query('SAVEPOINT s')
    await client.query(`INSERT INTO t VALUES (${id + 1}, 'p')`)
    await client.query(`PREPARE TRANSACTION 'gid'`)
    await client.query('CHECKPOINT')
    await client.query(`${end} PREPARED 'gid'`)
    return Number(BigInt(rows[0]?.['xid']) & 0xffff_ffffn)
  }
  const kept = await prepare('COMMIT', 10_001)
  const lost = await prepare('ROLLBACK', 10_011)
  await client.end()
  return (events) => {
    const committed = find(events, kept)
    assert.deepEqual([committed.outcome, committed.isPrepared], ['committed', true])
    assert.deepEqual(countsOf(committed.rows, t), counts(2))
    assert.deepEqual(find(events, lost).outcome, 'aborted')
    assert.deepEqual(countsOf(find(events, lost).rows, t), counts(2))
    assert.ok(events.some((event) => event.kind === 'prepared' && event.xid === kept))
  }
}

async function storage(server: PostgresServer): Promise<Check> {
  const [emptied, rewritten] = [await nodeOf(server, 'emptied'), await nodeOf(server, 'rewritten')]
  const gone = await nodeOf(server, 'gone')
  const checkPairs = await replacements(server)
  const truncate = await transaction(server, 'TRUNCATE emptied')
  const drop = await transaction(server, 'DROP TABLE gone')
  const before = await transactionIds(server)
  await server.sql('VACUUM FULL rewritten')
  const [now, index] = [await nodeOf(server, 'rewritten'), await nodeOf(server, 'rewritten_pkey')]
  const make = await transaction(
    server,
    `CREATE TABLE made AS SELECT n FROM generate_series(1, 300) n`,
  )
  const made = await nodeOf(server, 'made')
  const filled = (found: FoldedTransaction, number: number): number => {
    const rows = found.rows.find(({ node }) => node.number === number)
    return (rows?.inserted ?? 0) + (rows?.pagesLogged ?? 0)
  }
  return (events) => {
    checkPairs(events)
    const truncated = find(events, truncate)
    assert.ok(truncated.dropped.some(({ number }) => number === emptied))
    const empty = truncated.created.filter(({ node }) => filled(truncated, node.number) === 0)
    assert.ok(empty.length >= 2, 'the table and its TOAST table')
    assert.deepEqual(
      find(events, drop).dropped.map(({ number }) => number),
      [gone],
    )
    const vacuum = transactions(events).find(
      ({ xid, dropped }) => xid > before && dropped.some(({ number }) => number === rewritten),
    )
    assert.ok(vacuum !== undefined)
    const createdNumbers = vacuum.created.map(({ node }) => node.number)
    assert.ok(createdNumbers.includes(now) && createdNumbers.includes(index))
    assert.ok(filled(vacuum, now) > 0, 'a rewrite fills its file')
    const table = find(events, make)
    assert.deepEqual(countsOf(table.rows, made), counts(300))
    assert.ok(table.created.some(({ node }) => node.number === made))
    assert.ok(
      events.some(
        (event) =>
          event.kind === 'relation-named' && event.name === 'made' && event.node.number === made,
      ),
    )
  }
}

/** By kind and name: the file nodes of a table, its TOAST table and their indexes. */
async function filesOf(server: PostgresServer, table: string): Promise<Map<string, number>> {
  const rows = await server.sql(
    `SELECT c.relname AS name, pg_relation_filenode(c.oid)::int8 AS node FROM pg_class c
      WHERE c.oid = $1::regclass
         OR c.oid = (SELECT reltoastrelid FROM pg_class WHERE oid = $1::regclass)
         OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = $1::regclass OR
              indrelid = (SELECT reltoastrelid FROM pg_class WHERE oid = $1::regclass))`,
    [table],
  )
  return new Map(rows.map(({ name, node }) => [String(name), Number(node)]))
}

/** TRUNCATE and REINDEX tell which file took the place of which; others tell nothing. */
async function replacements(server: PostgresServer): Promise<Check> {
  await server.sql(`
    CREATE TABLE many (id int PRIMARY KEY, v text, w int UNIQUE);
    CREATE INDEX ON many (v);
    INSERT INTO many SELECT n, 'x', n FROM generate_series(1, 200) n;
    CREATE TABLE retyped AS SELECT 1 AS id`)
  const steps: [number, Map<string, number>, Map<string, number>, isTruncate: boolean][] = []
  for (const statement of ['TRUNCATE many', 'REINDEX TABLE many']) {
    const before = await filesOf(server, 'many')
    const xid = await transaction(server, statement)
    steps.push([xid, before, await filesOf(server, 'many'), statement.startsWith('T')])
  }
  const swap = await transaction(server, 'DROP TABLE many', 'CREATE TABLE many (id int)')
  const rewrite = await transaction(server, 'ALTER TABLE retyped ALTER id TYPE bigint')
  return (events) => {
    for (const [xid, before, after, isTruncate] of steps) {
      const pairs = replacedStorage(find(events, xid))
      const changed = [...before].filter(([name, node]) => after.get(name) !== node)
      assert.ok(changed.length >= 4)
      assert.deepEqual(
        new Map(pairs?.map(({ dropped, created }) => [dropped.number, created.number])),
        new Map(changed.map(([name, node]) => [node, after.get(name)])),
      )
      const table = pairs?.find(({ dropped }) => dropped.number === before.get('many'))
      assert.equal(table?.isEmpty, isTruncate ? true : undefined)
    }
    assert.equal(replacedStorage(find(events, swap)), undefined)
    assert.equal(replacedStorage(find(events, rewrite)), undefined)
  }
}

/** Others fill segments while it is open. */
async function longTransaction(server: PostgresServer, t: number): Promise<Check> {
  const client = await server.connect()
  await client.query('BEGIN')
  const { rows } = await client.query('SELECT txid_current()::text AS xid')
  const xid = Number(BigInt(rows[0]?.['xid']) & 0xffff_ffffn)
  await client.query(`INSERT INTO t VALUES (11001, 'long')`)
  for (let round = 0; round < 4; round++) {
    await server.sql(`UPDATE t SET v = v || 'x' WHERE id BETWEEN 1001 AND 4000`)
    await client.query('SAVEPOINT s')
    await client.query(`INSERT INTO t VALUES (${11_002 + round}, 'long')`)
    await client.query('RELEASE s')
    await server.sql('SELECT pg_switch_wal()')
    await server.sql('CHECKPOINT')
  }
  await client.query('COMMIT')
  await client.end()
  return (events) => {
    const found = find(events, xid)
    assert.deepEqual(countsOf(found.rows, t), counts(5))
    const updates = transactions(events).filter(
      (one) => countsOf(one.rows, t)?.updated === 3000 && one.outcome === 'committed',
    )
    assert.equal(updates.length, 4)
    assert.ok(found.firstLsn < (updates[0] as FoldedTransaction).firstLsn)
  }
}

async function clusterEvents(server: PostgresServer): Promise<Check> {
  await server.sql(`SELECT pg_create_restore_point('here')`)
  await server.sql('CREATE DATABASE shortlived')
  const [row] = await server.sql(
    `SELECT oid::int8 AS oid FROM pg_database WHERE datname = 'shortlived'`,
  )
  const database = Number(row?.['oid'])
  await server.sql('DROP DATABASE shortlived')
  return (events) => {
    const kinds = new Set(events.map(({ kind }) => kind))
    for (const kind of ['checkpoint', 'running', 'switch'] as const) {
      assert.ok(kinds.has(kind), kind)
    }
    assert.ok(events.some((event) => event.kind === 'restore-point' && event.name === 'here'))
    const about = events.filter(
      (event) =>
        (event.kind === 'database-created' || event.kind === 'database-dropped') &&
        event.database === database,
    )
    assert.deepEqual(
      about.map(({ kind }) => kind),
      ['database-created', 'database-dropped'],
    )
  }
}
