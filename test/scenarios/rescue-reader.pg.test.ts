/**
 * The promise that the format survives the program: tools/rescue-reader, which shares no
 * code with Tidemark, restores what Tidemark restores, and a server starts from it.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  lstatSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { defaultMajor } from '../harness/postgres-binaries.ts'
import { rescue, rescueOk, rescueReaderMissing } from '../harness/rescue-reader.ts'
import { MAJORS } from '../harness/postgres-server.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { checkInvariant, createBench, startLoad } from '../harness/workload.ts'
import {
  archiveNow,
  filesBelow,
  openRecovered,
  type ProtectedServer,
  protectServer,
} from './recovery-cluster.ts'

const skip = rescueReaderMissing()

let cluster: ProtectedServer
let full: string
let incremental: string
/** A pack and a segment that the full backup needs, by their keys. */
let pack: string
let segment: string

/** Two databases, one of them in a tablespace; a full and an incremental backup under load. */
before(async () => {
  if (skip !== false) return
  cluster = await protectServer({ major: defaultMajor() })
  const { server } = cluster
  await server.sql(`CREATE TABLESPACE far LOCATION '${temporaryDirectory(server.runAs)}'`)
  await server.sql('CREATE DATABASE second TABLESPACE far')
  await createBench(server, 10)
  full = await cluster.backup()
  pack = find(/\/packs\/.*\/00000000\.pack$/)
  const needed = (await rescueOk(cluster.repository, 'list')).trimEnd().split(' ').at(-1)
  segment = find(new RegExp(`/${needed}\\.wal$`))
  const load = await startLoad(server)
  const second = await startLoad(server, { database: await benchIn('second') })
  incremental = await cluster.backup()
  await load.stop()
  await second.stop()
  await cluster.archiveNow()
})

async function benchIn(database: string): Promise<string> {
  await createBench(cluster.server, 2, { database })
  return database
}

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

/** Restored, and given to whom the servers run as. */
async function restoreByReader(
  backup: string,
  name: string,
  more: readonly string[] = [],
  from: ProtectedServer = cluster,
): Promise<string> {
  const into = from.path(name)
  await rescueOk(from.repository, 'restore', backup, into, ...more)
  const { runAs } = from.server
  const made = [into, `${into}.tablespaces`].filter((path) => existsSync(path))
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, ...made])
  return into
}

test('its files are those that tidemark restore writes', { skip }, async () => {
  const into = cluster.path('by-tidemark')
  const far = join(temporaryDirectory(cluster.server.runAs), 'far')
  await cluster.ok(
    'restore',
    '--into',
    into,
    '--to',
    `backup:${incremental}`,
    '--tablespace',
    `far=${far}`,
  )
  const rescued = await restoreByReader(incremental, 'by-reader', ['--fingerprints'])
  const oid = filesBelow(`${rescued}.tablespaces`)[0] ?? ''
  assert.match(oid, /^\d+$/)
  const places: (readonly [string, string])[] = [
    ...['base', 'global', 'pg_xact', 'pg_multixact', 'pg_twophase', 'pg_logical'].map(
      (name) => [join(into, name), join(rescued, name)] as const,
    ),
    [far, join(`${rescued}.tablespaces`, oid)],
  ]
  let compared = 0
  for (const [ours, theirs] of places) compared += compareDirectories(ours, theirs)
  assert.ok(compared > 900, `${compared} files compared`)
  assert.equal(
    readFileSync(join(rescued, 'backup_label'), 'utf8'),
    readFileSync(join(into, 'backup_label'), 'utf8'),
  )
  assert.equal(statSync(rescued).mode, statSync(into).mode)
})

function compareDirectories(ours: string, theirs: string): number {
  const names = filesBelow(ours)
  assert.deepEqual(filesBelow(theirs), names)
  for (const name of names) {
    const [one, other] = [lstatSync(join(ours, name)), lstatSync(join(theirs, name))]
    assert.equal(other.mode, one.mode, name)
    if (!one.isFile()) continue
    assert.ok(readFileSync(join(ours, name)).equals(readFileSync(join(theirs, name))), name)
  }
  return names.length
}

test('a server starts from a backup and its WAL alone', { skip }, async () => {
  const into = await restoreByReader(incremental, 'backup-alone')
  await using copy = await openRecovered(into)
  const { transactions } = await checkInvariant(copy)
  await checkInvariant(copy, 'second')
  const original = await checkInvariant(cluster.server)
  assert.ok(transactions <= original.transactions)
  assert.deepEqual(await copy.sql('SHOW archive_mode'), [{ archive_mode: 'off' }])
})

test('with all WAL a server has everything that was archived', { skip }, async () => {
  const into = await restoreByReader(full, 'all-wal', ['--wal'])
  await using copy = await openRecovered(into)
  for (const database of ['postgres', 'second']) {
    const [found, original] = [
      await checkInvariant(copy, database),
      await checkInvariant(cluster.server, database),
    ]
    assert.ok(original.transactions > 0, database)
    assert.deepEqual(found, original, database)
  }
})

test('list names both backups', { skip }, async () => {
  const lines = (await rescueOk(cluster.repository, 'list')).trimEnd().split('\n')
  assert.deepEqual(
    lines.map((line) => line.split(' ').slice(0, 2)),
    [full, incremental].sort().map((id) => ['main', id]),
  )
})

/** A copy of the repository with one byte changed in the file of that name. */
function damage(name: string, file: string, at: number): string {
  const damaged = cluster.path(name)
  cpSync(cluster.repository, damaged, { recursive: true })
  const bytes = readFileSync(join(damaged, file))
  assert.ok(at < bytes.length, `${file} has ${bytes.length} bytes`)
  bytes[at] = (bytes[at] as number) ^ 1
  writeFileSync(join(damaged, file), bytes)
  return damaged
}

/** The first key that fits; `at`: another of them. */
function find(pattern: RegExp, at = 0): string {
  const found = filesBelow(cluster.repository).filter((name) => pattern.test(name))
  const key = found.at(at)
  assert.ok(key !== undefined, String(pattern))
  return key
}

test('a damaged frame is reported by name, and the directory is not startable', {
  skip,
}, async () => {
  const damaged = damage('damaged-pack', pack, 100)
  const into = cluster.path('from-damaged')
  const { status, stderr } = await rescue(damaged, 'restore', full, into)
  assert.equal(status, 1)
  assert.ok(stderr.startsWith(`PROBLEM ${pack}: frame `), stderr)
  assert.match(stderr, /base\/\d+\/\d+: \d+ bytes at \d+ are lost/)
  assert.equal(existsSync(join(into, 'global/pg_control')), false)
})

test('damaged WAL and a damaged record are reported by name', { skip }, async () => {
  const restored = await rescue(
    damage('damaged-wal', segment, 200),
    'restore',
    full,
    cluster.path('from-wal'),
  )
  assert.equal(restored.status, 1)
  assert.ok(restored.stderr.includes(`${segment}: its SHA-256 does not hold`), restored.stderr)

  const record = `clusters/main/backups/${full}.record`
  const listed = await rescue(damage('damaged-record', record, 200), 'list')
  assert.equal(listed.status, 1)
  assert.ok(listed.stderr.includes(`${record}: its SHA-256 does not hold`), listed.stderr)
  assert.ok(listed.stdout.includes(incremental), listed.stdout)
})

test('a hole in the WAL is reported, since PostgreSQL would stop there', { skip }, async () => {
  const holed = cluster.path('holed')
  cpSync(cluster.repository, holed, { recursive: true })
  rmSync(join(holed, find(/\/wal\/.*\.wal$/, -2)))
  const { status, stderr } = await rescue(
    holed,
    'restore',
    full,
    cluster.path('from-holed'),
    '--wal',
  )
  assert.equal(status, 1)
  assert.match(stderr, /WAL is missing between 0{7}1[0-9A-F]{16} and 0{7}1[0-9A-F]{16}/)
})

for (const major of [Math.min(...MAJORS), Math.max(...MAJORS)]) {
  test(`PostgreSQL ${major}: with all WAL it follows a promotion`, { skip }, async () => {
    await using first = await protectServer({ major, embedded: true })
    await createBench(first.server, 2)
    const backup = await first.backup()
    const load = await startLoad(first.server)
    await first.backup()
    await load.stop()
    await first.archiveNow()
    await first.ok('restore', '--into', first.path('promoted'), '--take-over')
    await first.server.stop()
    await using promoted = await openRecovered(first.path('promoted'), { major, embedded: true })
    await promoted.sql('UPDATE pgbench_branches SET filler = $1', ['on timeline 2'])
    await archiveNow(promoted)

    const into = await restoreByReader(backup, 'by-reader', ['--wal'], first)
    await using copy = await openRecovered(into, { major, embedded: true })
    assert.deepEqual(await checkInvariant(copy), await checkInvariant(promoted))
    const rows = await copy.sql('SELECT DISTINCT rtrim(filler) AS filler FROM pgbench_branches')
    assert.deepEqual(rows, [{ filler: 'on timeline 2' }])
  })
}
