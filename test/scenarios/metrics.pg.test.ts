/**
 * `metrics` of a real server: all well, its repository away while WAL piles up, the server gone,
 * and a file for the textfile collector that cannot be written.
 */
import assert from 'node:assert/strict'
import { appendFileSync, chmodSync, mkdirSync, readdirSync } from 'node:fs'
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { failureOf, tidemarkOk } from '../harness/tidemark.ts'
import { type ProtectedServer, protectServer } from './recovery-cluster.ts'

let cluster: ProtectedServer

before(async () => {
  cluster = await protectServer({ walSegmentSizeMb: 1 })
  const url = `file://${cluster.repository}`
  await cluster.ok('init', '--yes', '--connection', cluster.server.url(), '--repository', url)
  await cluster.backup()
  await cluster.archiveNow()
})

after(async () => {
  await cluster[Symbol.asyncDispose]()
})

/** By name and labels, as they stand in the text; the labels of cluster main are left out. */
function parse(text: string): Map<string, number> {
  const samples = new Map<string, number>()
  for (const line of text.split('\n')) {
    const [, name, labels = '', value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
    if (name === undefined) continue
    const key = labels
      .split(',')
      .filter((label) => !/^cluster="main"$|^repository="local"$/.test(label))
      .join()
    samples.set(`${name}${key === '' ? '' : `{${key}}`}`, Number(value?.replace('Inf', 'Infinity')))
  }
  return samples
}

async function read(...args: string[]): Promise<(name: string) => number | undefined> {
  const { stdout } = await cluster.ok('metrics', ...args)
  const samples = parse(stdout)
  return (name) => samples.get(`tidemark_${name}`)
}

async function fillSegments(count: number): Promise<void> {
  for (let written = 0; written < count; written++) {
    await cluster.server.sql("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000))")
    await cluster.server.sql('SELECT pg_switch_wal()')
  }
}

test('all is well: a file that appears whole, for everybody to read', async () => {
  mkdirSync(cluster.path('out'))
  chmodSync(cluster.path('out'), 0o777)
  const output = cluster.path('out/tidemark.prom')
  const { stdout } = await cluster.ok('metrics', '--output', output)
  assert.equal(stdout, '')
  assert.deepEqual(readdirSync(cluster.path('out')), ['tidemark.prom'])
  assert.equal(statSync(output).mode & 0o777, 0o644)
  const samples = parse(readFileSync(output, 'utf8'))
  const value = (name: string) => samples.get(`tidemark_${name}`)
  for (const up of ['scrape_success', 'server_up', 'wal_directory_up', 'repository_up']) {
    assert.equal(value(up), 1, up)
  }
  assert.deepEqual([value('backups'), value('archive_gaps{timeline="1"}')], [1, 0])
  assert.ok((value('archive_lag_bytes') ?? Infinity) < 1024 * 1024)
  assert.deepEqual([value('archive_wal_lost'), value('wal_ready_segments')], [0, 0])
  const start = value('recovery_window_start_timestamp_seconds{timeline="1"}') ?? 0
  const end = value('recovery_window_end_timestamp_seconds{timeline="1"}') ?? 0
  assert.ok(start > 1_700_000_000 && end >= start)
  assert.ok((value('last_backup_size_bytes') ?? 0) > 1024 * 1024)
  const position = value('server_wal_position_bytes') ?? 0
  const [row] = await cluster.server.sql<{ bytes: string }>(
    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::text AS bytes",
  )
  assert.ok(Number(row?.bytes) >= position && Number(row?.bytes) - position < 1024 * 1024)
})

test('the repository is away and WAL piles up: how long the disk lasts', async () => {
  renameSync(cluster.repository, cluster.path('elsewhere'))
  await fillSegments(6)
  const value = await read()
  const { stderr } = await cluster.ok('metrics')
  assert.match(stderr, /^main: repository local: TM1\d+: .+/m)
  assert.deepEqual([value('scrape_success'), value('server_up')], [0, 1])
  assert.deepEqual([value('repository_up'), value('archive_lag_bytes')], [0, undefined])
  const waiting = value('wal_ready_segments') ?? 0
  assert.ok(waiting >= 6, String(waiting))
  assert.equal(value('wal_ready_bytes'), waiting * 1024 * 1024)
  const free = value('wal_disk_free_bytes') ?? 0
  const rate = value('wal_written_bytes_per_second') ?? 0
  assert.ok(free > 0 && rate > 0)
  assert.ok(Math.abs((value('wal_disk_time_left_seconds') ?? 0) / (free / rate) - 1) < 1e-6)
})

test('a repository that never answers is given up, and the disk is told of', async () => {
  const config = cluster.path('slow.yaml')
  const url = `file://${cluster.path('slow')}`
  const slow = `slow: { url: "${url}", encryption: { keyCommand: sleep 6 } }`
  const text = readFileSync(cluster.config, 'utf8')
  writeFileSync(config, text.replace('repositories:\n', `repositories:\n  ${slow}\n`), {
    mode: 0o644,
  })
  const words = ['--config', config, 'metrics', '--timeout', '2']
  const { stdout, stderr } = await tidemarkOk(words, { runAs: cluster.server.runAs })
  assert.match(stderr, /^main: repository slow did not answer in time$/m)
  const samples = parse(stdout)
  assert.equal(samples.get('tidemark_repository_up{repository="slow"}'), 0)
  assert.ok((samples.get('tidemark_wal_disk_time_left_seconds') ?? Infinity) < Infinity)
})

test('one cluster that is nowhere does not hide the other', async () => {
  const nowhere = `"postgresql:///postgres?host=${cluster.path('nowhere')}"`
  appendFileSync(cluster.config, `  other:\n    connection: ${nowhere}\n`)
  const value = await read()
  assert.deepEqual([value('server_up'), value('server_up{cluster="other"}')], [1, 0])
  assert.equal(value('repository_up{cluster="other"}'), 0)
  const one = await read('main')
  assert.equal(one('server_up{cluster="other"}'), undefined)
})

test('without the server its pg_wal is read, once a repository says where it is', async () => {
  await cluster.server.stop()
  const blind = await read('main')
  assert.deepEqual([blind('server_up'), blind('wal_directory_up')], [0, 0])
  renameSync(cluster.path('elsewhere'), cluster.repository)
  const value = await read('main')
  assert.deepEqual([value('server_up'), value('repository_up')], [0, 1])
  assert.deepEqual([value('wal_directory_up'), value('scrape_success')], [1, 0])
  assert.ok((value('wal_ready_segments') ?? 0) >= 6)
  assert.ok((value('wal_disk_time_left_seconds') ?? Infinity) < Infinity)
  assert.ok((value('archive_last_segment_age_seconds') ?? -1) >= 0)
  const control = join(cluster.server.dataDirectory, 'global/pg_control')
  renameSync(control, `${control}.gone`)
  const unknown = await read('main')
  renameSync(`${control}.gone`, control)
  assert.equal(unknown('wal_directory_up'), 0, 'it is not known to be that of the server')
})

test('a file that cannot be replaced stays, and is a failure; so is wrong usage', async () => {
  const output = cluster.path('out/tidemark.prom')
  const old = readFileSync(output, 'utf8')
  chmodSync(cluster.path('out'), 0o555)
  const refused = await cluster.run('--json', 'metrics', 'main', '--output', output)
  chmodSync(cluster.path('out'), 0o777)
  assert.deepEqual([refused.status, failureOf(refused).code], [1, 'TM1484'])
  assert.match(failureOf(refused).because ?? '', /permission denied/)
  assert.equal(readFileSync(output, 'utf8'), old)
  assert.deepEqual(readdirSync(cluster.path('out')), ['tidemark.prom'])
  assert.equal((await cluster.run('metrics', 'mian')).status, 2)
  assert.equal((await cluster.run('metrics', '--timeout', '0')).status, 2)
})
