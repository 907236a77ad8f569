/** WAL that is lost: alarm, record, a new backup asked for, and the record known everywhere. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { readGaps } from '../../src/archive/gap-record.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { listSystemIdentities } from '../../src/repository/system-identity.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { startStreamedCluster, type StreamedCluster } from './streamed-cluster.ts'

interface StatusJson {
  readonly findings: readonly { readonly code: string; readonly result: string }[]
}

async function findsLoss(cluster: StreamedCluster, ...words: string[]): Promise<boolean> {
  const result = await cluster.run('--json', ...words)
  const { findings = [], checks = [] } = result.json<StatusJson & { checks?: [] }>()
  return [...findings, ...checks].some(
    (one: { code: string; result: string }) => one.code === 'TM1425' && one.result === 'problem',
  )
}

async function looseWal({ server }: StreamedCluster): Promise<void> {
  await server.sql("SELECT pg_drop_replication_slot('tidemark_main')")
  for (let round = 0; round < 4; round++) {
    await server.sql('INSERT INTO t SELECT generate_series(1, 20000)')
    await server.sql('SELECT pg_switch_wal()')
    await server.sql('CHECKPOINT')
  }
}

test('a gap is an alarm until a backup was taken behind it; sync brings its record', async () => {
  await using cluster = await startStreamedCluster()
  const { server, storage } = cluster
  await server.sql('CREATE TABLE t (n int)')
  await cluster.ok('backup')
  assert.equal((await cluster.receive('--once').done).status, 0)
  assert.equal(await findsLoss(cluster, 'status'), false)
  await looseWal(cluster)
  const { stdout, status } = await cluster.receive('--once').done
  assert.equal(status, 0)
  assert.match(stdout, /"event":"gap".*TM1425/)

  assert.equal(await findsLoss(cluster, 'status'), true)
  assert.equal(await findsLoss(cluster, 'doctor', '--no-proof'), true)
  assert.equal((await cluster.run('status', '--check')).status, 3)
  const listed = (await cluster.ok('--json', 'wal', 'list')).json<{
    servers: { strangers: string[] }[]
  }>()
  assert.deepEqual(listed.servers[0]?.strangers, [])
  await cluster.ok('backup')
  assert.equal(await findsLoss(cluster, 'status'), false)
  // It finds the hole, and nothing wrong with the record.
  assert.doesNotMatch((await cluster.run('--json', 'verify')).stdout, /\/gaps\//)

  const second = cluster.path('second')
  const other = await openStorage({ url: `file://${second}` })
  await createRepository(other, new Date())
  const { runAs } = server
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, second])
  const text = readFileSync(cluster.config, 'utf8')
  const both = text.replace('clusters:', `  other: { url: "file://${second}" }\nclusters:`)
  writeFileSync(cluster.config, both)
  await cluster.ok('sync', '--from', 'local', '--to', 'other')
  const [identity] = await listSystemIdentities(storage, 'main')
  const system = identity?.systemIdentifier ?? assert.fail('no server')
  const gaps = await readGaps(storage, 'main', system)
  assert.equal(gaps.length, 1)
  assert.deepEqual(await readGaps(other, 'main', system), gaps)
})
