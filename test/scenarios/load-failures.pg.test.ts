/** Loads that go wrong in the middle: what is told, what stays, and that nothing hangs. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { DumpFormat, DumpRecord } from '../../src/repository/dump-record.ts'
import { dumpPackKey } from '../../src/repository/keys.ts'
import { findTool } from '../harness/postgres-binaries.ts'
import { takeRealDump } from '../harness/real-dump.ts'
import { failureOf } from '../harness/tidemark.ts'
import { LoadFixture, readChecksums } from './load-fixture.ts'

let fixture: LoadFixture

/** A check that holds in the database that is dumped, and sleeps or fails in others. */
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
  CREATE TABLE public.later (id int PRIMARY KEY);
  INSERT INTO public.later SELECT generate_series(1, 10)`

const dumps = new Map<DumpFormat, DumpRecord>()

before(async () => {
  fixture = await LoadFixture.start({ source: 15, target: 15 })
  await fixture.source.sql('CREATE DATABASE fickle')
  await fixture.source.sql(FICKLE, [], 'fickle')
  for (const format of ['custom', 'plain', 'directory'] as const) {
    const dump = { databases: ['fickle'], format }
    dumps.set(format, (await takeRealDump(fixture.source, fixture.storage, dump)).record)
  }
})

after(async () => await fixture.dispose())

const idOf = (format: DumpFormat): string => dumps.get(format)?.id ?? ''
const into = (database: string): string[] => ['--into', fixture.target.url(database)]

async function listTables(database: string): Promise<string[]> {
  const rows = await fixture.target.sql<{ name: string }>(
    "SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND oid >= 16384 ORDER BY 1",
    [],
    database,
  )
  return rows.map(({ name }) => name)
}

interface FailedObjects {
  readonly objects: readonly { kind: string; name: string; state: string }[]
  readonly statement?: string
  readonly counts: Readonly<Record<string, number>>
}

test('a constraint that does not hold: which object, what was said, what stays', async () => {
  await fixture.target.sql('CREATE DATABASE fails_one')
  const result = await fixture.load([idOf('custom'), ...into('fails_one')])
  assert.equal(result.status, 1)
  const failure = failureOf(result)
  assert.equal(failure.code, 'TM2034')
  assert.match(failure.message, /TABLE DATA public\.checked/)
  assert.match(failure.because ?? '', /violates check constraint "checked_id_check"/)
  assert.match(failure.because ?? '', /COPY checked, line 5/)
  const { objects, counts } = failure.details as unknown as FailedObjects
  const states = new Map(objects.map(({ kind, name, state }) => [`${kind} ${name}`, state]))
  assert.equal(states.get('TABLE before'), 'restored')
  assert.equal(states.get('TABLE DATA before'), 'restored')
  assert.equal(states.get('TABLE DATA checked'), 'failed')
  assert.equal(states.get('TABLE DATA later'), 'not reached')
  assert.equal(states.get('CONSTRAINT later later_pkey'), 'not reached')
  assert.ok(failure.fix.includes(`${counts['restored']} objects stay in fails_one`), failure.fix)
  assert.deepEqual(await listTables('fails_one'), ['before', 'checked', 'later'])
})

test('with --single-transaction nothing stays', async () => {
  for (const format of ['custom', 'plain', 'directory'] as const) {
    const database = `fails_${format}`
    await fixture.target.sql(`CREATE DATABASE ${database}`)
    const words = [idOf(format), ...into(database), '--single-transaction']
    const failure = failureOf(await fixture.load(words))
    assert.equal(failure.code, 'TM2034')
    assert.match(failure.because ?? '', /checked_id_check/)
    assert.match(failure.fix, /nothing of it stays/)
    assert.deepEqual(await listTables(database), [])
  }
})

test('a plain dump stops at the first error too, and has the line', async () => {
  await fixture.target.sql('CREATE DATABASE fails_plain_1')
  const failure = failureOf(await fixture.load([idOf('plain'), ...into('fails_plain_1')]))
  assert.equal(failure.code, 'TM2034')
  assert.match(failure.message, /line \d+/)
  assert.deepEqual(await listTables('fails_plain_1'), ['before', 'checked', 'later'])
  const [row] = await fixture.target.sql(
    "SELECT count(*)::int AS keys FROM pg_constraint WHERE contype = 'p' AND oid >= 16384",
    [],
    'fails_plain_1',
  )
  assert.equal(row?.['keys'], 0)
})

test('--continue-on-error goes on, tells what failed, and ends with status 3', async () => {
  await fixture.target.sql('CREATE DATABASE fails_on')
  const words = [idOf('custom'), ...into('fails_on'), '--continue-on-error']
  const result = await fixture.load(words)
  assert.equal(result.status, 3, result.stderr)
  const report = result.json<FailedObjects & { errors: { object: string }[] }>()
  assert.deepEqual(
    report.errors.map(({ object }) => object),
    ['TABLE DATA public.checked'],
  )
  assert.equal(report.counts['failed'], 1)
  assert.equal(report.counts['not reached'], 0)
  const sums = await readChecksums(fixture.target, 'fails_on')
  const expected = await readChecksums(fixture.source, 'fickle')
  assert.deepEqual(sums, { ...expected, checked: '0 0' })
})

test('a damaged chunk in the middle kills the tool; of a transaction nothing stays', async () => {
  const { source, target, storage } = fixture
  await source.sql('CREATE DATABASE wide')
  await source.sql(
    `CREATE TABLE first (id int); INSERT INTO first VALUES (1);
     CREATE TABLE wide AS SELECT g AS id, (SELECT string_agg(md5(g::text || i), '')
       FROM generate_series(1, 30) i) AS v FROM generate_series(1, 8000) g`,
    [],
    'wide',
  )
  for (const format of ['custom', 'plain', 'directory'] as const) {
    // Another length of a row, so that no chunk is shared with the dump before.
    await source.sql("UPDATE wide SET v = md5(v) || v || 'x'", [], 'wide')
    const { record } = await takeRealDump(source, storage, { databases: ['wide'], format })
    damageMiddle(record)
    for (const isOne of [true, false]) {
      const database = `wide_${format}_${isOne}`
      await target.sql(`CREATE DATABASE ${database}`)
      const words = isOne ? ['--single-transaction'] : []
      const failure = failureOf(await fixture.load([record.id, ...into(database), ...words]))
      assert.equal(failure.code, 'TM2035', JSON.stringify(failure))
      assert.match(failure.because ?? '', new RegExp(record.id))
      // Of a directory every file is proved before the tool begins.
      const stays = format === 'directory' || isOne ? [] : ['first', 'wide']
      assert.deepEqual(await listTables(database), stays)
      assert.match(failure.fix, isOne ? /nothing of it stays/ : /stays?/)
      if (stays.length === 0) continue
      const [row] = await target.sql('SELECT count(*)::int AS n FROM wide', [], database)
      assert.equal(row?.['n'], 0)
    }
    const out = failureOf(await fixture.load([record.id, '--output', join(fixture.base, format)]))
    assert.match(out.code, /^TM160/)
  }
  assert.deepEqual(
    readdirSync(fixture.base).filter((name) => /load-|-part|^(custom|plain|directory)$/.test(name)),
    [],
  )
})

/** In the frames of the dump's own chunks: its lists lie at the end of its packs. */
function damageMiddle(record: DumpRecord): void {
  const largest = [...record.packs].sort((a, b) => b.bytes - a.bytes)[0]
  const root = fileURLToPath(fixture.storage.url)
  const path = join(root, dumpPackKey('main', largest?.id ?? ''))
  const bytes = readFileSync(path)
  const middle = Math.floor(bytes.length / 2)
  bytes[middle] = (bytes[middle] ?? 0) ^ 0xff
  writeFileSync(path, bytes)
}

test('a server that is killed during the load, and a load that is killed', async () => {
  const { target } = fixture
  for (const format of ['custom', 'plain'] as const) {
    const database = `slow_${format}`
    await target.sql(`CREATE DATABASE ${database}`)
    const loading = fixture.start([idOf(format), ...into(database), '--single-transaction'])
    await waitForSleep(database)
    await target.kill()
    const result = await loading.done
    assert.equal(failureOf(result).code, 'TM2037', result.stdout)
    await target.start()
    assert.deepEqual(await listTables(database), [])
  }
  for (const format of ['custom', 'plain', 'directory'] as const) {
    const database = `slow_killed_${format}`
    await target.sql(`CREATE DATABASE ${database}`)
    const loading = fixture.start([idOf(format), ...into(database), '--single-transaction'])
    await waitForSleep(database)
    loading.kill('SIGKILL')
    await loading.done
    await target.sql('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [
      database,
    ])
    await waitForNobody(database)
    assert.deepEqual(await listTables(database), [], format)
  }
  const interrupted = fixture.start([idOf('custom'), ...into('slow_custom')])
  await waitForSleep('slow_custom')
  interrupted.kill('SIGINT')
  assert.equal((await interrupted.done).status, 130)
  await waitForNobody('slow_custom')
  // What the killed one has left of the directory goes with the next load that needs one.
  await target.sql('CREATE DATABASE fine')
  assert.equal(leftovers().length, 1)
  const next = await fixture.load([idOf('directory'), ...into('fine')])
  assert.equal(next.status, 0, next.stderr)
  assert.deepEqual(leftovers(), [])
})

function leftovers(): string[] {
  return readdirSync(fixture.base).filter((name) => name.startsWith('tidemark-load-'))
}

async function waitForSleep(database: string): Promise<void> {
  await waitUntil(database, "wait_event = 'PgSleep'", 1)
}

async function waitForNobody(database: string): Promise<void> {
  await waitUntil(database, "application_name <> 'nobody'", 0)
}

async function waitUntil(database: string, condition: string, wanted: number): Promise<void> {
  for (let round = 0; round < 300; round++) {
    const [row] = await fixture.target.sql(
      `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = $1 AND ${condition}`,
      [database],
    )
    if (row?.['n'] === wanted) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`${database}: ${condition} was not seen ${wanted} times`)
}

const tools17 = findTool('pg_restore', 17)

test('tools of 17 load into a server of 15, which lacks a setting that they use', {
  skip: tools17 === undefined && 'no client tools of 17 here',
}, async () => {
  const { source, target, storage } = fixture
  for (const format of ['custom', 'plain'] as const) {
    const database = `from_17_${format}`
    const options = { databases: ['fickle'], format, toolMajor: 17 }
    const { record } = await takeRealDump(source, storage, options)
    await target.sql(`CREATE DATABASE ${database}`)
    const words = ['--tools', dirname(tools17 as string), '--single-transaction']
    const result = await fixture.load([record.id, ...into(database), ...words])
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
    const expected = await readChecksums(source, 'fickle')
    assert.deepEqual(await readChecksums(target, database), expected)
    const failed = `fails_17_${format}`
    await target.sql(`CREATE DATABASE ${failed}`)
    const failure = failureOf(await fixture.load([record.id, ...into(failed), ...words]))
    assert.equal(failure.code, 'TM2034')
    assert.match(failure.because ?? '', /checked_id_check/)
    assert.deepEqual(await listTables(failed), [])
  }
  const older = failureOf(
    await fixture.load([
      (await takeRealDump(source, storage, { databases: ['fickle'], toolMajor: 17 })).record.id,
      ...into('from_17_custom'),
      ...['--tools', '/usr/lib/postgresql/15/bin'],
    ]),
  )
  assert.equal(older.code, 'TM2001')
})
