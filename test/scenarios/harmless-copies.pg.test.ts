/**
 * A copy restored beside the living harms nobody: not the publisher that its original
 * subscribes to, not the original's archive, address, configuration, jobs or links. And
 * what takes over archives on a timeline of its own, beside which all older moments remain.
 *
 * Peers and a naive PITR failed both ways: 784 of 1000 live rows left after a tablespace was
 * replayed beside its owner; a subscriber that silently missed the changes its clone took.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, test } from 'node:test'
import { openServerOn, type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { removeDirectory } from '../harness/temporary-directory.ts'
import { failureOf } from '../harness/tidemark.ts'
import {
  archiveNow,
  type FaultCluster,
  filesBelow,
  type Mark,
  mark,
  readMarks,
  startFaultCluster,
  waitUntilPromoted,
} from './faults-cluster.ts'

let publisher: PostgresServer
let cluster: FaultCluster
const marks: Mark[] = []
const at = (number: number): Mark => marks[number - 1] as Mark

before(async () => {
  publisher = await startPostgres({ settings: { wal_level: 'logical' } })
  await publisher.sql('CREATE TABLE feed (number int PRIMARY KEY)')
  await publisher.sql('CREATE PUBLICATION feed FOR TABLE feed')
  cluster = await startFaultCluster()
  const { server } = cluster
  writeFileSync(join(server.dataDirectory, 'pg_hba.conf'), 'local all all trust # original\n')
  await server.sql('SELECT pg_reload_conf()')
  await server.sql('CREATE TABLE feed (number int PRIMARY KEY)')
  const { socketDirectory, port } = publisher
  await server.sql(
    `CREATE SUBSCRIPTION feed
       CONNECTION 'host=${socketDirectory} port=${port} user=postgres dbname=postgres'
       PUBLICATION feed`,
  )
  await publisher.sql('INSERT INTO feed VALUES (1)')
  await waitForFeed(server, [1])
  await cluster.backup()
  for (const number of [1, 2]) marks.push(await cluster.mark(number))
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
  await publisher?.dispose()
})

async function feedOf(server: PostgresServer): Promise<number[]> {
  const rows = await server.sql<{ number: number }>('SELECT number FROM feed ORDER BY number')
  return rows.map(({ number }) => number)
}

async function waitForFeed(server: PostgresServer, wanted: readonly number[]): Promise<void> {
  for (let waited = 0; waited < 1200; waited++) {
    if (JSON.stringify(await feedOf(server)) === JSON.stringify(wanted)) return
    await sleep(25)
  }
  assert.deepEqual(await feedOf(server), wanted, await server.log())
}

async function slotOf(server: PostgresServer): Promise<Record<string, unknown> | undefined> {
  const [row] = await server.sql(
    'SELECT active, confirmed_flush_lsn::text AS flushed FROM pg_replication_slots',
  )
  return row
}

async function setting(server: PostgresServer, name: string): Promise<unknown> {
  const [row] = await server.sql(`SELECT current_setting('${name}') AS value`)
  return row?.['value']
}

test('a copy of a subscriber takes nothing from the publisher', async () => {
  await cluster.server.stop()
  await publisher.sql('INSERT INTO feed VALUES (2)')
  const slot = await slotOf(publisher)
  assert.equal(slot?.['active'], false)
  const directory = cluster.path('copy')
  await cluster.ok('restore', '--into', directory, '--to', 'latest')
  await using copy = await openServerOn(directory)
  await waitUntilPromoted(copy)
  const [row] = await copy.sql('SELECT subenabled FROM pg_subscription')
  assert.equal(row?.['subenabled'], true)
  // An apply worker of a living subscriber starts within its first second.
  await sleep(3000)
  const workers = await copy.sql(
    `SELECT backend_type FROM pg_stat_activity WHERE backend_type LIKE 'logical%'`,
  )
  assert.deepEqual(workers, [])
  assert.deepEqual(await feedOf(copy), [1])
  assert.deepEqual(await slotOf(publisher), slot)
  await cluster.server.start()
  await waitForFeed(cluster.server, [1, 2])
  assert.deepEqual(await feedOf(copy), [1])
})

test('a copy has its own configuration, archives nothing and cannot be told to', async () => {
  const before = filesBelow(cluster.repository)
  const directory = cluster.path('copy2')
  await cluster.ok('restore', '--into', directory, '--to', at(1).time)
  const hba = readFileSync(join(directory, 'pg_hba.conf'), 'utf8')
  assert.doesNotMatch(hba, /original/)
  assert.match(readFileSync(join(directory, 'pg_hba.conf.original'), 'utf8'), /original/)
  // What the copy says by itself, not what the harness adds on the command line.
  const own = readFileSync(join(directory, 'postgresql.conf'), 'utf8')
  assert.match(own, /^listen_addresses = ''$/m)
  assert.match(own, /^shared_preload_libraries = ''$/m)
  assert.doesNotMatch(own, /^\s*include/m)
  await using copy = await openServerOn(directory)
  await waitUntilPromoted(copy)
  assert.deepEqual(await readMarks(copy), [1])
  for (const [name, value] of Object.entries({
    archive_mode: 'off',
    archive_command: '(disabled)',
    max_logical_replication_workers: '0',
    autovacuum: 'off',
    primary_conninfo: '',
  })) {
    assert.equal(await setting(copy, name), value, name)
  }
  await copy.sql('INSERT INTO mark VALUES (99); SELECT pg_switch_wal()')
  await copy.sql('CHECKPOINT')
  const [archiver] = await copy.sql('SELECT archived_count::int AS n FROM pg_stat_archiver')
  assert.equal(archiver?.['n'], 0)
  const segments = readdirSync(join(directory, 'pg_wal')).filter((name) =>
    /^[0-9A-F]{24}$/.test(name),
  )
  for (const name of segments) {
    const pushed = await cluster.run('--json', 'wal', 'push', join(directory, 'pg_wal', name))
    assert.equal(pushed.status, 1)
    assert.equal(failureOf(pushed).code, 'TM1405', pushed.stdout)
  }
  assert.deepEqual(filesBelow(cluster.repository), before)
})

test('a tablespace created in the replay range beside its owner', async () => {
  const place = cluster.path('tablespace')
  const { server } = cluster
  await server.tool('psql', ['-c', `\\! mkdir -m 700 ${place}`])
  await server.sql(`CREATE TABLESPACE apart LOCATION '${place}'`)
  await server.sql('CREATE TABLE apart TABLESPACE apart AS SELECT generate_series(1, 1000) AS n')
  await server.sql('CHECKPOINT')
  marks.push(await cluster.mark(3))
  const files = filesBelow(place)
  const refused = await cluster.run(
    '--json',
    'restore',
    '--into',
    cluster.path('no'),
    '--to',
    'latest',
  )
  assert.equal(refused.status, 1, refused.stdout)
  assert.equal(failureOf(refused).code, 'TM1216')
  assert.deepEqual(filesBelow(cluster.path('no')), [])
  const mapped = await cluster.run(
    '--json',
    'restore',
    '--into',
    cluster.path('no'),
    '--to',
    'latest',
    '--tablespace',
    `${place}=${cluster.path('elsewhere')}`,
  )
  assert.notEqual(mapped.status, 0, mapped.stdout)
  // In a backup the tablespace is an ordinary one, and is mapped away.
  await cluster.backup()
  const directory = cluster.path('copy3')
  await cluster.ok(
    'restore',
    '--into',
    directory,
    '--to',
    'latest',
    '--tablespace',
    `${place}=${cluster.path('elsewhere')}`,
  )
  await using copy = await openServerOn(directory)
  await waitUntilPromoted(copy)
  await copy.sql('DELETE FROM apart; CHECKPOINT')
  await server.restart()
  const [row] = await server.sql('SELECT count(*)::int AS n, sum(n)::int AS sum FROM apart')
  assert.deepEqual(row, { n: 1000, sum: 500500 })
  assert.deepEqual(filesBelow(place).length, files.length)
  const unmapped = await cluster.run('--json', 'restore', '--into', cluster.path('no'))
  assert.notEqual(unmapped.status, 0, 'the living tablespace is in use')
  await server.sql('DROP TABLE apart')
  await server.sql('DROP TABLESPACE apart')
  await removeDirectory(place)
  await cluster.backup()
})

test('directories that must not be restored into', async () => {
  const { server } = cluster
  // The last backup's history file is archived behind its last segment; then all is still.
  await server.sql(`SELECT pg_create_restore_point('still')`)
  await archiveNow(server)
  const codes: Record<string, string> = {}
  const full = cluster.path('full')
  mkdirSync(full)
  writeFileSync(join(full, 'file'), 'text')
  for (const directory of [
    server.dataDirectory,
    join(server.dataDirectory, 'base/new'),
    cluster.repository,
    join(cluster.repository, 'new'),
    cluster.base,
    full,
  ]) {
    const before = filesBelow(directory).length
    const refused = await cluster.run('--json', 'restore', '--into', directory)
    assert.notEqual(refused.status, 0, directory)
    codes[directory.replace(cluster.base, '').replace(server.dataDirectory, 'data')] =
      failureOf(refused).code
    assert.equal(filesBelow(directory).length, before, directory)
  }
  assert.deepEqual(codes, {
    data: 'TM1211',
    'data/base/new': 'TM1212',
    '/repository': 'TM1212',
    '/repository/new': 'TM1212',
    '': 'TM1212',
    '/full': 'TM1210',
  })
  assert.deepEqual(await readMarks(server), [1, 2, 3])
})

test('taking over: a new timeline, and every moment before and after it', async () => {
  for (const number of [4, 5]) marks.push(await cluster.mark(number))
  await cluster.server.stop()
  const directory = cluster.path('heir')
  await cluster.ok('restore', '--into', directory, '--to', at(4).time, '--take-over')
  await using heir = await openServerOn(directory)
  await waitUntilPromoted(heir)
  assert.deepEqual(await readMarks(heir), [1, 2, 3, 4])
  const six = await mark(heir, 6)
  const seven = await mark(heir, 7)
  assert.equal(seven.segment.slice(0, 8), '00000002')
  const marksAt = async (...words: string[]): Promise<number[]> => {
    const copyDirectory = cluster.path('pitr')
    await cluster.ok('restore', '--into', copyDirectory, ...words)
    await using copy = await openServerOn(copyDirectory)
    await waitUntilPromoted(copy)
    const found = await readMarks(copy)
    await copy.dispose()
    return found
  }
  assert.deepEqual(await marksAt('--to', 'latest'), [1, 2, 3, 4, 6, 7])
  assert.deepEqual(await marksAt('--to', six.time), [1, 2, 3, 4, 6])
  assert.deepEqual(await marksAt('--to', at(3).time), [1, 2, 3])
  assert.deepEqual(await marksAt('--to', `xid:${at(5).xid}`, '--timeline', '1'), [1, 2, 3, 4, 5])
  const words = ['--json', 'restore', '--into', cluster.path('left'), '--to', `xid:${at(5).xid}`]
  const left = failureOf(await cluster.run(...words))
  assert.equal(left.code, 'TM1207', JSON.stringify(left))
  assert.match(left.fix, /--timeline 1/)
  const config = configFor(heir, 'repository')
  const taken = await cluster.run('--config', config, 'backup')
  assert.equal(taken.status, 0, taken.stdout + taken.stderr)
  await mark(heir, 8)
  assert.deepEqual(await marksAt('--to', 'latest'), [1, 2, 3, 4, 6, 7, 8])
  assert.deepEqual(await marksAt('--to', six.time), [1, 2, 3, 4, 6])
  await cluster.ok('window', '--check')
})

test('a copy is not backed up, into no repository; what has taken over is', async () => {
  const directory = cluster.path('first')
  await cluster.ok('restore', '--into', directory, '--to', at(2).time, '--timeline', '1')
  await using first = await openServerOn(directory)
  await waitUntilPromoted(first)
  const refused = await cluster.run('wal', 'push', join(directory, 'pg_wal/00000002.history'))
  assert.equal(refused.status, 1)
  const config = configFor(first, 'second')
  const backup = await cluster.run('--config', config, '--json', 'backup', '--no-archive-check')
  assert.notEqual(backup.status, 0)
  const before = filesBelow(cluster.repository)
  const here = await cluster.run('--config', configFor(first, 'repository'), '--json', 'backup')
  assert.notEqual(here.status, 0)
  assert.deepEqual(backupsIn(filesBelow(cluster.repository)), backupsIn(before))
})

function backupsIn(files: readonly string[]): string[] {
  return files.filter((path) => path.endsWith('.record'))
}

function configFor(server: PostgresServer, repository: string): string {
  const config = cluster.path(`${repository}.yaml`)
  writeFileSync(
    config,
    `repositories:\n  local: { url: "file://${cluster.path(repository)}" }\n` +
      `clusters:\n  main:\n    connection: "${server.url()}"\n`,
  )
  return config
}
