/** A backup that was taken from a standby, through to a promoted server. */
import assert from 'node:assert/strict'
import { appendFileSync, chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatSettings, openServerOn, type PostgresServer } from '../harness/postgres-server.ts'
import { serverUser } from '../harness/server-user.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { tidemark } from '../harness/tidemark.ts'
import { checkInvariant, createBench, startLoad } from '../harness/workload.ts'
import { openRecovered, type ProtectedServer, protectServer } from './recovery-cluster.ts'

async function openStandby(primary: PostgresServer): Promise<PostgresServer> {
  const data = join(temporaryDirectory(serverUser()), 'data')
  await primary.tool('pg_basebackup', ['-D', data, '-X', 'stream', '-c', 'fast'])
  writeFileSync(join(data, 'standby.signal'), '')
  const conninfo = `host=${primary.socketDirectory} port=${primary.port} user=postgres`
  appendFileSync(join(data, 'postgresql.auto.conf'), formatSettings({ primary_conninfo: conninfo }))
  return await openServerOn(data, { settings: { hot_standby: 'on', archive_mode: 'on' } })
}

/** The same repository, with the standby as the server that is backed up. */
function configureStandby(cluster: ProtectedServer, standby: PostgresServer): string {
  const config = cluster.path('standby.yaml')
  writeFileSync(
    config,
    `repositories:\n  local: { url: "file://${cluster.repository}" }\n` +
      `clusters:\n  main:\n    connection: "${standby.url()}"\n`,
  )
  const { runAs } = cluster.server
  if (runAs !== undefined) chownSync(config, runAs.uid, runAs.gid)
  return config
}

/** The primary's segments are switched until `work` is done: a standby cannot do that. */
async function whileSwitching<T>(primary: PostgresServer, work: Promise<T>): Promise<T> {
  let isDone = false
  const switching = (async () => {
    while (!isDone) {
      await primary.sql('SELECT pg_switch_wal()')
      await sleep(300)
    }
  })()
  try {
    return await work
  } finally {
    isDone = true
    await switching
  }
}

test('a standby is backed up under load, and its backup becomes a server', async () => {
  await using cluster = await protectServer()
  const { server: primary } = cluster
  await createBench(primary, 2)
  await using standby = await openStandby(primary)
  const config = configureStandby(cluster, standby)
  const load = await startLoad(primary)
  const { runAs } = primary
  const backup = async (): Promise<string> => {
    const words = ['--config', config, '--json', 'backup']
    const taken = await whileSwitching(primary, tidemark(words, { runAs }))
    assert.equal(taken.status, 0, taken.stdout + taken.stderr)
    const [{ id, takenFromStandby } = { id: '', takenFromStandby: false }] = taken.json<{
      backups: { id: string; takenFromStandby: boolean }[]
    }>().backups
    assert.ok(takenFromStandby)
    return id
  }
  await backup()
  await sleep(500)
  const second = await backup()
  await load.stop()
  await cluster.archiveNow()
  const last = await checkInvariant(primary)

  for (const target of ['latest', 'immediate', `backup:${second}`]) {
    const into = cluster.path(target.replace(/\W.*/, ''))
    await cluster.ok('restore', '--into', into, '--to', target)
    await primary.tool('pg_verifybackup', ['-n', into])
    await using copy = await openRecovered(into)
    const found = await checkInvariant(copy)
    if (target === 'latest') assert.deepEqual(found, last)
    const [row] = await copy.sql('SHOW archive_mode')
    assert.deepEqual(row, { archive_mode: 'off' })
  }
})
