/** `tidemark dump` as a user types it: several repositories, passwords, kill -9, no space. */
import assert from 'node:assert/strict'
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { openServerSession } from '../../src/postgres/server-session.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { listDumpPacks, listDumps } from '../../src/repository/read-dumps.ts'
import { proveDump } from '../../src/dump/read-dump.ts'
import { toolDirectory, wrapPgDump } from '../harness/dumping.ts'
import { readWholeFile } from '../harness/dumped-files.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { failureOf, startTidemark, tidemark } from '../harness/tidemark.ts'
import { protectServerBySeveral, type SeveralRepositories } from './several-fixture.ts'

let scene: SeveralRepositories
let tools: string

before(async () => {
  scene = await protectServerBySeveral({ others: { second: 'directory', sealed: 'encrypted' } })
  tools = toolDirectory(scene.server.major)
  await scene.server.sql(`CREATE ROLE ann SUPERUSER LOGIN PASSWORD 'hunter-22'`)
  await scene.server.sql(
    'CREATE TABLE t AS SELECT g AS id, md5(g::text) AS x FROM generate_series(1, 40000) g',
  )
})

after(async () => {
  await scene?.[Symbol.asyncDispose]()
})

interface Report {
  readonly dump: {
    readonly id: string
    readonly databases: readonly { name: string; bytes: number; objects: number; lsn: string }[]
    readonly selection: readonly string[]
    readonly globals: boolean
  }
  readonly notes: readonly string[]
  readonly repositories: readonly { name: string; outcome: string; code: string | null }[]
}

async function openRoot(name: string): Promise<Storage> {
  return await openStorage({ url: `file://${scene.root(name)}` })
}

async function idsIn(name: string): Promise<string[]> {
  return (await listDumps(await openRoot(name), 'main')).dumps.map(({ id }) => id)
}

test('one pass of the tools feeds all repositories; the next finds the rows again', async () => {
  const first = await scene.ok('--json', 'dump', '--tools', tools, '--globals', '--label', 'a=b')
  const { dump, repositories } = first.json<Report>()
  const outcomes = repositories.map(({ name, outcome }) => `${name} ${outcome}`)
  assert.deepEqual(outcomes, ['local stored', 'second stored', 'sealed stored'])
  assert.deepEqual(
    dump.databases.map(({ name }) => name),
    ['postgres'],
  )
  // Not all repositories are encrypted.
  assert.deepEqual(dump.selection, ['--no-role-passwords'])
  for (const name of ['local', 'second']) {
    const storage = await openRoot(name)
    const [record] = (await listDumps(storage, 'main')).dumps
    assert.equal(record?.id, dump.id)
    assert.deepEqual(await proveDump(storage, record), [])
  }
  const second = await scene.ok('dump', '--tools', tools)
  assert.match(second.stdout, /^dump \S+ of main is in local and in second and in sealed, in /)
  assert.match(second.stdout, /were there already/)
  assert.match(second.stdout, /postgres: .* objects?, at [0-9A-F]+\/[0-9A-F]+/)
})

test('a repository that is encrypted alone gets the password hashes of roles', async () => {
  const args = ['--json', 'dump', '--tools', tools, '--all', '--repository', 'sealed']
  const { dump } = (await scene.ok(...args)).json<Report>()
  assert.deepEqual([dump.selection, dump.globals], [[], true])
})

test('a repository that is away is left out, and said', async () => {
  scene.takeAway('second')
  try {
    const result = await scene.run('--json', 'dump', '--tools', tools)
    assert.equal(result.status, 3, result.stdout + result.stderr)
    const { dump, repositories } = result.json<Report>()
    assert.deepEqual(
      repositories.filter(({ outcome }) => outcome !== 'stored').map(({ name }) => name),
      ['second'],
    )
    assert.ok((await idsIn('local')).includes(dump.id))
  } finally {
    scene.bringBack('second')
  }
})

test('a password comes from the URL or the password file, and is nowhere else', async () => {
  const { server } = scene
  const hba = join(server.dataDirectory, 'pg_hba.conf')
  const rules = readFileSync(hba, 'utf8')
  writeFileSync(hba, `local all ann scram-sha-256\n${rules}`)
  await server.sql('SELECT pg_reload_conf()')
  const config = join(scene.base, 'ann.yaml')
  const passwordFile = join(scene.base, 'pgpass')
  const configure = (query: string): void => {
    const url = server.url().replace('user=postgres', `user=ann${query}`)
    const text = readFileSync(scene.config, 'utf8').replace(server.url(), url)
    writeFileSync(config, text)
  }
  const options = { runAs: server.runAs, env: { PGPASSFILE: passwordFile } }
  const run = async (...args: string[]) => {
    const words = ['--config', config, '--json', 'dump', '--repository', 'local', '--tools', tools]
    return await tidemark([...words, ...args], options)
  }
  configure('&password=hunter-22')
  const given = await run('--format', 'plain', '--all', '--no-role-passwords')
  assert.equal(given.status, 0, given.stdout + given.stderr)
  configure('')
  assert.equal(failureOf(await run()).code, 'TM1102')
  writeFileSync(passwordFile, '*:*:*:ann:hunter-22\n', { mode: 0o600 })
  scene.giveToServer(passwordFile)
  const looked = await run('--format', 'directory', '--jobs', '2')
  assert.equal(looked.status, 0, looked.stdout + looked.stderr)
  chmodSync(passwordFile, 0o644)
  assert.equal(failureOf(await run()).code, 'TM1102')
  const storage = await openRoot('local')
  for (const record of (await listDumps(storage, 'main')).dumps) {
    assert.doesNotMatch(JSON.stringify(record), /hunter-22/)
    for (const number of record.files.keys()) {
      assert.ok(!(await readWholeFile(storage, record, number)).includes('hunter-22'))
    }
  }
  assert.doesNotMatch(given.stdout + given.stderr + looked.stdout + looked.stderr, /hunter-22/)
  writeFileSync(hba, rules)
  await server.sql('SELECT pg_reload_conf()')
})

test('kill -9 of the dump: nothing is listed, and the next one clears up', async () => {
  const temporary = temporaryDirectory(scene.server.runAs)
  const storage = await openRoot('local')
  const listed = await idsIn('local')
  const mark = join(temporaryDirectory(scene.server.runAs), 'begun')
  // It has written something, and goes on for ever.
  const real = join(tools, 'pg_dump')
  const slow = wrapPgDump(
    scene.server.major,
    `case "$*" in *--file*) mkdir -p "$(echo "$*" | sed 's/.*--file=\\([^ ]*\\).*/\\1/')";;
       *) ${real} "$@" | head -c 1000000;; esac
     touch ${mark}; sleep 30 & echo $! > ${mark}; wait; exit 1`,
  )
  chmodSync(slow, 0o755)
  for (const format of ['custom', 'directory']) {
    const args = ['dump', '--tools', slow, '--format', format, '--repository', 'local']
    const words = ['--config', scene.config, ...args, '--temporary-directory', temporary]
    const running = startTidemark(words, { runAs: scene.server.runAs })
    const sleeper = await readWhenThere(mark)
    running.kill('SIGKILL')
    await running.done
    // What the tool has started ends with it.
    await waitUntil(() => !isRunning(sleeper))
    writeFileSync(mark, '')
    assert.deepEqual(await idsIn('local'), listed)
  }
  assert.equal(readdirSync(temporary).length, 1)
  const next = ['dump', '--tools', tools, '--format', 'directory', '--repository', 'local']
  await scene.ok(...next, '--temporary-directory', temporary)
  assert.deepEqual(readdirSync(temporary), [])
  const { dumps } = await listDumps(storage, 'main')
  assert.equal(dumps.length, listed.length + 1)
  const needed = new Set(dumps.flatMap(({ packs }) => packs.map(({ id }) => id)))
  const there = [...(await listDumpPacks(storage, 'main')).keys()]
  assert.deepEqual(
    there.filter((id) => !needed.has(id)),
    [],
  )
  for await (const { key } of storage.list('clusters/main/holds/')) assert.fail(key)
  for (const record of dumps) assert.deepEqual(await proveDump(storage, record), [])
})

test('a pg_dump that waits for a lock ends with the dump, however that ends', async () => {
  const { server } = scene
  const connection = server.url()
  const blocker = await openServerSession({ connection, applicationName: 'blocker' })
  await blocker.query('BEGIN')
  await blocker.query('LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE')
  const listed = await idsIn('local')
  const temporary = temporaryDirectory(server.runAs)
  try {
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      const options = ['--format', 'directory', '--jobs', '2', '--temporary-directory', temporary]
      const words = ['--config', scene.config, 'dump', '--tools', tools, ...options]
      const running = startTidemark(words, { runAs: server.runAs })
      await waitUntil(async () => (await countWaiting()) === 1)
      const pids = processesOf(temporary)
      assert.ok(pids.length > 0)
      running.kill(signal)
      await running.done
      await waitUntil(() => !pids.some(isRunning))
      assert.deepEqual(processesOf(temporary), [])
      // pg_dump has told the server to cancel what it waits for.
      await waitUntil(async () => (await countWaiting()) === 0)
    }
  } finally {
    await blocker.close()
  }
  assert.deepEqual(await idsIn('local'), listed)
})

async function countWaiting(): Promise<number> {
  const [row] = await scene.server.sql(
    `SELECT count(*)::int AS count FROM pg_stat_activity
      WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'`,
  )
  return Number(row?.['count'])
}

/** pg_dump and what watches over it: its directory is among the arguments. */
function processesOf(directory: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => readOrEmpty(`/proc/${name}/cmdline`).includes(`--file=${directory}`))
    .map(Number)
}

function isRunning(pid: number): boolean {
  return /\) [^Z]/.test(readOrEmpty(`/proc/${pid}/stat`))
}

/** For as long as the test may take. */
async function waitUntil(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 50))
}

async function readWhenThere(path: string): Promise<number> {
  for (;;) {
    const pid = Number(await Promise.resolve(readOrEmpty(path)))
    if (pid > 0) return pid
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return ''
  }
}

test('wrong usage is told before anything is asked of the server', async () => {
  const cases: [string[], string, RegExp][] = [
    [['--all', '--database', 'x'], 'TM1001', /--all and --database/],
    [['--jobs', 'many', '--format', 'directory'], 'TM1001', /--jobs cannot be 'many'/],
    [['--jobs', '2'], 'TM2006', /--format directory/],
    [['--schema-only', '--data-only'], 'TM2006', /exclude each other/],
    [['--database', 'nothere'], 'TM2007', /no database nothere/],
  ]
  const listed = await idsIn('local')
  for (const [args, code, message] of cases) {
    const failure = failureOf(await scene.run('--json', 'dump', '--tools', tools, ...args))
    assert.equal(failure.code, code)
    assert.match(failure.message, message)
  }
  assert.deepEqual(await idsIn('local'), listed)
})
