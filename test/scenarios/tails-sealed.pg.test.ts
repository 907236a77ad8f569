/**
 * What was flushed and nothing else is left, in encrypted repositories: in a directory, where it
 * is a journal, and on an S3 server, where it is pieces. A restore has every acknowledged row.
 */
import assert from 'node:assert/strict'
import { chownSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { loadConfiguration } from '../../src/config/load-configuration.ts'
import { openRepositoryStorage } from '../../src/config/unlock-storage.ts'
import { type Lsn, parseLsn, segmentNumber, segmentStart } from '../../src/postgres/lsn.ts'
import { openWalSink } from '../../src/receive/wal-sink.ts'
import { collect } from '../harness/faulty-storage.ts'
import { WalFeeder } from '../harness/feed-sink.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { startS3Server, whyNoS3Server } from '../harness/s3-server.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { tidemarkOk } from '../harness/tidemark.ts'
import { openRecovered } from './recovery-cluster.ts'

const MB = 1024 * 1024

interface Place {
  readonly url: (directory: string) => Promise<string>
  readonly secret?: string | undefined
  /** More of `init`. */
  readonly options: (secretFile: string) => readonly string[]
  /** How a tail looks there. */
  readonly suffix: string
}

async function prove(place: Place): Promise<void> {
  const settings = { archive_mode: 'on', wal_level: 'replica' }
  await using server = await startPostgres({ settings, walSegmentSizeMb: 1 })
  const directory = temporaryDirectory(server.runAs, 'tidemark-tails-')
  const config = join(directory, 'tidemark.yaml')
  const write = (name: string, text: string): string => {
    const path = join(directory, name)
    writeFileSync(path, `${text}\n`, { mode: 0o600 })
    if (server.runAs !== undefined) chownSync(path, server.runAs.uid, server.runAs.gid)
    return path
  }
  const keyFile = write('key', 'a7'.repeat(32))
  const options = place.options(write('secret', place.secret ?? ''))
  const ok = async (...args: string[]) =>
    await tidemarkOk(['--config', config, ...args], { runAs: server.runAs })
  const where = ['--connection', server.url(), '--repository', await place.url(directory)]
  await ok('init', '--yes', ...where, '--key-file', keyFile, '--configure', ...options)
  await server.sql('CREATE TABLE marks (number int)')
  await ok('backup')
  const rows = await streamAndDie(server, config, place.suffix)
  const into = join(directory, 'copy')
  await ok('restore', '--into', into, '--to', 'latest')
  {
    await using copy = await openRecovered(into)
    const found = await copy.sql('SELECT count(*)::int AS rows FROM marks')
    assert.deepEqual(found, [{ rows }])
  }
  // Ends with another status where something does not hold.
  await ok('verify')
  await removeDirectory(directory)
}

/** Gives the number of rows that were acknowledged when the server was killed. */
async function streamAndDie(
  server: PostgresServer,
  config: string,
  suffix: string,
): Promise<number> {
  const [repository] =
    loadConfiguration(config, process.env).clusters.get('main')?.repositories ?? []
  assert.ok(repository !== undefined)
  const storage = await openRepositoryStorage(repository, process.env)
  const [row] = await server.sql<{ id: string; lsn: string }>(
    'SELECT system_identifier::text AS id, pg_current_wal_lsn()::text AS lsn FROM pg_control_system()',
  )
  const opened = await openWalSink({
    required: [storage],
    cluster: 'main',
    systemIdentifier: row?.id ?? '',
    flushEveryMs: 0,
  })
  const now = segmentNumber(parseLsn(row?.lsn ?? '') as Lsn, MB)
  const lsn = opened.resume?.lsn ?? segmentStart(now, MB)
  const feeder = new WalFeeder(server, opened.sink, MB, { timeline: 1, lsn })
  let rows = 0
  for (const more of [1, 20_000, 5, 30_000, 1, 1]) {
    await server.sql(`INSERT INTO marks SELECT generate_series(1, ${more})`)
    rows += more
    await feeder.feed()
  }
  await server.kill()
  // What it had started may still write there.
  rmSync(server.dataDirectory, { recursive: true, maxRetries: 20, retryDelay: 100 })
  await opened.sink.close()
  const prefix = `clusters/main/wal/${row?.id}/`
  const keys = (await collect(storage.list(prefix))).map(({ key }) => key)
  assert.ok(
    keys.some((key) => key.endsWith(suffix)),
    keys.join('\n'),
  )
  await storage.close()
  return rows
}

test('a directory that is encrypted', async () => {
  await prove({
    url: async (directory) => `file://${directory}/repository`,
    options: () => [],
    suffix: '.journal',
  })
})

test('an S3 server, encrypted', { skip: whyNoS3Server() ?? false }, async () => {
  const store = await startS3Server()
  try {
    const bucket = await store.createBucket()
    await prove({
      url: async () => `s3://${bucket}/main`,
      secret: store.settings.secretAccessKey,
      options: (secretFile) => [
        ...['--region', 'us-east-1', '--endpoint', store.endpoint, '--path-style'],
        ...['--access-key-id', store.settings.accessKeyId ?? ''],
        ...['--secret-access-key', `file:${secretFile}`],
      ],
      suffix: '.piece',
    })
  } finally {
    await store.stop()
  }
})
