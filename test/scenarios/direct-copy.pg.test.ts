/** `dump --to-database`: round trips, what is refused, and either side going away. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { wrapPgDump } from '../harness/dumping.ts'
import { describeDatabase } from '../harness/real-dump.ts'
import { failureOf, startTidemark, tidemark } from '../harness/tidemark.ts'
import { EVERYTHING, LoadFixture, readChecksums, ROLES } from './load-fixture.ts'

/** In databases named slow… the row 5 never comes to an end; behind it is more than pipes hold. */
const FICKLE = `
  CREATE FUNCTION public.holds(id int) RETURNS bool LANGUAGE plpgsql AS $$
  BEGIN
    IF current_database() LIKE 'slow%' AND id = 5 THEN PERFORM pg_sleep(600); END IF;
    RETURN current_database() NOT LIKE 'fails%' OR id < 5;
  END $$;
  CREATE TABLE public.before (id int);
  INSERT INTO public.before SELECT generate_series(1, 10);
  CREATE TABLE public.checked (id int CHECK (public.holds(id)));
  INSERT INTO public.checked SELECT generate_series(1, 10);
  CREATE TABLE public.later (id int PRIMARY KEY, t text);
  INSERT INTO public.later SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 12000) g`

let fixture: LoadFixture

before(async () => {
  fixture = await LoadFixture.start({ source: 15, target: 15 })
  await fixture.source.sql(ROLES)
  await fixture.source.sql('CREATE DATABASE shop')
  await fixture.source.sql(EVERYTHING, [], 'shop')
  await fixture.source.sql('CREATE DATABASE fickle')
  await fixture.source.sql(FICKLE, [], 'fickle')
})

after(async () => await fixture.dispose())

const words = (database: string, into: string, ...more: string[]): string[] => [
  ...['--config', fixture.config, '--json', 'dump', '--database', database],
  ...['--to-database', fixture.target.url(into), ...more],
]

async function copy(database: string, into: string, ...more: string[]) {
  return await tidemark(words(database, into, ...more), { env: { TMPDIR: fixture.base } })
}

test('missing roles are told before anything is written, and can be made', async () => {
  const { source, target } = fixture
  const refused = await copy('shop', 'shop', '--create')
  assert.equal(failureOf(refused).code, 'TM2030')
  assert.match(failureOf(refused).because ?? '', /owner_one.*Röle Two/)
  assert.deepEqual(await listDatabases('shop'), [])
  const result = await copy('shop', 'shop', '--create', '--create-missing-roles')
  assert.equal(result.status, 0, result.stderr)
  const report = result.json<{ counts: { restored: number }; source: { lsn: string } }>()
  assert.ok(report.counts.restored > 60, String(report.counts.restored))
  assert.match(report.source.lsn, /^[0-9A-F]+\/[0-9A-F]+$/)
  assert.equal(await describeDatabase(target, 'shop'), await describeDatabase(source, 'shop'))
  assert.deepEqual(await readChecksums(target, 'shop'), await readChecksums(source, 'shop'))
})

async function listDatabases(name: string): Promise<unknown[]> {
  return await fixture.target.sql(`SELECT FROM pg_database WHERE datname = '${name}'`)
}

test('with --globals the roles come first; a selection goes through', async () => {
  await fixture.target.sql('DROP DATABASE IF EXISTS shop')
  await fixture.target.sql('DROP ROLE IF EXISTS owner_one; DROP ROLE IF EXISTS "Röle Two"')
  const result = await copy('shop', 'part', '--create', '--globals', '--table', 'public.part*')
  assert.equal(result.status, 0, result.stderr)
  const { globals } = result.json<{ globals: { roles: { created: string[] } } }>()
  for (const role of ['owner_one', 'Röle Two'])
    assert.ok(globals.roles.created.includes(role), role)
  const there = await readChecksums(fixture.target, 'part')
  const sums = await readChecksums(fixture.source, 'shop')
  assert.deepEqual(Object.keys(there), ['part_1', 'part_2a', 'large objects'])
  assert.equal(there['part_1'], sums['part_1'])
  assert.equal(there['part_2a'], sums['part_2a'])
})

test('refused: the same database, one that is not empty, a password in the arguments', async () => {
  const url = fixture.source.url('fickle')
  const same = await tidemark([...words('fickle', 'x').slice(0, -1), url, '--clean'])
  assert.equal(failureOf(same).code, 'TM2030')
  assert.match(failureOf(same).because ?? '', /fickle is the very database that was dumped/)
  await fixture.target.sql('CREATE DATABASE filled')
  await fixture.target.sql('CREATE TABLE x ()', [], 'filled')
  const full = await copy('fickle', 'filled')
  assert.match(failureOf(full).because ?? '', /filled is not empty: it holds 1 table/)
  const secret = [...words('fickle', 'x').slice(0, -1), 'postgresql://u:geheim@127.0.0.1/x']
  const told = await tidemark(secret)
  assert.equal(failureOf(told).code, 'TM2100')
  assert.ok(!`${told.stdout}${told.stderr}`.includes('geheim'))
  const senseless = [['--split', '1G'], ['--label', 'a=b'], ['--format', 'plain'], ['--all']]
  for (const more of senseless) {
    assert.equal(failureOf(await copy('fickle', 'x', ...more)).code, 'TM2100', more.join(' '))
  }
})

test('the target refuses a row: pg_dump is ended, one transaction leaves nothing', async () => {
  await fixture.target.sql('CREATE DATABASE fails_here')
  const result = await copy('fickle', 'fails_here', '--single-transaction')
  const failure = failureOf(result)
  assert.equal(failure.code, 'TM2034', result.stdout)
  assert.match(failure.message, /TABLE DATA public\.checked/)
  assert.match(failure.fix, /nothing of it stays in fails_here/)
  assert.deepEqual(await listTables('fails_here'), [])
  await assertNoDumps()
  const rest = failureOf(await copy('fickle', 'fails_here'))
  assert.match(rest.fix, /\d+ objects stay in fails_here/)
})

async function listTables(database: string): Promise<string[]> {
  const rows = await fixture.target.sql<{ name: string }>(
    "SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND oid >= 16384 ORDER BY 1",
    [],
    database,
  )
  return rows.map(({ name }) => name)
}

async function assertNoDumps(): Promise<void> {
  for (const server of [fixture.source, fixture.target]) {
    const rows = await server.sql(
      `SELECT application_name FROM pg_stat_activity
        WHERE application_name IN ('pg_dump', 'pg_restore', 'tidemark dump', 'tidemark load')`,
    )
    assert.deepEqual(rows, [])
  }
}

test('a pg_dump that ends well too early, or badly in the middle, is no success', async () => {
  await fixture.target.sql('CREATE DATABASE cut')
  const real = wrapPgDump(15, ':')
  for (const [lines, said] of [
    [`${real}/pg_dump "$@" | head -c 3000000; exit 0`, /pg_dump wrote is not whole/],
    [`${real}/pg_dump "$@" | head -c 3000000; echo 'pg_dump: error: boo' >&2; exit 1`, /boo/],
    [`${real}/pg_dump "$@" | head -c 3000000; kill -9 $$`, /SIGKILL/],
  ] as const) {
    const tools = wrapPgDump(15, lines)
    const result = await copy('fickle', 'cut', '--single-transaction', '--tools', tools)
    const failure = failureOf(result)
    assert.equal(failure.code, 'TM2101', result.stdout)
    assert.match(`${failure.message} ${failure.because}`, said)
    assert.match(failure.fix, /nothing of it stays in cut/)
    assert.deepEqual(await listTables('cut'), [])
  }
  const tools = wrapPgDump(15, `echo 'pg_dump: error: at once' >&2; exit 1`)
  const failure = failureOf(await copy('fickle', 'cut', '--tools', tools))
  assert.equal(failure.code, 'TM2002')
})

async function untilSleeping(): Promise<void> {
  for (;;) {
    const rows = await fixture.target.sql(
      "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    )
    if (rows.length > 0) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('SIGTERM ends both tools; a source that is killed ends pg_restore', async () => {
  const { source, target } = fixture
  await target.sql('CREATE DATABASE slow_one')
  const stopped = startTidemark(words('fickle', 'slow_one', '--single-transaction'))
  await untilSleeping()
  stopped.kill('SIGTERM')
  assert.notEqual((await stopped.done).status, 0)
  assert.deepEqual(await listTables('slow_one'), [])
  await assertNoDumps()

  const running = startTidemark(words('fickle', 'slow_one', '--single-transaction'))
  await untilSleeping()
  await source.kill()
  const result = await running.done
  const failure = failureOf(result)
  assert.equal(failure.code, 'TM2101', result.stdout)
  assert.match(failure.fix, /nothing of it stays in slow_one/)
  assert.deepEqual(await listTables('slow_one'), [])
  await source.start()
  await assertNoDumps()
})

test('a target that is killed ends pg_dump', async () => {
  const { target } = fixture
  const running = startTidemark(words('fickle', 'slow_two', '--create'))
  await untilSleeping()
  await target.kill()
  const result = await running.done
  const failure = failureOf(result)
  assert.equal(failure.code, 'TM2037', result.stdout)
  assert.match(failure.fix, /slow_two was created and stays/)
  await target.start()
  await assertNoDumps()
})
