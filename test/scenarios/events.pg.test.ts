/**
 * `events` against what was really done by SQL, statement by statement; and the restore that it
 * prints, which brings back what was there just before.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { openRecovered, type ProtectedServer, protectServer } from './recovery-cluster.ts'

interface EventLine {
  readonly kind: string
  readonly kinds: readonly string[]
  readonly time: string | null
  readonly xid: number | null
  readonly lsn: string
  readonly text: string
  readonly database: { readonly name: string | null } | null
  readonly target: string | null
  readonly restore: string
  readonly isRecoverable: boolean
  readonly inserted: number
  readonly updated: number
  readonly deleted: number
  readonly relations: readonly {
    readonly name: string | null
    readonly storage: string | null
    readonly deleted: number
  }[]
}

let cluster: ProtectedServer
/** By name of the step: its transaction, and the moments before and after it. */
const done = new Map<string, { readonly xid: number; readonly from: Date; readonly to: Date }>()
let all: readonly EventLine[] = []

async function sql(text: string, database?: string): Promise<Record<string, unknown>[]> {
  return await cluster.server.sql(text, [], database)
}

/** Statements in one transaction, whose xid is noted. */
async function step(name: string, ...statements: string[]): Promise<void> {
  const client = await cluster.server.connect()
  try {
    const from = new Date()
    await client.query('BEGIN')
    for (const text of statements) await client.query(text)
    const { rows } = await client.query('SELECT pg_current_xact_id()::text AS xid')
    await client.query(name.startsWith('rollback') ? 'ROLLBACK' : 'COMMIT')
    const xid = Number(BigInt(String(rows[0].xid)) & 0xffffffffn)
    done.set(name, { xid, from, to: new Date() })
  } finally {
    await client.end()
  }
}

/** A statement that cannot be in a transaction: the xid is the one that comes next. */
async function alone(name: string, text: string): Promise<void> {
  const [row] = await sql('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xid')
  const from = new Date()
  await sql(text)
  done.set(name, { xid: Number(row?.['xid']), from, to: new Date() })
}

const TABLES = `
  CREATE TABLE orders (id int PRIMARY KEY, note text, big text);
  CREATE TABLE few (id int PRIMARY KEY);
  CREATE TABLE emptied (id int PRIMARY KEY, note text);
  CREATE TABLE doomed (id int PRIMARY KEY, note text);
  CREATE SCHEMA old;
  CREATE TABLE old.one (id serial PRIMARY KEY);
  CREATE TABLE old.two (id int PRIMARY KEY);
  CREATE TABLE parts (id int, at int) PARTITION BY LIST (at);
  CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
  CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
  CREATE UNLOGGED TABLE passing (id int PRIMARY KEY);
  CREATE MATERIALIZED VIEW sums AS SELECT 1 AS sum;
  INSERT INTO orders SELECT g, 'n', NULL FROM generate_series(1, 3000) g;
  INSERT INTO few SELECT generate_series(1, 40);
  INSERT INTO emptied SELECT g, 'n' FROM generate_series(1, 100) g;
  INSERT INTO doomed SELECT g, 'n' FROM generate_series(1, 100) g;
  INSERT INTO parts SELECT g, 1 FROM generate_series(1, 50) g;
  INSERT INTO passing VALUES (1);`

before(async () => {
  cluster = await protectServer({
    walSegmentSizeMb: 1,
    settings: { max_prepared_transactions: '4', autovacuum: 'off' },
  })
  await sql('CREATE DATABASE shop')
  await sql('CREATE TABLE kept AS SELECT 7 AS value', 'shop')
  for (const text of TABLES.split(';').slice(0, -1)) await sql(text)
  await cluster.backup()
  await cluster.archiveNow()
  await doEverything()
  await cluster.archiveNow()
  all = lines((await cluster.ok('--json', 'events', '--since', 'start', '--all')).stdout)
})

async function doEverything(): Promise<void> {
  await step('delete many', 'DELETE FROM orders WHERE id <= 1500')
  await step('delete few', 'DELETE FROM orders WHERE id = 1501')
  await step('update many', "UPDATE orders SET note = 'u'")
  await step('insert', "INSERT INTO orders SELECT g, 'i' FROM generate_series(5001, 5010) g")
  await step('toast', 'UPDATE orders SET big = repeat(md5(id::text), 400) WHERE id <= 2000')
  await step('move', 'UPDATE parts SET at = 2 WHERE id <= 20')
  await step('truncate', 'TRUNCATE emptied')
  await step('rollback drop', 'DROP TABLE doomed')
  await step(
    'savepoint',
    'SAVEPOINT a',
    'DROP TABLE doomed',
    'DELETE FROM few',
    'ROLLBACK TO a',
    'DELETE FROM few WHERE id = 1',
  )
  await alone('vacuum full', 'VACUUM FULL orders')
  await alone('vacuum full unlogged', 'VACUUM FULL passing')
  await step('cluster', 'ALTER TABLE few ALTER id TYPE bigint')
  await step('reindex', 'REINDEX TABLE orders')
  await step('refresh', 'REFRESH MATERIALIZED VIEW sums')
  await step('detach', 'ALTER TABLE parts DETACH PARTITION parts_2')
  await step('drop partition', 'DROP TABLE parts_1')
  await step('create as', 'CREATE TABLE made AS SELECT generate_series(1, 30) AS id')
  await step('drop schema', 'DROP SCHEMA old CASCADE')
  await step('replace', 'DROP TABLE doomed', 'CREATE TABLE other AS SELECT 1 AS id')
  await sql(`SELECT pg_create_restore_point('before the "release"')`)
  const prepared = await cluster.server.connect()
  await prepared.query('BEGIN')
  await prepared.query('DELETE FROM few WHERE id <= 20')
  const { rows } = await prepared.query('SELECT pg_current_xact_id()::text AS xid')
  await prepared.query("PREPARE TRANSACTION 'two'")
  await prepared.end()
  const from = new Date()
  await sql("COMMIT PREPARED 'two'")
  done.set('prepared', { xid: Number(rows[0].xid), from, to: new Date() })
  await alone('drop database', 'DROP DATABASE shop')
}

after(async () => {
  await cluster[Symbol.asyncDispose]()
})

function lines(stdout: string): EventLine[] {
  const parsed = stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as EventLine)
  assert.equal(parsed.at(-1)?.kind, 'end')
  return parsed.slice(0, -1)
}

/** The transaction of a step. Its time lies between the clock before and behind it. */
function found(name: string): EventLine {
  const { xid, from, to } = done.get(name) ?? assert.fail(name)
  const line = all.find((one) => one.xid === xid && one.kind !== 'prepare')
  assert.ok(line, `${name}: no transaction ${xid}`)
  const time = Date.parse(line.time ?? '')
  assert.ok(time >= from.getTime() - 1 && time <= to.getTime() + 1, `${name} at ${line.time}`)
  return line
}

const storages = ({ relations }: EventLine): Record<string, string | null> =>
  Object.fromEntries(
    relations
      .filter(({ storage, name }) => storage !== null && name !== null)
      .map(({ name, storage }) => [name, storage]),
  )
const counts = ({ inserted, updated, deleted }: EventLine): number[] => [inserted, updated, deleted]

test('rows are counted as SQL counts them', () => {
  assert.deepEqual(counts(found('delete many')), [0, 0, 1500])
  assert.deepEqual(counts(found('delete few')), [0, 0, 1])
  assert.deepEqual(counts(found('update many')), [0, 1499, 0])
  assert.deepEqual(counts(found('insert')), [10, 0, 0])
  assert.deepEqual(counts(found('toast')), [0, 499, 0])
  assert.deepEqual(counts(found('move')), [0, 20, 0])
  assert.deepEqual(counts(found('create as')), [30, 0, 0])
  assert.deepEqual(counts(found('prepared')), [0, 0, 20 - 1])
})

test('DROP TABLE, of a partition and of a schema, is told with its tables', () => {
  assert.deepEqual(storages(found('drop partition')), { parts_1: 'dropped' })
  assert.deepEqual(storages(found('drop schema')), {
    one: 'dropped',
    two: 'dropped',
    one_id_seq: 'dropped',
    one_pkey: 'dropped',
    two_pkey: 'dropped',
  })
  assert.match(found('drop schema').text, /^DROP TABLE old\.(one|two), old\.(one|two)$/)
  assert.equal(found('drop schema').kind, 'drop')
})

test('TRUNCATE is told from VACUUM FULL, rewrites, REINDEX and REFRESH', () => {
  assert.equal(found('truncate').text, 'TRUNCATE public.emptied')
  assert.deepEqual(found('truncate').kinds, ['truncate', 'index'])
  assert.equal(storages(found('vacuum full'))['orders'], 'rewritten')
  assert.equal(storages(found('vacuum full unlogged'))['passing'], 'rewritten')
  assert.equal(storages(found('cluster'))['few'], 'rewritten')
  assert.deepEqual(
    found('reindex').kinds.filter((kind) => kind !== 'index' && kind !== 'rewrite'),
    [],
  )
  assert.ok(!found('refresh').kinds.some((kind) => ['drop', 'truncate'].includes(kind)))
})

test('what rolled back, in whole or to a savepoint, was not done', () => {
  assert.equal(found('rollback drop').kind, 'abort')
  const savepoint = found('savepoint')
  assert.deepEqual(counts(savepoint), [0, 0, 1])
  assert.deepEqual(storages(savepoint), {})
})

test('detaching a partition and creating a table lose nothing', () => {
  assert.deepEqual(storages(found('detach')), {})
  assert.equal(found('create as').kind, 'insert')
})

test('a table that is dropped while another is made is not said to be rewritten', () => {
  const effect = storages(found('replace'))['doomed']
  assert.ok(effect === 'dropped' || effect === 'gone', effect ?? 'none')
})

test('by itself it shows accidents and nothing else', async () => {
  const shown = lines((await cluster.ok('--json', 'events')).stdout)
  const names = new Map([...done].map(([name, { xid }]) => [xid, name]))
  const seen = shown
    .filter(({ xid, kind }) => xid !== null && kind !== 'restart')
    .map(({ xid }) => names.get(xid ?? 0) ?? `unknown ${xid}`)
  assert.deepEqual(seen, [
    'delete many',
    'update many',
    'truncate',
    'drop partition',
    'drop schema',
    'replace',
    'drop database',
  ])
  const kinds = shown.filter(({ xid }) => xid === null).map(({ kind }) => kind)
  assert.deepEqual([...new Set(kinds)].sort(), ['restart', 'restore-point'])
})

test('filters: --kind, --relation, --min-rows, --xid, --database, --limit, a range', async () => {
  const events = async (...args: string[]): Promise<EventLine[]> =>
    lines((await cluster.ok('--json', 'events', '--since', 'start', ...args)).stdout)
  const xidOf = (name: string): number | undefined => done.get(name)?.xid
  const truncates = await events('--kind', 'truncate')
  assert.deepEqual(
    truncates.map(({ xid }) => xid),
    [xidOf('truncate')],
  )
  const few = await events('--relation', 'public.few', '--kind', 'delete')
  assert.deepEqual(
    few.map(({ xid }) => xid),
    [xidOf('savepoint'), xidOf('prepared')],
  )
  const many = await events('--relation', 'orders', '--min-rows', '1500', '--kind', 'delete,update')
  assert.deepEqual(
    many.map(({ xid }) => xid),
    [xidOf('delete many')],
  )
  const one = await events('--xid', String(xidOf('rollback drop')))
  assert.deepEqual(
    one.map(({ kind }) => kind),
    ['abort'],
  )
  assert.deepEqual((await events('--database', 'shop', '--kind', 'drop')).length, 0)
  assert.equal((await events('--all', '--limit', '3')).length, 3)
  const { from, to } = done.get('truncate') ?? assert.fail()
  const range = ['--since', from.toISOString(), '--until', new Date(to.getTime() + 1).toISOString()]
  const between = lines((await cluster.ok('--json', 'events', '--all', ...range)).stdout)
  assert.deepEqual(
    between.filter(({ xid }) => xid !== null).map(({ xid }) => xid),
    [xidOf('truncate')],
  )
})

test('a moment without a zone, an empty range and an unknown kind are refused', async () => {
  for (const args of [
    ['--since', '14:00'],
    ['--since', '2h', '--until', '3h'],
    ['--kind', 'trunkate'],
  ]) {
    const { status, stderr } = await cluster.run('events', ...args)
    assert.equal(status, 2, stderr)
    assert.match(stderr, /TM1482/)
  }
})

test('text: a line for a person, and the restore below it', async () => {
  const { stdout } = await cluster.ok('events', '--kind', 'truncate')
  const xid = done.get('truncate')?.xid
  assert.match(stdout, new RegExp(`postgres: TRUNCATE public\\.emptied +xid ${xid} at 0/`))
  assert.match(stdout, new RegExp(`restore main --to before:xid:${xid} --into restored-`))
})

/** Runs the words of a printed restore, into a directory of the test. */
async function restore(name: string, line: EventLine) {
  assert.equal(line.isRecoverable, true)
  assert.match(line.restore, /^tidemark .*restore main --to \S+ --into \S+$/)
  const into = cluster.path(name)
  await cluster.ok('restore', '--to', line.target ?? '', '--into', into)
  return await openRecovered(into)
}

test('the printed restore brings back the table as it was just before DROP', async () => {
  const copy = await restore('before-drop', found('drop schema'))
  try {
    const count = 'SELECT count(*)::int AS rows FROM old.two'
    assert.deepEqual(await copy.sql(count), [{ rows: 0 }])
    // All that was committed before it is there, and nothing after.
    assert.deepEqual(await copy.sql('SELECT count(*)::int AS rows FROM made'), [{ rows: 30 }])
    assert.deepEqual(await copy.sql("SELECT to_regclass('other') AS other"), [{ other: null }])
    assert.deepEqual(await copy.sql("SELECT to_regclass('doomed')::text AS doomed"), [
      { doomed: 'doomed' },
    ])
  } finally {
    await copy.dispose()
  }
})

test('the printed restore brings back deleted and truncated rows', async () => {
  const copy = await restore('before-truncate', found('truncate'))
  try {
    assert.deepEqual(await copy.sql('SELECT count(*)::int AS rows FROM emptied'), [{ rows: 100 }])
    assert.deepEqual(await copy.sql('SELECT count(*)::int AS rows FROM parts_2'), [{ rows: 20 }])
    assert.deepEqual(await copy.sql('SELECT count(*)::int AS rows FROM orders'), [{ rows: 1509 }])
  } finally {
    await copy.dispose()
  }
})

test('the printed restore brings back a dropped database that one can connect to', async () => {
  const dropped = all.find(({ kind }) => kind === 'drop-database')
  assert.ok(dropped)
  assert.equal(dropped.text, 'DROP DATABASE shop')
  const copy = await restore('before-drop-database', dropped)
  try {
    assert.deepEqual(await copy.sql('SELECT value FROM kept', [], 'shop'), [{ value: 7 }])
    assert.deepEqual(await copy.sql('SELECT count(*)::int AS rows FROM few'), [{ rows: 20 }])
  } finally {
    await copy.dispose()
  }
})
