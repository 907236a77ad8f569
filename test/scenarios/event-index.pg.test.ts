/**
 * The event index of a real archive: written behind `wal push`, computed by `wal index`,
 * proved by `verify`, removed with its segments by `expire`, brought by `sync`.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatArchiveCommand } from '../../src/cli/archive-command.ts'
import { TIDEMARK } from '../harness/tidemark.ts'
import { filesBelow, type ProtectedServer, protectServer } from './recovery-cluster.ts'

interface IndexReport {
  readonly servers: readonly {
    readonly segments: number
    readonly built: number
    readonly failed: readonly { readonly name: string; readonly code: string }[]
  }[]
}

let cluster: ProtectedServer

before(async () => {
  cluster = await protectServer({ walSegmentSizeMb: 1 })
  const url = `file://${cluster.repository}`
  await cluster.ok('init', '--yes', '--connection', cluster.server.url(), '--repository', url)
  const command = { program: TIDEMARK, configuration: cluster.config, cluster: 'main' }
  const setting = formatArchiveCommand(command).replaceAll("'", "''")
  await cluster.server.sql(`ALTER SYSTEM SET archive_command = '${setting}'`)
  await cluster.server.sql('SELECT pg_reload_conf()')
  await cluster.ok('backup')
  for (let round = 0; round < 3; round++) {
    await cluster.server.sql('CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS n')
    await cluster.server.sql(`INSERT INTO t SELECT generate_series(1, 100)`)
    await cluster.archiveNow()
  }
})

after(async () => {
  await cluster[Symbol.asyncDispose]()
})

const stored = (form: RegExp): string[] =>
  filesBelow(cluster.repository)
    .filter((path) => form.test(path))
    .map((path) => join(cluster.repository, path))
const segments = (): string[] => stored(/\/wal\/.*\.wal$/)
const indexes = (): string[] => stored(/\.events$/)

async function index(...options: string[]): Promise<IndexReport['servers'][number]> {
  const { servers } = (await cluster.run('--json', 'wal', 'index', ...options)).json<IndexReport>()
  assert.equal(servers.length, 1)
  return servers[0] as IndexReport['servers'][number]
}

async function waitUntil(holds: () => boolean, what: string): Promise<void> {
  for (let waited = 0; waited < 600; waited++) {
    if (holds()) return
    await sleep(50)
  }
  assert.fail(what)
}

/** Command lines of what was left behind for this cluster. */
function leftBehind(): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
      return line.includes('--index-noted') && line.includes(cluster.config) ? [line] : []
    } catch {
      return []
    }
  })
}

test('indexes are written behind wal push; wal index computes missing ones, and all', async () => {
  const acknowledgements = join(cluster.server.dataDirectory, 'tidemark.acks')
  const noted = (): string[] =>
    filesBelow(join(acknowledgements, 'index')).filter((name) => /^[0-9A-F]{24}$/.test(name))
  await waitUntil(() => indexes().length >= 3 && noted().length === 0, 'no indexes')
  await waitUntil(() => leftBehind().length === 0, 'a process stays')
  const first = await index()
  assert.deepEqual(first.failed, [])
  assert.equal(indexes().length, segments().length)
  const bytes = new Map(indexes().map((path) => [path, readFileSync(path)]))
  const [one] = indexes()
  rmSync(one as string)
  assert.equal((await index()).built, 1)
  const all = await index('--rebuild')
  assert.equal(all.built, all.segments)
  for (const [path, content] of bytes) assert.deepEqual(readFileSync(path), content, path)
  assert.equal((await index()).built, 0)
})

test('a damaged index: verify notes it, and wal index --rebuild mends it', async () => {
  const [path] = indexes()
  const whole = readFileSync(path as string)
  const damaged = Buffer.from(whole)
  damaged[100] = (damaged[100] as number) ^ 1
  writeFileSync(path as string, damaged)
  const verified = await cluster.ok('verify', '--full')
  assert.match(verified.stdout + verified.stderr, /wal index --rebuild/)
  await cluster.ok('wal', 'index', '--rebuild')
  assert.deepEqual(readFileSync(path as string), whole)
  const again = await cluster.ok('verify', '--full')
  assert.doesNotMatch(again.stdout + again.stderr, /wal index --rebuild/)
})

test('a damaged segment is named, and the others get their index', async () => {
  const last = segments().sort().at(-1) as string
  const whole = readFileSync(last)
  const damaged = Buffer.from(whole)
  damaged[200] = (damaged[200] as number) ^ 1
  writeFileSync(last, damaged)
  const result = await cluster.run('--json', 'wal', 'index', '--rebuild')
  assert.equal(result.status, 3)
  const [{ failed, built, segments: all } = { failed: [], built: 0, segments: 0 }] =
    result.json<IndexReport>().servers
  assert.deepEqual(
    failed.map(({ code }) => code),
    ['TM1601'],
  )
  assert.equal(built, all - 1)
  writeFileSync(last, whole)
})

test('a server that is killed takes the process with it; its backups have no names', async () => {
  await cluster.server.sql('CREATE TABLE u AS SELECT generate_series(1, 20000) AS n')
  await cluster.archiveNow()
  await cluster.server.stop('immediate')
  await waitUntil(() => leftBehind().length === 0, 'it outlives its server')
  await cluster.server.start()
  await cluster.archiveNow()
  await cluster.ok('backup')
  const directory = cluster.path('restored')
  await cluster.ok('restore', '--into', directory, '--to', 'latest')
  assert.deepEqual(filesBelow(join(directory, 'tidemark.acks')), [])
})
