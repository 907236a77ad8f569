/** Dumps are loaded back: every format, compared with what was dumped. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import type { DumpFormat } from '../../src/repository/dump-record.ts'
import { findTool } from '../harness/postgres-binaries.ts'
import { startPostgres } from '../harness/postgres-server.ts'
import { describeDatabase, type RealDump, takeRealDump } from '../harness/real-dump.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { failureOf, tidemarkOk } from '../harness/tidemark.ts'
import { EVERYTHING, LoadFixture, readChecksums, ROLES } from './load-fixture.ts'

interface LoadJson {
  readonly counts: Readonly<Record<string, number>> | null
  readonly objects: readonly { kind: string; schema: string; name: string; state: string }[] | null
  readonly createdRoles: readonly string[]
  readonly analyzed: boolean
  readonly notes: readonly string[]
  readonly errors: readonly { object?: string; message: string }[]
  readonly globals: { roles: { created: string[]; kept: string[] } } | null
}

let fixture: LoadFixture
const dumps = new Map<DumpFormat, RealDump>()

before(async () => {
  fixture = await LoadFixture.start({ source: 15, target: 15 })
  const { source, target, storage } = fixture
  for (const server of [source, target]) {
    const place = temporaryDirectory(server.runAs, 'tidemark-space-')
    await server.sql(`CREATE TABLESPACE "Space One" LOCATION '${place}'`)
  }
  await source.sql(ROLES)
  await target.sql(ROLES)
  await source.sql('CREATE DATABASE shop')
  await source.sql(EVERYTHING, [], 'shop')
  await source.sql(
    `CREATE TABLE public.spaced (id int) TABLESPACE "Space One";
     INSERT INTO public.spaced SELECT generate_series(1, 100);
     GRANT SELECT ON public.spaced TO keeper;
     ALTER DATABASE shop SET work_mem TO '7MB';
     COMMENT ON DATABASE shop IS 'a shop'; GRANT CONNECT ON DATABASE shop TO owner_one`,
    [],
    'shop',
  )
  for (const format of ['custom', 'tar', 'directory', 'plain'] as const) {
    dumps.set(format, await takeRealDump(source, storage, { databases: ['shop'], format }))
  }
})

after(async () => await fixture.dispose())

const idOf = (format: DumpFormat): string => dumps.get(format)?.record.id ?? ''
const into = (database: string): string[] => [
  '--into',
  fixture.target.url(encodeURIComponent(database)),
]

async function assertSame(database: string): Promise<void> {
  const { source, target } = fixture
  assert.equal(await describeDatabase(target, database), await describeDatabase(source, 'shop'))
  const sums = await readChecksums(source, 'shop')
  assert.ok(Object.keys(sums).length > 8)
  assert.deepEqual(await readChecksums(target, database), sums)
}

const WAYS: readonly (readonly [string, DumpFormat, readonly string[]])[] = [
  ['custom', 'custom', ['--create']],
  ['custom in one transaction', 'custom', ['--create', '--single-transaction']],
  ['custom with two jobs', 'custom', ['--create', '--jobs', '2']],
  ['tar', 'tar', ['--create']],
  ['directory', 'directory', ['--create']],
  ['directory with two jobs', 'directory', ['--create', '--jobs', '2']],
  ['plain', 'plain', ['--create']],
]

for (const [name, format, words] of WAYS) {
  test(`round trip: ${name}`, async () => {
    // It must not be taken for a connection string.
    const database = `host=x "we'ird" \\ %41 ü ${name}`
    const result = await fixture.load([idOf(format), ...into(database), ...words])
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
    const report = result.json<LoadJson>()
    assert.ok(report.analyzed)
    if (format === 'plain') assert.equal(report.counts, null)
    else {
      const { restored = 0, skipped } = report.counts ?? {}
      assert.ok(restored > 70, String(restored))
      // Settings, comment and privileges of the database itself name it.
      assert.equal(skipped, 3)
      assert.equal(report.objects?.length, restored + 3)
    }
    await assertSame(database)
    assert.deepEqual(leftovers(), [])
    await fixture.target.sql(`DROP DATABASE "${database.replaceAll('"', '""')}"`)
  })
}

function leftovers(): string[] {
  return readdirSync(fixture.base).filter((name) => name.startsWith('tidemark-load-'))
}

test('under its own name the database gets its settings, comment and privileges', async () => {
  const result = await fixture.load([idOf('custom'), ...into('shop'), '--create'])
  assert.equal(result.status, 0, result.stderr)
  assert.deepEqual(result.json<LoadJson>().notes, [])
  const [row] = await fixture.target.sql(
    `SELECT shobj_description(oid, 'pg_database') AS comment, datacl::text AS acl,
            (SELECT setconfig::text FROM pg_db_role_setting s WHERE setdatabase = d.oid)
              AS settings
       FROM pg_database d WHERE datname = 'shop'`,
  )
  assert.equal(row?.['comment'], 'a shop')
  assert.equal(row?.['settings'], '{work_mem=7MB}')
  assert.match(String(row?.['acl']), /owner_one=c/)
  const again = await fixture.load([idOf('custom'), ...into('shop'), '--create'])
  assert.equal(failureOf(again).code, 'TM2030')
  assert.match(failureOf(again).because ?? '', /there already/)
})

test('a database that is not empty is refused, and replaced with --clean --if-exists', async () => {
  const { target } = fixture
  const refused = await fixture.load([idOf('custom'), ...into('shop')])
  assert.equal(failureOf(refused).code, 'TM2030')
  assert.match(failureOf(refused).because ?? '', /shop is not empty: it holds .*tables/)
  await target.sql('DELETE FROM public.child; DROP TABLE public.types', [], 'shop')
  const words = ['--clean', '--if-exists', '--single-transaction']
  const result = await fixture.load([idOf('custom'), ...into('shop'), ...words])
  assert.equal(result.status, 0, result.stderr)
  await assertSame('shop')
})

test('the database that was dumped is refused', async () => {
  for (const words of [
    ['--into', 'shop', '--clean'],
    ['--into', fixture.source.url('shop')],
  ]) {
    const failure = failureOf(await fixture.load([idOf('custom'), ...words]))
    assert.equal(failure.code, 'TM2030')
    assert.match(failure.because ?? '', /shop is the very database that was dumped/)
  }
})

test('only a table, a schema, a section or a list; names that are not there are told', async () => {
  const { target } = fixture
  const id = idOf('custom')
  await target.sql('CREATE DATABASE some_of_it')
  const one = await fixture.load([id, ...into('some_of_it'), '--table', 'part_1', '--no-owner'])
  assert.equal(one.status, 0, one.stderr)
  const restored = one.json<LoadJson>().objects?.filter(({ state }) => state === 'restored')
  assert.deepEqual(restored?.map(({ kind, name }) => `${kind} ${name}`).sort(), [
    'TABLE DATA part_1',
    'TABLE part_1',
  ])
  const sums = await readChecksums(target, 'some_of_it')
  const { part_1: expected } = await readChecksums(fixture.source, 'shop')
  assert.equal(sums['part_1'], expected)
  const wrong = failureOf(
    await fixture.load([id, ...into('some_of_it'), '--force', '--table', 'part_11']),
  )
  assert.equal(wrong.code, 'TM2032')
  assert.match(wrong.message, /did you mean 'part_1'/)
  const qualified = ['--table', 'Mixed Case.Ta"ble; x']
  const dotted = failureOf(await fixture.load([id, ...into('some_of_it'), '--force', ...qualified]))
  assert.match(dotted.message, /say --schema Mixed Case --table Ta"ble; x/)
  const none = ['--schema', 'Mixed Case', '--table', 'part_1']
  assert.equal(
    failureOf(await fixture.load([id, ...into('some_of_it'), '--force', ...none])).code,
    'TM2032',
  )
  const data = await fixture.load([
    id,
    ...into('some_of_it'),
    '--section',
    'data',
    '--table',
    'part_1',
  ])
  assert.equal(data.status, 0, data.stderr)
  const [count] = await target.sql('SELECT count(*)::int AS n FROM part_1', [], 'some_of_it')
  assert.equal(count?.['n'], 1000)
  const objects = one.json<{ objects: { dumpId: number; kind: string; name: string }[] }>().objects
  const pick = (kind: string, name: string) =>
    objects.find((object) => object.kind === kind && object.name === name)?.dumpId
  const list = join(fixture.base, 'list')
  writeFileSync(list, `;comment\n${pick('SEQUENCE', 'seq')}; x\n${pick('FUNCTION', 'tr()')}; y\n`)
  const listed = await fixture.load([id, ...into('some_of_it'), '--force', '--list', list])
  assert.equal(listed.status, 0, listed.stderr)
  assert.equal(listed.json<LoadJson>().counts?.['restored'], 2)
  writeFileSync(list, '999999; x\n')
  const strange = failureOf(
    await fixture.load([id, ...into('some_of_it'), '--force', '--list', list]),
  )
  assert.equal(strange.code, 'TM2032')
  assert.deepEqual(leftovers(), [])
})

test('missing roles and tablespaces are told together before anything is written', async () => {
  const { source, target, storage } = fixture
  const place = temporaryDirectory(source.runAs, 'tidemark-space-')
  await source.sql(`CREATE ROLE gone_owner; CREATE ROLE "gone Grantee"; CREATE ROLE gone_policy`)
  await source.sql(`CREATE TABLESPACE gone_space LOCATION '${place}'`)
  await source.sql('CREATE DATABASE needy')
  await source.sql(
    `CREATE TABLE t (id int) TABLESPACE gone_space; ALTER TABLE t OWNER TO gone_owner;
     GRANT SELECT ON t TO "gone Grantee"; CREATE POLICY p ON t TO gone_policy USING (true);
     CREATE TABLE u (id int); INSERT INTO t VALUES (1)`,
    [],
    'needy',
  )
  const globals = true
  const { record } = await takeRealDump(source, storage, { databases: ['needy'], globals })
  await target.sql('CREATE DATABASE needy')
  const refused = failureOf(await fixture.load([record.id, ...into('needy')]))
  assert.equal(refused.code, 'TM2030')
  for (const word of [
    'gone_owner (owner)',
    'gone Grantee (privileges)',
    'gone_policy (policy)',
    'tablespace gone_space',
  ]) {
    assert.ok(refused.because?.includes(word), `${word}: ${refused.because}`)
  }
  assert.doesNotMatch(refused.because ?? '', /owner_one|nobody_at_all/)
  const [empty] = await target.sql("SELECT to_regclass('t') AS t", [], 'needy')
  assert.equal(empty?.['t'], null)
  const only = await fixture.load([record.id, ...into('needy'), '--table', 'u'])
  assert.equal(only.status, 0, only.stderr)
  await target.sql('DROP TABLE u', [], 'needy')
  const words = ['--create-missing-roles', '--no-tablespaces']
  const result = await fixture.load([record.id, ...into('needy'), ...words])
  assert.equal(result.status, 0, result.stderr)
  const made = ['gone Grantee', 'gone_owner', 'gone_policy']
  assert.deepEqual([...result.json<LoadJson>().createdRoles].sort(), made)
  await target.sql('DROP DATABASE needy')
  await target.sql('DROP ROLE gone_owner, "gone Grantee", gone_policy')
  await target.sql("ALTER ROLE keeper PASSWORD 'kept'")
  const before = await target.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'keeper'")
  // The directory of the tablespace belongs to the other server, which has its own part in it.
  const all = ['--create', '--globals', '--no-tablespaces']
  await target.sql(`CREATE TABLESPACE gone_space LOCATION '${temporaryDirectory(target.runAs)}'`)
  const both = await fixture.load([record.id, ...into('needy'), ...all])
  assert.equal(both.status, 0, both.stderr)
  assert.deepEqual(both.json<LoadJson>().globals?.roles.created.sort(), made)
  assert.ok(both.json<LoadJson>().globals?.roles.kept.includes('keeper'))
  const now = await target.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'keeper'")
  assert.deepEqual(now, before)
})

test('--output gives back the very bytes, and never overwrites', async () => {
  const out = join(fixture.base, 'out')
  for (const [format, { record, written }] of dumps) {
    const path = `${out}-${format}`
    const result = await fixture.load([record.id, '--output', path])
    assert.equal(result.status, 0, result.stderr)
    const { files } = result.json<{ files: { path: string; name: string }[] }>()
    assert.equal(files.length, written.size)
    for (const file of files) {
      assert.ok(readFileSync(file.path).equals(readFileSync(written.get(file.name) ?? '')))
    }
    const again = failureOf(await fixture.load([record.id, '--output', path]))
    assert.equal(again.code, 'TM2036')
  }
  assert.ok(readdirSync(`${out}-directory`).includes('toc.dat'))
})

test('a plain dump that creates its database goes nowhere else', async () => {
  const { source, target, storage } = fixture
  const dump = { databases: ['shop'], format: 'plain', args: ['--create'] } as const
  const { record } = await takeRealDump(source, storage, dump)
  await target.sql('DROP DATABASE shop')
  await target.sql('CREATE DATABASE other')
  const refused = failureOf(await fixture.load([record.id, ...into('other')]))
  assert.equal(refused.code, 'TM2030')
  assert.match(refused.because ?? '', /creates database shop itself/)
  const found = await target.sql("SELECT 1 FROM pg_database WHERE datname = 'shop'")
  assert.equal(found.length, 0)
  await target.sql('ALTER ROLE keeper RENAME TO away')
  const failed = failureOf(await fixture.load([record.id, ...into('shop'), '--create']))
  assert.equal(failed.code, 'TM2034')
  assert.match(failed.because ?? '', /role "keeper" does not exist/)
  await target.sql('ALTER ROLE away RENAME TO keeper')
  await target.sql('DROP DATABASE shop')
  const result = await fixture.load([record.id, ...into('shop'), '--create'])
  assert.equal(result.status, 0, result.stderr)
  await assertSame('shop')
})

test('what `tidemark dump` writes, streamed and by two jobs', async () => {
  for (const [format, words] of [
    ['custom', []],
    ['custom', ['--jobs', '2']],
    ['tar', ['--single-transaction']],
  ] as const) {
    const database = `dumped-${format}-${words.length}`
    const dump = ['dump', '--database', 'shop', '--format', format, '--globals']
    const taken = await tidemarkOk(['--config', fixture.config, '--json', ...dump])
    const { id } = taken.json<{ dump: { id: string } }>().dump
    const result = await fixture.load([id, ...into(database), '--create', ...words])
    assert.equal(result.status, 0, result.stderr)
    await assertSame(database)
    const { objects } = result.json<LoadJson>()
    assert.equal(objects?.filter(({ state }) => state === 'skipped').length, 3)
    await fixture.target.sql(`DROP DATABASE "${database}"`)
  }
})

const restore18 = findTool('pg_restore', 18)

test('into a server of another major version, by its own tools', {
  skip: restore18 === undefined && 'no client tools of 18 here',
}, async () => {
  await using newer = await startPostgres({ major: 18 })
  await newer.sql(ROLES)
  const url = newer.url('shop')
  const tools = ['--tools', dirname(restore18 as string), '--no-tablespaces']
  const old = await fixture.load([
    idOf('custom'),
    '--into',
    url,
    ...tools.slice(2),
    '--tools',
    dirname(findTool('pg_restore', 15) ?? ''),
  ])
  assert.equal(failureOf(old).code, 'TM2001')
  const words = [...tools, '--create', '--jobs', '2']
  const result = await fixture.load([idOf('custom'), '--into', url, ...words])
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
  assert.deepEqual(await readChecksums(newer, 'shop'), await readChecksums(fixture.source, 'shop'))
  const again = failureOf(await fixture.load([idOf('tar'), '--into', url, ...tools, '--force']))
  assert.equal(again.code, 'TM2034')
  assert.match(again.message, /SCHEMA Mixed Case/)
})

test('LATIN1: rows, names and messages', async () => {
  const { source, target, storage } = fixture
  await source.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
  await source.sql(
    `CREATE TABLE "größe" ("ß" text); INSERT INTO "größe" VALUES ('ÄÖÜ é ÿ');
     CREATE TABLE "zä" (id int CHECK (id > 0)); GRANT SELECT ON "zä" TO owner_one`,
    [],
    'latin',
  )
  const { record } = await takeRealDump(source, storage, { databases: ['latin'] })
  for (const [name, create] of [
    ['latin-1', true],
    ['latin-utf8', false],
  ] as const) {
    if (!create) await target.sql(`CREATE DATABASE "${name}"`)
    const words = create ? ['--create'] : []
    const result = await fixture.load([record.id, ...into(name), ...words])
    assert.equal(result.status, 0, result.stderr)
    const loaded = await describeDatabase(target, name)
    assert.equal(loaded, await describeDatabase(source, 'latin'))
    assert.match(loaded, /ÄÖÜ é ÿ/)
    const names = result.json<LoadJson>().objects?.map((object) => object.name)
    assert.ok(names?.includes('größe'))
  }
  const [row] = await target.sql(
    "SELECT pg_encoding_to_char(encoding) AS e FROM pg_database WHERE datname = 'latin-1'",
  )
  assert.equal(row?.['e'], 'LATIN1')
  const refused = failureOf(await fixture.load([record.id, ...into('latin-utf8'), '--force']))
  assert.equal(refused.code, 'TM2034')
  assert.match(refused.message, /TABLE public\.größe/)
})
