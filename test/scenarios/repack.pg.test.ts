/**
 * Packs that an expiry has made smaller, on a real cluster: what is left restores with every row,
 * by Tidemark and by the reader that shares no code with it, and new backups go on from it.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { defaultMajor } from '../harness/postgres-binaries.ts'
import { rescueOk, rescueReaderMissing } from '../harness/rescue-reader.ts'
import { openRecovered, type ProtectedServer, protectServer } from './recovery-cluster.ts'

let cluster: ProtectedServer
let kept: string

interface Expired {
  readonly repositories: readonly {
    readonly repacking: { packs: number; bytesFreed: number; failed: unknown[] } | null
  }[]
}

const SUM = `SELECT count(*)::int AS rows, sum(hashtext(t::text))::text AS sum FROM kept AS t`

async function rowsOf(directory: string): Promise<unknown> {
  const server = await openRecovered(directory)
  try {
    return await server.sql(SUM)
  } finally {
    await server.dispose()
  }
}

/** The first backup holds a table that is gone by the second, beside one that stays. */
before(async () => {
  cluster = await protectServer({ major: defaultMajor() })
  const { server, config } = cluster
  const fill = 'SELECT n, md5(n::text) || md5((n * 7)::text) FROM generate_series(1, 40000) AS n'
  await server.sql(`CREATE TABLE gone AS ${fill}`)
  await server.sql(`CREATE TABLE kept AS ${fill}`)
  await server.sql(`CREATE TABLE also_gone AS ${fill}`)
  const text = readFileSync(config, 'utf8')
  writeFileSync(
    config,
    text.replace('    connection', '    retention: { last: 1 }\n    connection'),
  )
  await cluster.backup()
  await server.sql('DROP TABLE gone')
  await server.sql('DROP TABLE also_gone')
  await server.sql('UPDATE kept SET n = -n WHERE n % 1000 = 0')
  kept = await cluster.backup()
  await cluster.archiveNow()
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

function stored(): number {
  const [size] = execFileSync('du', ['-sb', join(cluster.repository, 'clusters/main/packs')])
    .toString()
    .split('\t')
  return Number(size)
}

test('what nobody needs any more is gone, and verify finds nothing amiss', async () => {
  const before = stored()
  const { stdout } = await cluster.ok('--json', 'expire', '--apply')
  const [{ repacking } = { repacking: null }] = (JSON.parse(stdout) as Expired).repositories
  assert.ok(repacking !== null && repacking.packs > 0, stdout)
  assert.ok(repacking.bytesFreed > 1024 * 1024, stdout)
  assert.deepEqual(repacking.failed, [])
  assert.ok(stored() < before - repacking.bytesFreed / 2)
  await cluster.ok('verify', '--full')
  await cluster.ok('verify', '--rebuild-catalogue')
  const { stdout: listed } = await cluster.ok('--json', 'list')
  assert.equal((JSON.parse(listed) as { backups: unknown[] }).backups.length, 1)
})

test('the backup that is left restores with every row', async () => {
  const into = cluster.path('restored')
  await cluster.ok('restore', '--into', into, '--to', `backup:${kept}`)
  assert.deepEqual(await rowsOf(into), await cluster.server.sql(SUM))
})

const skip = rescueReaderMissing()

test('so it does by the independent reader', { skip }, async () => {
  const into = cluster.path('rescued')
  await rescueOk(cluster.repository, 'restore', kept, into, '--fingerprints')
  const { runAs } = cluster.server
  const made = [into, `${into}.tablespaces`].filter((path) => existsSync(path))
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, ...made])
  assert.deepEqual(await rowsOf(into), await cluster.server.sql(SUM))
})

test('the next backup goes on from it, and --full --rewrite needs nothing of it', async () => {
  const next = await cluster.backup()
  const { stdout } = await cluster.ok('--json', 'show', next)
  const { backup } = JSON.parse(stdout) as { backup: { packAttempts: number; storedBytes: number } }
  assert.ok(backup.packAttempts > 1)
  assert.ok(backup.storedBytes < 1024 * 1024, `${backup.storedBytes} bytes stored`)
  const rewritten = await cluster.ok('--json', 'backup', '--full', '--rewrite')
  const [{ id } = { id: '' }] = (JSON.parse(rewritten.stdout) as { backups: { id: string }[] })
    .backups
  const shown = (await cluster.ok('--json', 'show', id)).stdout
  const alone = (JSON.parse(shown) as { backup: { packAttempts: number; comparedWith: unknown } })
    .backup
  assert.deepEqual([alone.packAttempts, alone.comparedWith], [1, null])
  await cluster.ok('expire', '--apply')
  await cluster.ok('verify', '--full')
  const into = cluster.path('restored-again')
  await cluster.ok('restore', '--into', into, '--to', `backup:${id}`)
  assert.deepEqual(await rowsOf(into), await cluster.server.sql(SUM))
})

test('--rewrite without --full is refused', async () => {
  const { status, stderr } = await cluster.run('backup', '--rewrite')
  assert.equal(status, 2)
  assert.match(stderr, /TM1001.*--rewrite goes with --full/)
})
