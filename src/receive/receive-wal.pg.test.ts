/** A receiver beside pg_receivewal, through restarts, cuts and silence. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, chownSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { makeArchive, startReceiver, type TestArchive } from '../../test/harness/receiver.ts'
import { startCuttingProxy } from '../../test/harness/cutting-proxy.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { type Lsn, parseLsn, parseSegmentName } from '../postgres/lsn.ts'

const MB = 1 << 20

async function currentLsn(server: PostgresServer): Promise<Lsn> {
  const [row] = await server.sql<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn')
  return parseLsn(row?.lsn ?? '') ?? (0n as Lsn)
}

async function write(server: PostgresServer, rows = 2000): Promise<void> {
  await server.sql('CREATE TABLE IF NOT EXISTS t (a int, b text)')
  await server.sql(
    `INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, ${rows}) g`,
  )
}

/** Ends the present segment, so that it is complete. */
async function switchSegment(server: PostgresServer): Promise<void> {
  await server.sql('SELECT pg_switch_wal()')
  await server.sql('CREATE TABLE IF NOT EXISTS after_switch ()')
}

interface ReceiveWal {
  readonly files: () => Promise<Map<string, Buffer>>
  stop(): Promise<void>
}

function startPgReceivewal(server: PostgresServer, major: number): ReceiveWal | undefined {
  const program = findTool('pg_receivewal', major)
  if (program === undefined) return undefined
  const directory = join(temporaryDirectory(server.runAs), 'wal')
  mkdirSync(directory)
  if (server.runAs !== undefined) chownSync(directory, server.runAs.uid, server.runAs.gid)
  const args = ['-D', directory, '-h', server.socketDirectory, '-p', String(server.port)]
  const slot = ['-S', 'theirs', '-U', server.user, '--no-loop']
  const child = spawn(program, [...args, ...slot], { stdio: 'ignore', ...server.runAs })
  const ended = new Promise((resolve) => child.on('close', resolve))
  return {
    async files() {
      const names = readdirSync(directory).filter((name) => /^[0-9A-F]{24}$/.test(name))
      return new Map(names.map((name) => [name, readFileSync(join(directory, name))]))
    },
    async stop() {
      child.kill('SIGINT')
      await ended
    },
  }
}

async function compareWithPgWal(server: PostgresServer, archive: TestArchive): Promise<number> {
  const directory = join(server.dataDirectory, 'pg_wal')
  let compared = 0
  for (const name of readdirSync(directory)) {
    const parsed = parseSegmentName(name, archive.walSegmentSizeBytes)
    if (parsed === undefined) continue
    const archived = await archive.segment(parsed.timeline, parsed.segment)
    if (archived === undefined) continue
    assert.ok(archived.equals(readFileSync(join(directory, name))), name)
    compared++
  }
  return compared
}

for (const major of [13, 15, 17, 18]) {
  test(`PostgreSQL ${major}: the same bytes as pg_receivewal in the same run`, async (t) => {
    const server = await startPostgres({
      major,
      walSegmentSizeMb: 1,
      settings: { wal_keep_size: '64MB' },
    })
    t.after(async () => await server.dispose())
    const archive = await makeArchive(server)
    await server.sql("SELECT pg_create_physical_replication_slot('theirs', true)")
    const theirs = startPgReceivewal(server, Math.max(major, 15))
    assert.ok(theirs)
    await using receiver = startReceiver(archive, [server.url()])
    await receiver.until(() => receiver.heard('streaming') > 0)
    await write(server, 4000)
    await server.tool('pgbench', ['-i', '-s', '1', '-q', 'postgres'])
    await server.tool('pgbench', ['-c', '2', '-t', '100', '-n', 'postgres'])
    await switchSegment(server)
    const end = await currentLsn(server)
    await receiver.until(() => receiver.flushed() >= end)
    await receiver.stop()
    await theirs.stop()
    const files = await theirs.files()
    assert.ok(files.size > 10, `${files.size} segments`)
    for (const [name, bytes] of files) {
      const { timeline, segment } = parseSegmentName(name, MB) ?? assert.fail(name)
      assert.ok((await archive.segment(timeline, segment))?.equals(bytes), name)
    }
    assert.deepEqual(receiver.failures(), [])
  })
}

test('restarts, kill -9 of the server, cuts in the middle of a message', async (t) => {
  const server = await startPostgres({ walSegmentSizeMb: 1, settings: { wal_keep_size: '64MB' } })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  const proxy = await startCuttingProxy(join(server.socketDirectory, `.s.PGSQL.${server.port}`))
  t.after(async () => await proxy.close())
  await using receiver = startReceiver(archive, [proxy.url])
  await receiver.until(() => receiver.heard('streaming') > 0)
  await write(server)
  await server.restart()
  await write(server)
  await server.kill()
  await server.start()
  for (const bytes of [40_007, 131_077, 300_001]) {
    const before = receiver.heard('streaming')
    proxy.cutAfter(bytes)
    await write(server)
    await receiver.until(() => receiver.heard('streaming') > before)
  }
  proxy.cutAfter(undefined)
  await switchSegment(server)
  const end = await currentLsn(server)
  await receiver.until(() => receiver.flushed() >= end)
  assert.ok(receiver.heard('disconnected') >= 5)
  assert.ok((await compareWithPgWal(server, archive)) > 5)
  await receiver.stop()
})

test('an idle stream outlives the timeouts of both sides', async (t) => {
  const settings = { wal_sender_timeout: '600ms' }
  const server = await startPostgres({ walSegmentSizeMb: 1, settings })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  await using receiver = startReceiver(archive, [server.url()], { timing: { silenceMs: 750 } })
  await receiver.until(() => receiver.heard('streaming') > 0)
  await new Promise((resolve) => setTimeout(resolve, 2500))
  assert.equal(receiver.heard('disconnected'), 0)
})

test('without wal_sender_timeout a server is asked, and only a silent one is left', async (t) => {
  const settings = { wal_sender_timeout: '0' }
  const server = await startPostgres({ walSegmentSizeMb: 1, settings })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  const proxy = await startCuttingProxy(join(server.socketDirectory, `.s.PGSQL.${server.port}`))
  t.after(async () => await proxy.close())
  await using receiver = startReceiver(archive, [proxy.url], { timing: { silenceMs: 500 } })
  await receiver.until(() => receiver.heard('streaming') > 0)
  await new Promise((resolve) => setTimeout(resolve, 2500))
  assert.equal(receiver.heard('disconnected'), 0)
  proxy.swallow(true)
  await receiver.until(() => receiver.heard('disconnected') > 0)
  assert.equal(receiver.failures()[0]?.code, 'TM1422')
  proxy.swallow(false)
  await server.sql('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots')
  await write(server)
  const end = await currentLsn(server)
  await receiver.until(() => receiver.flushed() >= end)
})

test('a fast shutdown waits for nothing: what was sent is confirmed at once', async (t) => {
  const server = await startPostgres({ walSegmentSizeMb: 1 })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  await using receiver = startReceiver(archive, [server.url()])
  await receiver.until(() => receiver.heard('streaming') > 0)
  await write(server)
  await server.stop('fast')
  const log = await server.log()
  assert.match(log, /database system is shut down/)
  await receiver.until(() => receiver.heard('disconnected') > 0)
})

test('a slot that another process uses is waited for, and said', async (t) => {
  const server = await startPostgres({ walSegmentSizeMb: 1 })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  await using first = startReceiver(archive, [server.url()])
  await first.until(() => first.heard('streaming') > 0)
  await using second = startReceiver(archive, [server.url()])
  await second.until(() => second.heard('disconnected') > 0)
  assert.equal(second.failures()[0]?.code, 'TM1423')
  await first.stop()
  await write(server)
  const end = await currentLsn(server)
  await second.until(() => second.flushed() >= end)
})

test('until: what the server had is durable, then the receiver ends', async (t) => {
  const server = await startPostgres({ walSegmentSizeMb: 1 })
  t.after(async () => await server.dispose())
  const archive = await makeArchive(server)
  await server.sql("SELECT pg_create_physical_replication_slot('tidemark_main', true)")
  await write(server)
  const end = await currentLsn(server)
  const receiver = startReceiver(archive, [server.url()], { until: 'end' })
  await receiver.done
  assert.ok(receiver.flushed() >= end)
})
