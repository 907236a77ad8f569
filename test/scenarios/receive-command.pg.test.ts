/** The commands around a streamed cluster: init, doctor, backup, wal receive, restore. */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PostgresServer } from '../harness/postgres-server.ts'
import { openRecovered } from './recovery-cluster.ts'
import { startStreamedCluster, type StreamedCluster } from './streamed-cluster.ts'

interface CheckJson {
  readonly code: string
  readonly result: string
}

async function checksOf(cluster: StreamedCluster): Promise<Map<string, string>> {
  const { checks } = (await cluster.run('--json', 'doctor')).json<{ checks: CheckJson[] }>()
  return new Map(checks.map(({ code, result }) => [code, result]))
}

interface Line {
  readonly event: string
  readonly [key: string]: unknown
}

function linesOf(stdout: string): Line[] {
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)
}

async function waitUntilStreamed(server: PostgresServer): Promise<void> {
  for (;;) {
    const rows = await server.sql('SELECT 1 FROM pg_replication_slots WHERE active')
    if (rows.length > 0) return
    await sleep(50)
  }
}

test('from init to a restore of what was flushed, without archive_mode', async () => {
  await using cluster = await startStreamedCluster()
  const { server } = cluster
  const slots = async (): Promise<unknown[]> =>
    await server.sql('SELECT slot_name, restart_lsn IS NOT NULL AS keeps FROM pg_replication_slots')
  const connection = server.url()
  const url = cluster.storage.url
  const init = await cluster.ok(
    '--json',
    'init',
    '--connection',
    connection,
    '--repository',
    url,
    '-y',
  )
  assert.equal(init.json()['slot'], 'tidemark_main')
  assert.deepEqual(await slots(), [{ slot_name: 'tidemark_main', keeps: true }])

  const before = await checksOf(cluster)
  assert.equal(before.get('TM1430'), 'ok')
  assert.equal(before.get('TM1431'), 'problem', 'nobody receives')
  assert.equal(before.get('TM1433'), 'warning')
  assert.equal(before.has('TM1705'), false)

  await server.sql('CREATE TABLE t (n int)')
  await cluster.ok('backup')
  const receiver = cluster.receive()
  await waitUntilStreamed(server)
  await server.sql('INSERT INTO t SELECT generate_series(1, 1000)')
  const during = await checksOf(cluster)
  assert.equal(during.get('TM1431'), 'ok')
  assert.equal(during.get('TM1719'), 'ok', 'the proof came through the receiver')
  const status = await cluster.run('status', '--check')
  assert.equal(status.status, 0, status.stdout)
  const walStatus = await cluster.run('wal', 'status', '--check')
  assert.equal(walStatus.status, 0, walStatus.stdout)
  const metrics = (await cluster.ok('metrics')).stdout
  const slot = '\\{cluster="main",slot="tidemark_main"\\}'
  for (const sample of ['connected\\S+ 1', `slot_lost${slot} 0`, `lag_bytes${slot} \\d+`]) {
    assert.match(metrics, new RegExp(`^tidemark_receiver_${sample}$`, 'm'))
  }
  assert.match(metrics, /^tidemark_archive_position_bytes\{.*\} [1-9]\d+$/m)
  await server.sql('INSERT INTO t SELECT generate_series(1, 10)')
  receiver.kill('SIGTERM')
  const ended = await receiver.done
  assert.equal(ended.status, 0, ended.stderr)
  const lines = linesOf(ended.stdout)
  assert.deepEqual(
    lines.slice(0, 2).map(({ event }) => event),
    ['connected', 'streaming'],
  )
  assert.equal(lines.at(-1)?.event, 'ended')

  await server.sql('INSERT INTO t SELECT generate_series(1, 7)')
  const once = cluster.receive('--once')
  assert.equal((await once.done).status, 0)
  await server.kill()
  rmSync(server.dataDirectory, { recursive: true })
  const directory = cluster.path('restored')
  await cluster.ok('restore', '--into', directory, '--to', 'latest')
  await using copy = await openRecovered(directory)
  assert.deepEqual(await copy.sql('SELECT count(*)::int AS n FROM t'), [{ n: 1017 }])
})

test('a backup makes the slot; a server that is not known is refused at once', async () => {
  await using cluster = await startStreamedCluster()
  const unknown = await cluster.receive('--once').done
  assert.equal(unknown.status, 1)
  const failed = linesOf(unknown.stdout).at(-1)
  assert.equal(failed?.event, 'failed')
  assert.match(JSON.stringify(failed), /TM1407/)
  const slots = 'SELECT slot_name FROM pg_replication_slots'
  assert.deepEqual(await cluster.server.sql(slots), [], 'nothing is kept for a receiver in vain')
  await cluster.ok('backup')
  const [slot] = await cluster.server.sql(slots)
  assert.equal(slot?.['slot_name'], 'tidemark_main')
  const wrong = await cluster.receive('--until', 'nowhere').done
  assert.equal(wrong.status, 2)
})
