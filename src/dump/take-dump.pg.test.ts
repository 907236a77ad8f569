import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import {
  dumpOptions,
  maskBegun,
  toolDirectory,
  withoutKeys,
  wrapPgDump,
} from '../../test/harness/dumping.ts'
import { openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { readWholeFile } from '../../test/harness/dumped-files.ts'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { runChecked } from '../../test/harness/run-program.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { newRepository } from '../../test/scenarios/backup-fixture.ts'
import { isFailure } from '../base/failure.ts'
import { type Progress, SILENT } from '../base/progress.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import { listDumpPacks, listDumps } from '../repository/read-dumps.ts'
import type { Storage } from '../storage/storage.ts'
import type { DumpResult, TakeDumpOptions } from './dump-context.ts'
import { proveDump, readDumpFile, readDumpObjects } from './read-dump.ts'
import { WHOLE_DATABASE } from './selection.ts'
import { takeDump } from './take-dump.ts'

const SCHEMA = `
  CREATE ROLE "Ann O'Nym" PASSWORD 'sehr-geheim';
  CREATE SCHEMA "Mixed Case";
  CREATE TABLE "Mixed Case"."Ta""ble" (id bigserial PRIMARY KEY, t text);
  ALTER TABLE "Mixed Case"."Ta""ble" OWNER TO "Ann O'Nym";
  INSERT INTO "Mixed Case"."Ta""ble" (t)
    SELECT repeat(md5(g::text), 10) FROM generate_series(1, 9000) g;
  CREATE TABLE p (id int, t text) PARTITION BY RANGE (id);
  CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
  CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
  INSERT INTO p SELECT g, E'\\t\\n\\\\' || repeat('x', g) FROM generate_series(0, 199) g;
  CREATE TABLE "größe 表" ("naïve" text);
  SELECT lo_from_bytea(70001, decode(repeat('00ff', 50000), 'hex'));`

let server: PostgresServer
let storage: Storage

before(async () => {
  server = await startPostgres()
  storage = await newRepository()
  await server.sql('CREATE DATABASE shop')
  await server.sql(SCHEMA, [], 'shop')
  await server.sql(
    `CREATE DATABASE "Latin ""one""" ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'`,
  )
  await server.sql('CREATE TABLE "größe" AS SELECT 1 AS "é", $$äöü$$ AS t', [], 'Latin "one"')
  await server.sql(`CREATE DATABASE "a=b 'c'"`)
  await server.sql('CREATE DATABASE closed ALLOW_CONNECTIONS false')
})

after(async () => {
  await server.dispose()
})

const SHOP = { databases: ['shop'] } as const

async function dump(
  extra: Partial<TakeDumpOptions>,
  progress: Progress = SILENT,
): Promise<DumpResult> {
  const options = dumpOptions(server, storage, extra)
  const result = await takeDump(options, progress, new AbortController().signal)
  assert.deepEqual(readdirSync(options.temporaryDirectory), [])
  return result
}

/** What the tool writes by itself, to its standard output. */
async function plainTool(args: readonly string[]): Promise<Buffer> {
  const env = { ...process.env, ...toolEnv() }
  const path = join(toolDirectory(server.major), 'pg_dump')
  return execFileSync(path, args, { env, maxBuffer: 1 << 28 })
}

function toolEnv(): Record<string, string> {
  const { socketDirectory, port, user } = server
  return { PGHOST: socketDirectory, PGPORT: String(port), PGUSER: user, LC_ALL: 'C' }
}

async function assertProved(record: DumpRecord): Promise<void> {
  assert.deepEqual(await proveDump(storage, record), [])
}

async function assertNothingLeft(before: Leftovers): Promise<void> {
  assert.deepEqual(await leftovers(), before)
}

type Leftovers = Awaited<ReturnType<typeof leftovers>>

async function leftovers() {
  const holds: string[] = []
  for await (const { key } of storage.list('clusters/main/holds/')) holds.push(key)
  const { dumps, unreadable } = await listDumps(storage, 'main')
  const packs = [...(await listDumpPacks(storage, 'main')).keys()].sort()
  return { dumps: dumps.map(({ id }) => id), unreadable, packs, holds }
}

test('plain: what the tool writes, to the byte', async () => {
  const { record, notes } = await dump({ ...SHOP, format: 'plain' })
  await assertProved(record)
  assert.deepEqual(
    record.files.map(({ name }) => name),
    ['1.sql'],
  )
  const stored = withoutKeys((await readWholeFile(storage, record, 0)).toString('utf8'))
  assert.equal(stored, withoutKeys((await plainTool(['shop'])).toString('utf8')))
  assert.equal(record.databases[0]?.objects, 0)
  assert.ok(notes.some((note) => note.includes('--create')))
  const created = await dump({
    ...SHOP,
    format: 'plain',
    selection: { ...WHOLE_DATABASE, create: true },
  })
  assert.match((await readWholeFile(storage, created.record, 0)).toString(), /CREATE DATABASE shop/)
})

test('custom: what the tool writes, to the byte, with its objects and its moment', async () => {
  const { record } = await dump({ ...SHOP, labels: { why: 'test' } })
  await assertProved(record)
  const stored = await readWholeFile(storage, record, 0)
  const alone = await plainTool(['-Fc', '-Z0', 'shop'])
  assert.ok(maskBegun(stored).equals(maskBegun(alone)))
  const [database] = record.databases
  assert.deepEqual([record.labels, database?.encoding], [{ why: 'test' }, 'UTF8'])
  const [{ oid, lsn, id } = {}] = await server.sql(
    `SELECT oid::int, pg_current_wal_insert_lsn()::text AS lsn,
            (SELECT system_identifier::text FROM pg_control_system()) AS id
       FROM pg_database WHERE datname = 'shop'`,
  )
  assert.deepEqual([database?.oid, record.server.systemIdentifier], [oid, id])
  assert.match(database?.lsn ?? '', /^[0-9A-F]+\/[0-9A-F]+$/)
  assert.ok(String(lsn).split('/')[0] === database?.lsn.split('/')[0])
  const objects = await Array.fromAsync(readDumpObjects(storage, record, 0))
  assert.equal(objects.length, database?.objects)
  const tables = objects.filter(({ kind }) => kind === 'TABLE').map(({ name }) => name)
  assert.deepEqual(tables.sort(), ['Ta"ble', 'größe 表', 'p', 'p1', 'p2'].sort())
  assert.ok(objects.some(({ name, owner }) => name === 'Ta"ble' && owner === "Ann O'Nym"))
})

test('the same rows again are not stored again', async () => {
  const { record } = await dump(SHOP)
  assert.ok(record.sizes.reusedBytes > 0.8 * record.sizes.rawBytes, JSON.stringify(record.sizes))
  await assertProved(record)
})

test('directory with jobs and tar: pg_restore makes the same SQL of both', async () => {
  const wanted = await restoreToSql(await writeFiles(await plainTool(['-Fc', 'shop']), 'custom'))
  const { record } = await dump({ ...SHOP, format: 'directory', jobs: 3 })
  await assertProved(record)
  const directory = join(temporaryDirectory(), 'dump')
  mkdirSync(directory)
  for (const [number, { name }] of record.files.entries()) {
    assert.match(name, /^1\/[a-z0-9_.]+$/)
    writeFileSync(join(directory, name.slice(2)), await readWholeFile(storage, record, number))
  }
  assert.equal(record.files[0]?.name, '1/toc.dat')
  assert.equal(await restoreToSql(directory), wanted)
  const tar = await dump({ ...SHOP, format: 'tar' })
  await assertProved(tar.record)
  const stored = await writeFiles(await readWholeFile(storage, tar.record, 0), 'tar')
  assert.equal(await restoreToSql(stored), wanted)
  assert.equal(tar.record.databases[0]?.objects, record.databases[0]?.objects)
})

async function writeFiles(bytes: Buffer, name: string): Promise<string> {
  const path = join(temporaryDirectory(), name)
  writeFileSync(path, bytes)
  return path
}

async function restoreToSql(path: string): Promise<string> {
  const program = join(toolDirectory(server.major), 'pg_restore')
  const { stdout } = await runChecked(program, ['--file=-', path])
  return withoutKeys(stdout.replaceAll(/^-- (Dumped|Started|Completed).*$/gm, ''))
}

test('all databases with globals; names and encodings of every kind', async () => {
  const { record, notes } = await dump({ databases: 'all', globals: true })
  await assertProved(record)
  const names = record.databases.map(({ name }) => name)
  assert.deepEqual(names, ['Latin "one"', "a=b 'c'", 'postgres', 'shop', 'template1'])
  assert.equal(record.databases[0]?.encoding, 'LATIN1')
  const objects = await Array.fromAsync(readDumpObjects(storage, record, 0))
  assert.ok(objects.some(({ kind, name }) => kind === 'TABLE' && name === 'größe'))
  assert.equal(record.files[record.globals ?? -1]?.name, 'globals.sql')
  assert.ok(notes.includes('database closed is not in it: it allows no connections'))
  const globals = (await readWholeFile(storage, record, record.globals ?? -1)).toString('utf8')
  assert.match(globals, /CREATE ROLE "Ann O'Nym"/)
  assert.doesNotMatch(globals, /SCRAM-SHA-256/)
  assert.ok(record.selection.includes('--no-role-passwords'))
  assert.ok(notes.some((note) => note.includes('--role-passwords')))
  const connection = server.url(encodeURIComponent("a=b 'c'"))
  const whole = await dump({ globals: true, rolePasswords: true, connection })
  assert.deepEqual(
    whole.record.databases.map(({ name }) => name),
    ["a=b 'c'"],
  )
  const file = whole.record.globals ?? -1
  assert.match((await readWholeFile(storage, whole.record, file)).toString(), /SCRAM-SHA-256/)
})

test('a selection is handed through, and kept', async () => {
  const selection = {
    ...WHOLE_DATABASE,
    tables: ['public.p*'],
    excludedTableData: ['p2'],
    noOwner: true,
  }
  const { record } = await dump({ ...SHOP, selection })
  assert.deepEqual(record.selection, ['--table=public.p*', '--exclude-table-data=p2', '--no-owner'])
  const objects = await Array.fromAsync(readDumpObjects(storage, record, 0))
  const rows = objects.filter(({ kind }) => kind === 'TABLE DATA').map(({ name }) => name)
  assert.deepEqual(rows, ['p1'])
})

test('the owner of a database can dump it; rows that he may not see fail the dump', async () => {
  await server.sql('CREATE ROLE bob LOGIN')
  await server.sql('CREATE DATABASE own OWNER bob')
  await server.sql('CREATE TABLE seen AS SELECT 1 AS id; ALTER TABLE seen OWNER TO bob', [], 'own')
  const connection = server.url('own').replace('user=postgres', 'user=bob')
  const { record } = await dump({ connection, globals: true })
  assert.equal(record.databases[0]?.name, 'own')
  await assertProved(record)
  const before = await leftovers()
  await assert.rejects(dump({ connection, globals: true, rolePasswords: true }), (error) => {
    return isFailure(error, 'TM2002') && /pg_authid/.test(error.because ?? '')
  })
  await server.sql(
    `CREATE TABLE hidden AS SELECT 1 AS id; GRANT SELECT ON hidden TO bob;
     ALTER TABLE hidden ENABLE ROW LEVEL SECURITY`,
    [],
    'own',
  )
  await assert.rejects(dump({ connection }), (error) => {
    return isFailure(error, 'TM2002') && /row-level security/.test(error.because ?? '')
  })
  await assertNothingLeft(before)
})

test('what is refused before anything is written', async () => {
  const before = await leftovers()
  const old = wrapPgDump(server.major, '')
  writeFileSync(join(old, 'pg_dump'), '#!/bin/sh\necho "pg_dump (PostgreSQL) 12.9"\n')
  const none = temporaryDirectory()
  const cases: [Partial<TakeDumpOptions>, 'TM2001' | 'TM2006' | 'TM2007', RegExp][] = [
    [{ toolDirectory: old }, 'TM2001', new RegExp(`postgresql-client-${server.major}`)],
    [{ toolDirectory: none }, 'TM2001', /--tools/],
    [{ databases: ['Shop'] }, 'TM2007', /pg_database/],
    [{ databases: ['closed'] }, 'TM2007', /pg_database/],
    [{ jobs: 2 }, 'TM2006', /--format directory/],
    [{ selection: { ...WHOLE_DATABASE, create: true } }, 'TM2006', /leave it out/],
  ]
  if (server.major < 17) {
    cases.push([{ selection: { ...WHOLE_DATABASE, filters: ['/f'] } }, 'TM2006', /pg_dump 17/])
  }
  for (const [extra, code, fix] of cases) {
    await assert.rejects(dump({ ...SHOP, ...extra }), (error) => {
      return isFailure(error, code) && fix.test(error.fix)
    })
  }
  await assertNothingLeft(before)
})

test('a newer tool dumps an older server', {
  skip: findTool('pg_dump', 17) === undefined ? 'no pg_dump 17 here' : false,
}, async () => {
  const rules = join(temporaryDirectory(), 'rules')
  writeFileSync(rules, 'include table public.p1\n')
  const selection = { ...WHOLE_DATABASE, filters: [rules] }
  const { record } = await dump({ ...SHOP, toolDirectory: toolDirectory(17), selection })
  assert.match(record.toolVersion, /^1[78]\./)
  const objects = await Array.fromAsync(readDumpObjects(storage, record, 0))
  const kinds = objects.map(({ kind }) => kind).filter((kind) => kind !== 'DATABASE')
  assert.deepEqual(kinds, ['TABLE', 'TABLE ATTACH', 'TABLE DATA'])
})

test('a password is in the environment of the tool alone', async () => {
  const seen = join(temporaryDirectory(), 'seen')
  const toolDirectory = wrapPgDump(
    server.major,
    `echo "$PGPASSWORD" > ${seen}; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >> ${seen}.all`,
  )
  const connection = `${server.url()}&password=hunter-22-hunter`
  const { record, notes } = await dump({ ...SHOP, toolDirectory, connection, format: 'plain' })
  assert.equal(readFileSync(seen, 'utf8'), 'hunter-22-hunter\n')
  const commands = readFileSync(`${seen}.all`, 'utf8')
  assert.match(commands, /--snapshot=/)
  assert.doesNotMatch(commands, /hunter-22/)
  assert.doesNotMatch(JSON.stringify([record, notes]), /hunter-22/)
  for await (const bytes of readDumpFile(storage, record, 0)) {
    assert.ok(!Buffer.from(bytes).includes('hunter-22'))
  }
  assert.doesNotMatch(await server.log(), /hunter-22/)
})

test('a tool that fails: its own message, and nothing is left', async () => {
  const before = await leftovers()
  const psql = join(toolDirectory(server.major), 'psql')
  await server.sql('CREATE TABLE doomed (id int)', [], 'shop')
  // Between our snapshot and pg_dump's locks.
  const dropping = wrapPgDump(server.major, `${psql} -qc 'DROP TABLE doomed' >&2 || exit 9`)
  await assert.rejects(dump({ ...SHOP, toolDirectory: dropping }), (error) => {
    return isFailure(error, 'TM2002') && /doomed/.test(error.because ?? '')
  })
  const selection = { ...WHOLE_DATABASE, tables: ['no_such_table'] }
  for (const format of ['plain', 'directory'] as const) {
    await assert.rejects(dump({ ...SHOP, selection, format }), (error) => {
      return (
        isFailure(error, 'TM2002') && /no matching tables.*no_such_table/.test(error.because ?? '')
      )
    })
  }
  await assertNothingLeft(before)
})

test('a tool that ends well too early is not believed', async () => {
  const before = await leftovers()
  for (const format of ['plain', 'custom', 'tar'] as const) {
    for (const bytes of [0, 300, 200_000]) {
      const real = join(toolDirectory(server.major), 'pg_dump')
      const body = `${real} "$@" | head -c ${bytes}; exit 0`
      const early = wrapPgDump(server.major, body)
      await assert.rejects(dump({ ...SHOP, toolDirectory: early, format }), (error) => {
        return isFailure(error, 'TM2005')
      })
    }
  }
  await assertNothingLeft(before)
})

test('globals that end well too early are not believed', async () => {
  const before = await leftovers()
  const real = join(toolDirectory(server.major), 'pg_dumpall')
  for (const kept of ['-c 0', '-c 300', '-n -5']) {
    const early = wrapPgDump(server.major, `${real} "$@" | head ${kept}; exit 0`, 'pg_dumpall')
    await assert.rejects(dump({ ...SHOP, globals: true, toolDirectory: early }), (error) => {
      return isFailure(error, 'TM2005') && error.message.includes('pg_dumpall')
    })
  }
  await assertNothingLeft(before)
})

test('a directory of which a file has gone is refused', async () => {
  const before = await leftovers()
  const real = join(toolDirectory(server.major), 'pg_dump')
  for (const gone of ['toc.dat', 'blob_70001.dat', '[0-9]*.dat', '*']) {
    const body = `for word in "$@"; do case "$word" in --file=*) d="\${word#--file=}";; esac; done
      ${real} "$@" && rm "$d"/${gone}; exit 0`
    const losing = wrapPgDump(server.major, body)
    const lost = dump({ ...SHOP, toolDirectory: losing, format: 'directory' })
    await assert.rejects(lost, (error) => isFailure(error, 'TM2008'), gone)
  }
  await assertNothingLeft(before)
})

/** Does something, synchronously, when so many bytes have come. */
function atBytes(bytes: number, act: () => void): Progress {
  let done = 0
  return {
    ...SILENT,
    advance(units) {
      const was = done
      done += units
      if (was < bytes && done >= bytes) act()
    },
  }
}

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, 'utf8'))?.[1]) === pid
      } catch {
        return false
      }
    })
    .map(Number)
}

function isPgDump(pid: number): boolean {
  return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'pg_dump'
}

test('a tool that is killed, a session that is ended: nothing is left', async () => {
  const before = await leftovers()
  const kill = (): void => {
    const tools = childrenOf(process.pid).filter(isPgDump)
    assert.equal(tools.length, 1)
    for (const pid of tools) process.kill(pid, 'SIGKILL')
  }
  for (const format of ['plain', 'custom'] as const) {
    await assert.rejects(dump({ ...SHOP, format }, atBytes(100_000, kill)), (error) => {
      return isFailure(error, 'TM2003') && /SIGKILL/.test(error.message)
    })
  }
  await assert.rejects(dump(SHOP, atBytes(100_000, terminateSessions)), (error) => {
    return isFailure(error, 'TM2004')
  })
  await assertNothingLeft(before)
})

test('a session that is lost when the tool has ended already fails the dump too', async () => {
  const before = await leftovers()
  let phases = 0
  const phase = (name: string): void => {
    if (!name.startsWith('storing')) return
    phases++
    terminateSessions()
  }
  await assert.rejects(dump({ ...SHOP, format: 'directory' }, { ...SILENT, phase }), (error) => {
    return isFailure(error, 'TM2004')
  })
  assert.equal(phases, 1)
  await assertNothingLeft(before)
})

function terminateSessions(): void {
  const psql = join(toolDirectory(server.major), 'psql')
  const sql = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE application_name = 'tidemark dump'`
  execFileSync(psql, ['-qAt', '-c', sql, 'postgres'], { env: { ...process.env, ...toolEnv() } })
}

test('a repository that is full, or refuses: the tool ends, nothing is left', async () => {
  const before = await leftovers()
  const counted = openFaultyStorage(storage)
  await takeDump(dumpOptions(server, counted, { ...SHOP, rewrite: true }), SILENT, NEVER)
  const writes = counted.trace.filter(({ operation }) => {
    return ['openWriter', 'append', 'commit', 'write'].includes(operation)
  })
  assert.ok(writes.length >= 4, JSON.stringify(counted.trace))
  const { dumps } = await listDumps(storage, 'main')
  const made = dumps.find(({ id }) => !before.dumps.includes(id))
  assert.ok(made)
  const all = await leftovers()
  const some = writes.filter((_, index) => index % Math.ceil(writes.length / 8) === 0)
  for (const [index, { number, operation }] of some.entries()) {
    const kind = index % 2 === 0 ? 'full' : 'refused'
    const faulty = openFaultyStorage(storage, [{ at: number, kind }])
    const options = dumpOptions(server, faulty, { ...SHOP, rewrite: true })
    await assert.rejects(takeDump(options, SILENT, NEVER), (error) => isFailure(error), operation)
    assert.deepEqual(childrenOf(process.pid).filter(isPgDump), [])
    await assertNothingLeft(all)
  }
})

const NEVER = new AbortController().signal

test('giving up ends the tool and removes what was written', async () => {
  const before = await leftovers()
  for (const format of ['custom', 'directory'] as const) {
    const abort = new AbortController()
    const options = dumpOptions(server, storage, { ...SHOP, format })
    const progress = atBytes(100_000, () => abort.abort())
    await assert.rejects(takeDump(options, progress, abort.signal), { name: 'AbortError' })
    assert.deepEqual(readdirSync(options.temporaryDirectory), [])
  }
  assert.deepEqual(childrenOf(process.pid).filter(isPgDump), [])
  await assertNothingLeft(before)
})

test('a server that is killed in the middle: nothing is left', async () => {
  const before = await leftovers()
  const lines = readFileSync(join(server.dataDirectory, 'postmaster.pid'), 'utf8').split('\n')
  const pid = Number(lines[0])
  const kill = (): void => {
    for (const one of [pid, ...childrenOf(pid)]) process.kill(one, 'SIGKILL')
  }
  await assert.rejects(dump(SHOP, atBytes(100_000, kill)), (error) => {
    return isFailure(error, 'TM2002') || isFailure(error, 'TM2004')
  })
  await assertNothingLeft(before)
})
