/**
 * The commands against a real server: the way from a default server to one that is
 * protected, and the messages on that way.
 */
import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { type TidemarkResult, tidemark } from '../harness/tidemark.ts'

interface Check {
  readonly code: string
  readonly result: string
  readonly detail: string
  readonly fix?: string
}

let server: PostgresServer
let directory: string
let config: string
let repositoryUrl: string

const run = async (...args: string[]): Promise<TidemarkResult> =>
  await tidemark(['--config', config, ...args], { cwd: directory })

const init = async (...args: string[]): Promise<TidemarkResult> =>
  await run('init', '--yes', '--connection', server.url(), '--repository', repositoryUrl, ...args)

const check = async (code: string, ...args: string[]): Promise<Check> => {
  const result = await run('doctor', '--json', '--no-proof', ...args)
  const { checks } = result.json<{ checks: Check[] }>()
  const found = checks.find((one) => one.code === code)
  assert.ok(found, `${code} in ${result.stdout}`)
  return found
}

before(async () => {
  server = await startPostgres()
  directory = temporaryDirectory(undefined, 'tidemark-commands-')
  chmodSync(directory, 0o755)
  config = join(directory, 'tidemark.yaml')
  repositoryUrl = `file://${join(directory, 'repository')}`
})

after(async () => {
  await server.dispose()
  await removeDirectory(directory)
})

test('a wrong port: the socket that did not answer, and the servers that run', async () => {
  const wrong = server.url().replace(`port=${server.port}`, 'port=5998')
  const args = ['--connection', wrong, '--repository', repositoryUrl]
  const { status, stderr } = await run('init', '--yes', ...args)
  assert.equal(status, 1)
  assert.match(stderr, /TM1101: no PostgreSQL server answers at the socket .*\.s\.PGSQL\.5998/)
  assert.match(stderr, /because: there is no such socket; .*(running|no running)/)
})

test('init without a terminal: the options that are missing', async () => {
  const { status, stderr } = await run('init', '--connection', server.url())
  assert.equal(status, 2)
  assert.match(stderr, /TM1001: init needs --repository/)
})

test('init prints the statements and which need a restart, and changes no setting', async () => {
  const { status, stdout, stderr } = await init()
  assert.equal(status, 0, stderr)
  assert.match(stdout, /ALTER SYSTEM SET archive_mode = 'on'; {2}-- takes effect at a restart/)
  assert.match(
    stdout,
    /ALTER SYSTEM SET archive_command = '\[.*\] \|\| \/.*wal push --ahead --cluster main "%p"'/,
  )
  assert.match(stdout, /A restart of the server is needed for: archive_mode/)
  assert.match(stdout, /the repository is on the disk of the data directory/)
  const [setting] = await server.sql('SHOW archive_mode')
  assert.equal(setting?.['archive_mode'], 'off')
})

test('what init creates belongs to the user of the server', () => {
  const owner = statSync(server.dataDirectory)
  for (const path of [config, 'repository', 'repository/clusters/main/systems']) {
    const { uid, mode } = statSync(join(path.startsWith('/') ? '' : directory, path))
    assert.equal(uid, owner.uid, path)
    assert.equal(mode & 0o077, 0, path)
  }
})

test('init again changes nothing', async () => {
  const before = readFileSync(config, 'utf8')
  const result = await init('--json')
  const report = result.json<{
    configuration: { outcome: string }
    repository: { outcome: string }
  }>()
  assert.equal(report.configuration.outcome, 'unchanged')
  assert.equal(report.repository.outcome, 'found')
  assert.equal(readFileSync(config, 'utf8'), before)
})

test('another server under the same name is refused, and nothing of it is kept', async () => {
  await using other = await startPostgres()
  const elsewhere = join(directory, 'other.yaml')
  const args = ['--connection', other.url(), '--repository', repositoryUrl]
  const result = await tidemark(['--config', elsewhere, 'init', '--yes', ...args])
  assert.equal(result.status, 2)
  assert.match(result.stderr, /TM1007: .* knows another server as 'main'/)
  assert.match(result.stderr, /fix: .*--name NAME/)
  assert.throws(() => statSync(elsewhere))
})

test('archive_mode is off: doctor exits with 3, a backup is refused at once', async () => {
  const mode = await check('TM1704')
  assert.equal(mode.result, 'problem')
  assert.match(mode.fix ?? '', /restart/)
  const { status, stderr } = await run('backup')
  assert.equal(status, 1)
  assert.match(stderr, /TM1311.*\n {2}because: archive_mode is 'off'/)
  assert.match(stderr, /ALTER SYSTEM SET archive_command = '.*wal push/)
})

test('an archive_command that does nothing: its value, and the line to set', async () => {
  await server.sql(`ALTER SYSTEM SET archive_command = '/bin/true'`)
  await server.sql(`ALTER SYSTEM SET archive_mode = 'on'`)
  await server.restart()
  const command = await check('TM1705')
  assert.equal(command.result, 'problem')
  assert.match(command.detail, /archive_command is '\/bin\/true', which archives nothing/)
  assert.match(command.fix ?? '', /ALTER SYSTEM SET archive_command = '.*wal push/)
  const { status, stderr } = await run('backup')
  assert.equal(status, 1)
  assert.match(stderr, /because: archive_command is '\/bin\/true'/)
})

test("another tool's archive_command is not replaced by --fix", async () => {
  await server.sql(`ALTER SYSTEM SET archive_command = 'cp %p /nonexistent/%f'`)
  await server.sql('SELECT pg_reload_conf()')
  const { status, stdout } = await run('doctor', '--fix', '--no-proof')
  assert.equal(status, 3)
  assert.match(stdout, /not set: archive_command, because another command archives WAL/)
  const [setting] = await server.sql('SHOW archive_command')
  assert.equal(setting?.['archive_command'], 'cp %p /nonexistent/%f')
})

test('doctor --fix sets it up, and the proof comes through', async () => {
  await server.sql(`ALTER SYSTEM SET archive_command = '/bin/true'`)
  await server.sql('SELECT pg_reload_conf()')
  const { status, stdout, stderr } = await run('doctor', '--fix')
  assert.equal(status, 0, stdout + stderr)
  assert.match(stdout, /mended {3}ALTER SYSTEM SET archive_command/)
  assert.match(stdout, /proof +[0-9A-F]{24} was finished, archived and read back in/)
})

test('the proof fails when the archiver fails, and says where to look', async () => {
  const [before] = await server.sql('SHOW archive_command')
  writeFileSync(join(directory, 'broken.yaml'), 'nonsense: 1\n')
  const command = String(before?.['archive_command']).replace(
    config,
    join(directory, 'broken.yaml'),
  )
  await server.sql(`ALTER SYSTEM SET archive_command = '${command}'`)
  await server.sql('SELECT pg_reload_conf()')
  const result = await run('doctor', '--json')
  assert.equal(result.status, 3)
  const { checks } = result.json<{ checks: Check[] }>()
  const proof = checks.find(({ code }) => code === 'TM1719')
  assert.match(proof?.detail ?? '', /the server failed 3 times to archive/)
  assert.match(await server.log(), /TM1003: .*broken\.yaml:1:1: unknown key 'nonsense'/)
  const mended = await run('doctor', '--fix')
  assert.equal(mended.status, 0, mended.stdout + mended.stderr)
})

test('backup, list, show, window, status: one story', async () => {
  const first = await run('--json', 'backup', '--label', 'why=test')
  assert.equal(first.status, 0, first.stderr)
  const [backup] = first.json<{ backups: { id: string; labels: object }[] }>().backups
  assert.deepEqual(backup?.labels, { why: 'test' })
  await server.sql('CREATE TABLE one AS SELECT 1')
  await run('doctor')
  const list = (await run('list', '--json')).json<{ backups: { id: string }[] }>()
  assert.deepEqual(
    list.backups.map(({ id }) => id),
    [backup?.id],
  )
  const shown = (await run('show', 'latest', '--json')).json<{ backup: { missingPacks: [] } }>()
  assert.deepEqual(shown.backup.missingPacks, [])
  assert.equal((await run('window', '--check')).status, 0)
  const status = await run('status', '--check', '--json')
  assert.equal(status.status, 0, status.stdout)
  const { healthy, exposure } = status.json<{ healthy: boolean; exposure: { bytes: number } }>()
  assert.equal(healthy, true)
  assert.ok(exposure.bytes < 16 * 1024 * 1024)
})

test('a backup id with a typo', async () => {
  const { backups } = (await run('list', '--json')).json<{ backups: { id: string }[] }>()
  const id = backups[0]?.id ?? ''
  const wrong = id.slice(0, -1) + (id.endsWith('z') ? 'y' : 'z')
  const { status, stderr } = await run('show', wrong)
  assert.equal(status, 2)
  assert.ok(stderr.includes(`did you mean ${id}?`), stderr)
})

test('a target beyond the archive: how far it reaches, before anything is written', async () => {
  const into = join(directory, 'copy')
  const { status, stderr } = await run('restore', '--into', into, '--to', '2038-01-01T00:00:00Z')
  assert.equal(status, 1)
  assert.match(stderr, /TM1203/)
  assert.match(stderr, /because: .*\d{4}-\d\d-\d\dT/)
  assert.throws(() => statSync(join(into, 'PG_VERSION')))
})

test('a hole in the WAL: doctor, window, status and wal list name the segment', async () => {
  for (const table of ['two', 'three', 'four']) {
    await server.sql(`CREATE TABLE ${table} AS SELECT 1`)
    await run('doctor')
  }
  const list = (await run('wal', 'list', '--json')).json<{
    servers: { systemIdentifier: string; timelines: { ranges: { last: string }[] }[] }[]
  }>()
  const [known] = list.servers
  const last = known?.timelines[0]?.ranges[0]?.last ?? ''
  const number = (Number.parseInt(last.slice(16), 16) - 1).toString(16).toUpperCase()
  const hole = last.slice(0, 16) + number.padStart(8, '0')
  const folder = `${known?.systemIdentifier}/${hole.slice(0, 8)}/${hole.slice(8, 16)}`
  const key = `clusters/main/wal/${folder}`
  const path = join(directory, 'repository', key, `${hole}.wal`)
  const bytes = readFileSync(path)
  rmSync(path)
  assert.equal((await check('TM1716')).result, 'problem')
  for (const command of [
    ['window', '--check'],
    ['status', '--check'],
  ]) {
    const { status, stdout } = await run(...command)
    assert.equal(status, 3, stdout)
    assert.ok(stdout.includes(hole), stdout)
  }
  assert.ok((await run('wal', 'list')).stdout.includes(hole))
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1
  writeFileSync(path, bytes)
  const { uid, gid } = statSync(join(path, '..'))
  chownSync(path, uid, gid)
  const damaged = await check('TM1718')
  assert.equal(damaged.result, 'problem')
  assert.ok(damaged.detail.includes(hole), damaged.detail)
})

test('a backup that lacks a pack is found by listing, and named', async () => {
  const shown = await run('show', 'latest', '--json')
  const { backup } = shown.json<{ backup: { id: string } }>()
  rmSync(join(directory, 'repository/clusters/main/packs'), { recursive: true })
  mkdirSync(join(directory, 'repository/clusters/main/packs'))
  const broken = await check('TM1717')
  assert.equal(broken.result, 'problem')
  assert.ok(broken.detail.includes(backup.id), broken.detail)
  const status = await run('status', '--check')
  assert.equal(status.status, 3)
  assert.ok(status.stdout.includes(backup.id))
})

test('Ctrl-C during a backup: 130, and nothing half-made is listed', async () => {
  const before = (await run('list', '--json')).json<{ backups: unknown[] }>().backups.length
  const result = await tidemark(['--config', config, 'backup', '--full'], {
    signalAfterMs: 700,
    signal: 'SIGINT',
  })
  const after = (await run('list', '--json')).json<{ backups: unknown[] }>().backups.length
  if (result.status === 0) assert.equal(after, before + 1)
  else {
    // Before anything has begun, the signal itself ends the program.
    assert.ok(result.status === 130 || result.signal === 'SIGINT', result.stderr)
    assert.equal(after, before)
  }
})
