/** Exit statuses and failures as a user meets them: through bin/tidemark, without a server. */
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { runProgram } from '../../test/harness/run-program.ts'
import { removeDirectory, temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { CHECKOUT, tidemark } from '../../test/harness/tidemark.ts'
import { createRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openStorage } from '../storage/open-storage.ts'

const SYSTEM = '7000000000000000001'
const SEGMENT = '000000010000000000000001'

let directory: string
let config: string
let repository: string

before(async () => {
  directory = temporaryDirectory(undefined, 'tidemark-main-')
  config = join(directory, 'tidemark.yaml')
  repository = join(directory, 'repository')
  writeFileSync(
    config,
    `repositories: { local: { url: 'file://${repository}' } }
clusters: { main: { connection: 'postgresql:///postgres?host=${directory}' } }
`,
  )
  const storage = await openStorage({ url: `file://${repository}` })
  await createRepository(storage, new Date(0))
  await ensureSystemIdentity(storage, 'main', {
    systemIdentifier: SYSTEM,
    major: 15,
    walSegmentSizeBytes: 16 * 1024 * 1024,
    createdAt: new Date(0).toISOString(),
  })
})

after(async () => {
  await removeDirectory(directory)
})

const get = async (...args: string[]) =>
  await tidemark(['--config', config, 'wal', 'get', ...args], { cwd: directory })

test('wal get: 44 is a proved absence', async () => {
  const { status, stderr } = await get(SEGMENT, join(directory, 'x'))
  assert.equal(status, 44, stderr)
  assert.equal((await get('00000002.history', join(directory, 'x'))).status, 44)
})

test('wal get: everything else is 255', async () => {
  const target = join(directory, 'x')
  const elsewhere = { cwd: directory }
  const lines = [
    ['--config', join(directory, 'nope.yaml'), 'wal', 'get', SEGMENT, target],
    ['--config', config, 'wal', 'get', SEGMENT],
    ['--config', config, 'wal', 'get', SEGMENT, target, '--bogus'],
    ['--config', config, 'wal', 'get', '--cluster', 'mian', SEGMENT, target],
    ['--config', config, 'wal', 'get', 'not-a-wal-file', target],
    ['--config', config, 'wal', 'get', '--system-identifier', '1', SEGMENT, target],
    ['--confg', config, 'wal', 'get', SEGMENT, target],
  ]
  for (const line of lines) {
    const { status, stderr } = await tidemark(line, elsewhere)
    assert.equal(status, 255, `${line.join(' ')}\n${stderr}`)
    assert.match(stderr, /^error TM\d{4}: /)
  }
})

test('wal get: a repository that is not there is not an absence', async () => {
  renameSync(repository, `${repository}.away`)
  try {
    const { status, stderr } = await get(SEGMENT, join(directory, 'x'))
    assert.equal(status, 255)
    assert.match(stderr, /mounted/)
    mkdirSync(repository)
    assert.equal((await get(SEGMENT, join(directory, 'x'))).status, 255)
    rmSync(repository, { recursive: true })
  } finally {
    renameSync(`${repository}.away`, repository)
  }
})

test('wal get: without its Node.js, or with a file of ours missing', async () => {
  const line = ['--config', config, 'wal', 'get', SEGMENT, join(directory, 'x')]
  const noNode = await tidemark(line, { env: { TIDEMARK_NODE: '/nonexistent/node' } })
  assert.equal(noNode.status, 255)
  const copy = copyInstallation()
  assert.equal((await runProgram(join(copy, 'bin/tidemark'), line)).status, 44)
  for (const file of [
    'archive/fetch-wal.ts',
    'storage/open-storage.ts',
    'cli/wal-arguments.ts',
    'config/private-directory.ts',
  ]) {
    const path = join(copy, 'src', file)
    renameSync(path, `${path}.away`)
    const { status, stderr } = await runProgram(join(copy, 'bin/tidemark'), line)
    assert.equal(status, 255, file)
    assert.match(stderr, /cannot go on|TM\d{4}|defect/)
    renameSync(`${path}.away`, path)
  }
})

/** Sources in a directory of their own; what is large is linked. */
function copyInstallation(): string {
  const copy = join(directory, 'installation')
  for (const part of ['src', 'bin'])
    cpSync(join(CHECKOUT, part), join(copy, part), { recursive: true })
  cpSync(join(CHECKOUT, 'package.json'), join(copy, 'package.json'))
  for (const part of readdirSync(CHECKOUT).filter((name) =>
    /^(node_modules|\.tools)$/.test(name),
  )) {
    symlinkSync(join(CHECKOUT, part), join(copy, part))
  }
  return copy
}

test('wal push: usage is 2, an unreadable file 1', async () => {
  const push = async (...args: string[]) =>
    await tidemark(['--config', config, 'wal', 'push', ...args], { cwd: directory })
  assert.equal((await push('nonsense')).status, 2)
  const { status, stderr } = await push(join(directory, SEGMENT))
  assert.equal(status, 1)
  assert.match(stderr, /^error TM1406: .*no such file.*\n$/)
})

test('unknown words: the nearest known one', async () => {
  const told = async (...args: string[]) => {
    const { status, stderr } = await tidemark(['--config', config, ...args])
    return `${status} ${stderr}`
  }
  assert.match(await told('lsit'), /^2 error TM1001: unknown command 'lsit'; did you mean 'list'\?/)
  assert.match(await told('list', '--jsno'), /^2 error TM1001: .*did you mean '--json'\?/)
  assert.match(await told('wal', 'psuh'), /^2 error TM1001: .*did you mean 'push'\?/)
  assert.match(
    await told('list', 'mian'),
    /^2 error TM1004: no cluster 'mian'; did you mean 'main'\?/,
  )
  assert.match(await told('backup', '--source', 'tape'), /^2 error TM1001: .*auto, local/)
  assert.match(await told('show'), /^2 error TM1001: missing required argument 'id'/)
})

test('asked for help it helps; without a command it says so', async () => {
  for (const line of [['help'], ['help', 'backup'], ['--help'], ['wal', 'get', '--help']]) {
    const { status, stdout } = await tidemark(line)
    assert.equal(status, 0, line.join(' '))
    assert.match(stdout, /^Usage: tidemark/)
  }
  for (const line of [[], ['wal']]) {
    const { status, stderr } = await tidemark(line)
    assert.equal(status, 2)
    assert.match(stderr, /Commands:[\s\S]*error TM1001: no command given/)
  }
})

test('no configuration: where it was looked for', async () => {
  const empty = join(directory, 'empty')
  mkdirSync(empty)
  const { status, stderr } = await tidemark(['list'], { cwd: empty, env: { TIDEMARK_CONFIG: '' } })
  assert.equal(status, 2)
  assert.match(stderr, /TM1002/)
  assert.ok(stderr.includes(join(empty, 'tidemark.yaml')), stderr)
  assert.match(stderr, /\/etc\/tidemark\/tidemark\.yaml/)
})

test('a typo in the configuration: file, line and the nearest key', async () => {
  const wrong = join(directory, 'wrong.yaml')
  writeFileSync(wrong, readFileSync(config, 'utf8').replace('connection:', 'conection:'))
  const { status, stderr } = await tidemark(['--config', wrong, 'list'])
  assert.equal(status, 2)
  assert.ok(stderr.startsWith(`error TM1003: ${wrong}:2:21: unknown key 'conection'`), stderr)
  assert.match(stderr, /did you mean 'connection'\?/)
})

test('--json: results and failures are one document on standard output', async () => {
  const good = await tidemark(['--config', config, '--json', 'list'])
  assert.equal(good.status, 0, good.stderr)
  const nothing = { backups: [], damaged: [], dumps: [], unreadableDumps: [] }
  assert.deepEqual(good.json(), { cluster: 'main', repository: 'local', ...nothing })
  const bad = await tidemark(['--config', config, 'list', 'mian', '--json'])
  assert.equal(bad.json<{ error: { code: string } }>().error.code, 'TM1004')
  assert.equal(bad.stderr, '')
})

test('no stack trace unless --verbose', async () => {
  const quiet = await tidemark(['--config', config, 'list', 'mian'])
  assert.doesNotMatch(quiet.stderr, /\n\s+at /)
  const verbose = await tidemark(['--config', config, '--verbose', 'list', 'mian'])
  assert.match(verbose.stderr, /\n\s+at /)
})

test('without the server status tells what the repository knows, doctor fails', async () => {
  const status = await tidemark(['--config', config, 'status', '--check'])
  assert.equal(status.status, 3, status.stderr)
  assert.match(status.stdout, /does not answer/)
  assert.match(status.stdout, /take the first one: tidemark backup/)
  const doctor = await tidemark(['--config', config, 'doctor', '--json'])
  assert.equal(doctor.status, 3)
  const { checks } = doctor.json<{ checks: { code: string; result: string }[] }>()
  assert.equal(checks.find(({ code }) => code === 'TM1701')?.result, 'problem')
})
