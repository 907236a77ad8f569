/** Backups of servers that do not hold still, of standbys, and backups that are killed. */
import assert from 'node:assert/strict'
import { writeFileSync, appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { sleep } from '../../src/base/clock.ts'
import { isFailure } from '../../src/base/failure.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { amcheckMissing, checkWithAmcheck } from '../harness/amcheck.ts'
import {
  formatSettings,
  openServerOn,
  type PostgresServer,
  startPostgres,
} from '../harness/postgres-server.ts'
import { startProgram } from '../harness/run-program.ts'
import { serverUser } from '../harness/server-user.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { checkInvariant, createBench, startLoad } from '../harness/workload.ts'
import { readEntries } from '../simulation/backup-rebuild.ts'
import {
  AT_REST,
  assertEqualsDataDirectory,
  assertTidy,
  backUp,
  newRepository,
  startFromBackup,
} from './backup-fixture.ts'

/** Repeats `act` until stopped; its own failures end it loudly. */
function keepDoing(act: (round: number) => Promise<void>): { stop(): Promise<number> } {
  let running = true
  let round = 0
  const loop = (async () => {
    while (running) await act(round++)
  })()
  return {
    async stop() {
      running = false
      await loop
      return round
    },
  }
}

async function createTurmoil(server: PostgresServer): Promise<void> {
  const far = temporaryDirectory(serverUser())
  await server.sql(`CREATE TABLESPACE far LOCATION '${far}'`)
  await server.sql('CREATE TABLE rewritten AS SELECT g AS id FROM generate_series(1, 3000) g')
  await server.sql('CREATE TABLE emptied (id int)')
  await server.sql('CREATE TABLE moved AS SELECT g AS id FROM generate_series(1, 3000) g')
}

async function stir(server: PostgresServer, round: number): Promise<void> {
  await server.sql('CREATE DATABASE brief')
  await server.sql('VACUUM FULL rewritten')
  await server.sql('INSERT INTO emptied SELECT g FROM generate_series(1, 2000) g')
  await server.sql('TRUNCATE emptied')
  await server.sql(`ALTER TABLE moved SET TABLESPACE ${round % 2 === 0 ? 'far' : 'pg_default'}`)
  await server.sql('DROP DATABASE brief')
}

test('databases come and go, tables are rewritten and moved, while backups run', async () => {
  await using server = await startPostgres({ settings: { ...AT_REST, max_wal_size: '2GB' } })
  const storage = await newRepository()
  await createBench(server, 2)
  await createTurmoil(server)
  const load = await startLoad(server)
  const turmoil = keepDoing(async (round) => await stir(server, round))
  const records = []
  for (let number = 0; number < 5; number++) records.push(await backUp(server, storage))
  assert.ok((await turmoil.stop()) > 2, 'the cluster did not hold still')
  await load.stop()
  await assertTidy(storage)
  for (const record of records) {
    await using copy = await startFromBackup(storage, record)
    await checkInvariant(copy)
    const [row] = await copy.sql(
      'SELECT (SELECT count(*) FROM rewritten)::int AS rewritten, ' +
        '(SELECT count(*) FROM moved)::int AS moved, (SELECT count(*) FROM emptied)::int IN (0, 2000) AS emptied',
    )
    assert.deepEqual(row, { rewritten: 3000, moved: 3000, emptied: true })
    if (amcheckMissing(copy.major) === false) await checkWithAmcheck(copy)
    await copy.stop()
    await copy.tool('pg_checksums', ['--check', '-D', copy.dataDirectory])
  }
})

test('what a killed backup leaves at any moment, the next one removes', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  await server.sql(
    'CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 8) ' +
      'AS x FROM generate_series(1, 150000) g',
  )
  await server.sql('CHECKPOINT')
  const script = fileURLToPath(new URL('./backup-process.ts', import.meta.url))
  let killed = 0
  for (const afterMs of [150, 300, 400, 500, 600, 700, 800, 900, 1000, 1200, 1400, 1800]) {
    const running = startProgram(process.execPath, [script, storage.url, server.url()], {
      runAs: serverUser(),
    })
    await sleep(afterMs)
    running.kill('SIGKILL')
    const { signal } = await running.done
    if (signal === 'SIGKILL') killed++
    const { damaged } = await listBackups(storage, 'main')
    assert.deepEqual(damaged, [])
  }
  assert.ok(killed > 3, `${killed} were killed`)
  // The server notices the end of the dead one's session in its own time.
  await backUpWhenFree(server, storage)
  await assertTidy(storage)
  for (const record of (await listBackups(storage, 'main')).backups) {
    await assertEqualsDataDirectory(server, storage, record)
  }
  assert.equal(await storage.removeLeftovers(), 0)
})

async function backUpWhenFree(server: PostgresServer, storage: Parameters<typeof backUp>[1]) {
  for (;;) {
    try {
      return await backUp(server, storage)
    } catch (error) {
      if (!isFailure(error, 'TM1301')) throw error
      await sleep(50)
    }
  }
}

test('a standby is backed up, and its backup waits for the WAL of the primary', async () => {
  await using primary = await startPostgres({ settings: { ...AT_REST, wal_level: 'replica' } })
  const storage = await newRepository()
  await createBench(primary, 1)
  const data = join(temporaryDirectory(serverUser()), 'data')
  await primary.tool('pg_basebackup', ['-D', data, '-X', 'stream', '-c', 'fast'])
  writeFileSync(join(data, 'standby.signal'), '')
  const conninfo = `host=${primary.socketDirectory} port=${primary.port} user=postgres`
  appendFileSync(join(data, 'postgresql.auto.conf'), formatSettings({ primary_conninfo: conninfo }))
  await using standby = await openServerOn(data, { settings: { hot_standby: 'on' } })
  await primary.sql('UPDATE pgbench_accounts SET abalance = 0')
  await sleep(500)
  const short = backUp(standby, storage, { waitLimitMs: 300 })
  await assert.rejects(
    short,
    (error) => isFailure(error, 'TM1310') && /pg_switch_wal/.test(error.fix),
  )
  await assertTidy(storage)
  const archiver = keepDoing(async () => {
    await primary.sql('SELECT pg_switch_wal()')
    await pushAll(primary, storage)
    await sleep(100)
  })
  const record = await backUp(standby, storage, { waitLimitMs: 20_000 })
  await archiver.stop()
  assert.equal(record.server.isStandby, true)
  assert.ok(record.minRecoveryLsn !== undefined)
  const paths = (await readEntries(storage, record)).map(({ path }) => path)
  assert.ok(!paths.includes('standby.signal'), 'a copy must not become a standby')
  await using copy = await startFromBackup(storage, record)
  await checkInvariant(copy)
})

async function pushAll(server: PostgresServer, storage: Parameters<typeof backUp>[1]) {
  const { pushWalFile } = await import('../../src/archive/push-wal.ts')
  const rows = await server.sql(
    `SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'
        AND name < pg_walfile_name(pg_current_wal_lsn()) ORDER BY name`,
  )
  for (const row of rows) {
    const path = join(server.dataDirectory, 'pg_wal', String(row['name']))
    await pushWalFile({ storages: [storage], cluster: 'main', path })
  }
}
