/**
 * A repository on a real S3 server, from init to a restored cluster, with every command of the
 * way, and a backup that is killed while its packs are on their way.
 */
import assert from 'node:assert/strict'
import { chownSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe, test } from 'node:test'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { type S3Server, startS3Server, whyNoS3Server } from '../harness/s3-server.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { type RunningTidemark, startTidemark, type TidemarkResult } from '../harness/tidemark.ts'
import { checkInvariant, createBench, startLoad } from '../harness/workload.ts'
import { archiveNow, openRecovered } from './recovery-cluster.ts'

let store: S3Server
let server: PostgresServer
let directory: string
let config: string
let bucket: string
let secretFile: string
let marked: string

/** What a command printed must not hold the secret; every call here looks. */
async function run(...args: string[]): Promise<TidemarkResult> {
  const result = await begin(...args).done
  const secret = store.settings.secretAccessKey ?? ''
  assert.ok(!`${result.stdout}${result.stderr}`.includes(secret), `${args[0]} tells the secret`)
  return result
}

const begin = (...args: string[]) =>
  startTidemark(['--config', config, ...args], { runAs: server.runAs })

async function ok(...args: string[]): Promise<TidemarkResult> {
  const result = await run(...args)
  assert.equal(result.status, 0, `${args.join(' ')}\n${result.stdout}${result.stderr}`)
  return result
}

async function init(repository: string): Promise<TidemarkResult> {
  const place = ['--connection', server.url(), '--repository', repository, '--configure']
  const address = ['--region', 'us-east-1', '--endpoint', store.endpoint, '--path-style']
  const keys = ['--access-key-id', store.settings.accessKeyId ?? '']
  const secret = ['--secret-access-key', `file:${secretFile}`]
  return await run('init', '--yes', ...place, ...address, ...keys, ...secret)
}

interface BackupJson {
  readonly id: string
  readonly comparedWith: string | null
}

async function backUp(...args: string[]): Promise<BackupJson> {
  const { backups } = (await ok('backup', '--json', ...args)).json<{ backups: BackupJson[] }>()
  return backups[0] as BackupJson
}

/** Begins a backup that a limit slows down, and gives it once its first upload is under way. */
async function beginSlowly(bandwidth: string): Promise<RunningTidemark> {
  const text = readFileSync(config, 'utf8')
  writeFileSync(config, text.replace(/( +)region:/, `$1bandwidth: ${bandwidth}\n$1region:`))
  const backup = begin('backup', '--workers', '1')
  for (let tries = 0; (await store.openUploads(bucket)).length === 0; tries++) {
    assert.ok(tries < 2000, 'no upload was begun')
    await sleep(10)
  }
  writeFileSync(config, text)
  return backup
}

async function notes(): Promise<string[]> {
  return (await store.allKeys(bucket)).filter((key) => key.includes('.incoming'))
}

async function listed(): Promise<string[]> {
  const { backups } = (await ok('list', '--json')).json<{ backups: { id: string }[] }>()
  return backups.map(({ id }) => id)
}

describe('a repository on an S3 server', { skip: whyNoS3Server() ?? false }, () => {
  before(async () => {
    store = await startS3Server()
    server = await startPostgres({ settings: { archive_mode: 'on', wal_level: 'replica' } })
    directory = temporaryDirectory(server.runAs, 'tidemark-s3-repository-')
    config = join(directory, 'tidemark.yaml')
    secretFile = join(directory, 's3.secret')
    writeFileSync(secretFile, `${store.settings.secretAccessKey}\n`, { mode: 0o600 })
    if (server.runAs !== undefined) chownSync(secretFile, server.runAs.uid, server.runAs.gid)
    bucket = await store.createBucket()
    await createBench(server, 2)
  })

  after(async () => {
    await server?.dispose()
    await store?.stop()
    if (directory !== undefined) await removeDirectory(directory)
  })

  test('init refuses what cannot be reached, and writes nothing', async () => {
    const missing = await init('s3://no-such-bucket/main')
    assert.equal(missing.status, 1)
    assert.match(missing.stderr, /TM1511: .*\n {2}because: .* has no bucket no-such-bucket/)
    assert.match(missing.stderr, /fix: create the bucket no-such-bucket/)
    assert.throws(() => readFileSync(config))
  })

  test('init writes the configuration without the secret, and again changes nothing', async () => {
    const first = await init(`s3://${bucket}/main`)
    assert.equal(first.status, 0, first.stderr)
    const text = readFileSync(config, 'utf8')
    assert.match(text, /url: s3:\/\/test-1\/main/)
    assert.match(text, /secretAccessKey: file:\//)
    const again = await init(`s3://${bucket}/main`)
    assert.equal(again.status, 0, again.stderr)
    assert.equal(readFileSync(config, 'utf8'), text)
    const keys = await store.allKeys(bucket)
    assert.ok(keys.includes('main/tidemark.repository'))
    assert.deepEqual(
      keys.filter((key) => key.includes('probe')),
      [],
    )
  })

  test('doctor proves archiving through the store', async () => {
    const { stdout } = await run('doctor', '--json')
    const { checks } = JSON.parse(stdout) as { checks: { code: string; result: string }[] }
    assert.deepEqual(
      checks.filter(({ result }) => result === 'problem'),
      [],
    )
    assert.equal(checks.find(({ code }) => code === 'TM1711')?.result, 'ok')
  })

  describeBackups()
  describeTrouble()
})

function describeBackups(): void {
  test('backup under load, an incremental one, and every command that reads', async () => {
    const load = await startLoad(server)
    const first = await backUp('--workers', '2')
    const second = await backUp()
    const [row] = await server.sql<{ lsn: string; rows: string }>(
      `SELECT pg_current_wal_lsn()::text AS lsn`,
    )
    marked = row?.lsn ?? ''
    await load.stop()
    await archiveNow(server)
    assert.equal(first.comparedWith, null)
    assert.equal(second.comparedWith, first.id)
    assert.deepEqual(await listed(), [first.id, second.id])
    await ok('show', second.id)
    await ok('window')
    const status = (await ok('status', '--json')).json<{ repositories: { backups: number }[] }>()
    assert.equal(status.repositories[0]?.backups, 2)
    assert.doesNotMatch(JSON.stringify(status), /secretAccessKey/)
  })

  test('restore to a moment in the middle of the load', async () => {
    const into = join(directory, 'copy')
    await ok('restore', '--into', into, '--to', `lsn:${marked}`)
    await using copy = await openRecovered(into)
    const { transactions } = await checkInvariant(copy)
    assert.ok(transactions > 0)
  })

  test('everything that is stored is proved', async () => {
    await ok('verify', '--full')
    await ok('verify')
  })
}

function describeTrouble(): void {
  test('a killed backup shows nothing, and the next one takes its uploads away', async () => {
    const before = await listed()
    await server.sql(
      `CREATE TABLE bulk AS SELECT n, (SELECT string_agg(md5(random()::text || n || m), '')
         FROM generate_series(1, 30) AS m) AS filler FROM generate_series(1, 40000) AS n`,
    )
    // The commit of a pack waits for its turn: time enough to be killed in.
    const backup = await beginSlowly('1MB/s')
    // Between an upload's begin and its note lies a window, after which only age tells.
    for (let tries = 0; (await notes()).length === 0; tries++) {
      assert.ok(tries < 2000, 'no note was written')
      await sleep(10)
    }
    backup.kill('SIGKILL')
    await backup.done
    const uploads = await store.openUploads(bucket)
    assert.ok(uploads.length > 0)
    const keys = await store.allKeys(bucket)
    for (const upload of uploads) assert.ok(!keys.includes(upload), `${upload} is visible`)
    assert.deepEqual(await listed(), before)

    const next = await backUp()
    assert.deepEqual(await listed(), [...before, next.id])
    assert.deepEqual(await store.openUploads(bucket), [])
    assert.deepEqual(await notes(), [])
    const into = join(directory, 'copy2')
    await ok('restore', '--into', into, '--to', 'latest')
    await using copy = await openRecovered(into)
    await checkInvariant(copy)
    const [row] = await copy.sql('SELECT count(*)::int AS rows FROM bulk')
    assert.equal(row?.['rows'], 40000)
  })

  test('a backup that is interrupted takes its uploads away itself', async () => {
    const before = await listed()
    await server.sql('UPDATE bulk SET filler = reverse(filler)')
    const backup = await beginSlowly('8MB/s')
    backup.kill('SIGTERM')
    const { status } = await backup.done
    assert.notEqual(status, 0)
    assert.deepEqual(await store.openUploads(bucket), [])
    assert.deepEqual(await notes(), [])
    assert.deepEqual(await listed(), before)
  })

  test('a wrong secret is said, and proves no absence to a recovering server', async () => {
    writeFileSync(secretFile, 'wrong\n')
    const list = await run('list')
    assert.equal(list.status, 1)
    assert.match(list.stderr, /TM1510: .*\n {2}because: .*secretAccessKey is not the one of/)
    const get = await run('wal', 'get', '0000000100000000000000FF', join(directory, 'x'))
    assert.equal(get.status, 255)
    writeFileSync(secretFile, `${store.settings.secretAccessKey}\n`)
    const absent = await run('wal', 'get', '0000000100000000000000FF', join(directory, 'x'))
    assert.equal(absent.status, 44)
  })
}
