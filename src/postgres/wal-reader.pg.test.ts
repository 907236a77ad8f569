/**
 * The reader against pg_waldump, record by record, on WAL of real servers; and against
 * what SQL says where this machine has no pg_waldump of a major version.
 */
import assert from 'node:assert/strict'
import { chownSync, mkdirSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { SAMPLED_MAJORS, type PostgresServer } from '../../test/harness/postgres-server.ts'
import { serverUser } from '../../test/harness/server-user.ts'
import {
  archiveOf,
  currentLsn,
  dumpWal,
  formatPadded,
  startArchiving,
  type WalDirectory,
} from '../../test/harness/wal-dump.ts'
import { formatLsn, formatSegmentName, type Lsn } from './lsn.ts'
import { formatMicroseconds, parseWalEvent, type WalEvent } from './wal-event.ts'
import { createWalReader, type WalReadResult, type WalRecord } from './wal-reader.ts'
import { RESOURCE_MANAGER_NAMES } from './wal-record.ts'

interface ReadRecord {
  readonly line: string
  readonly event: WalEvent | undefined
}

/** `rmgr tx lsn prev tot`, as taken from a line of pg_waldump. */
function lineOf(record: WalRecord): string {
  const name = RESOURCE_MANAGER_NAMES[record.resourceManager]
  const [start, previous] = [formatPadded(record.lsn), formatPadded(record.previousLsn)]
  return `${name} ${record.xid} ${start} ${previous} ${record.totalLength}`
}

async function readArchive(archive: WalDirectory, timeline = 1) {
  const { sizeBytes, systemIdentifier } = archive
  const reader = createWalReader({
    walSegmentSizeBytes: sizeBytes,
    systemIdentifier,
    start: { from: archive.from },
  })
  const records: ReadRecord[] = []
  let end: WalReadResult | undefined
  while (end === undefined) {
    const result = reader.next()
    if (result.kind === 'record') {
      const parsed = parseWalEvent(result.record)
      assert.notEqual(parsed.kind, 'damaged', lineOf(result.record))
      const event = parsed.kind === 'event' ? parsed.event : undefined
      records.push({ line: lineOf(result.record), event })
    } else if (result.kind === 'invalid') {
      end = result
    } else {
      const name = formatSegmentName(timeline, result.segment, sizeBytes)
      const bytes = await readFile(join(archive.directory, name)).catch(() => undefined)
      if (bytes === undefined) end = result
      else reader.give(result.segment, bytes)
    }
  }
  const events = records.flatMap(({ event }) => (event === undefined ? [] : [event]))
  return { records, events, end, position: reader.position() }
}

/** `rmgr tx lsn prev tot` of pg_waldump, with what it says of the record. */
async function dump(major: number, archive: WalDirectory) {
  const records = (await dumpWal(major, archive)) ?? []
  return records.map(({ resourceManager, xid, lsn, previous, totalLength, description }) => ({
    line: `${resourceManager} ${xid} ${lsn} ${previous} ${totalLength}`,
    description,
  }))
}

const one = async (server: PostgresServer, text: string): Promise<string> =>
  String(Object.values((await server.sql(text))[0] ?? {})[0])

/** Every kind of record that is parsed, in a known order; returns what SQL knows of them. */
async function doEverything(server: PostgresServer) {
  const tablespace = join(server.socketDirectory, 'ts1')
  mkdirSync(tablespace)
  const owner = serverUser()
  if (owner !== undefined) chownSync(tablespace, owner.uid, owner.gid)
  await server.sql('CREATE TABLE t (id int, filler text)')
  await server.sql(`INSERT INTO t SELECT n, repeat('x', 300) FROM generate_series(1, 4000) AS n`)
  const client = await server.connect()
  await client.query('BEGIN')
  for (let n = 0; n < 3; n++) {
    await client.query(`SAVEPOINT s${n}`)
    await client.query(`INSERT INTO t VALUES (${n})`)
  }
  const committed = Number((await client.query('SELECT txid_current() AS x')).rows[0].x)
  await client.query('COMMIT')
  await client.query('BEGIN')
  await client.query('CREATE TABLE gone (id int)')
  const aborted = Number((await client.query('SELECT txid_current() AS x')).rows[0].x)
  await client.query('ROLLBACK')
  await client.query('BEGIN')
  await client.query('INSERT INTO t VALUES (7)')
  const prepared = Number((await client.query('SELECT txid_current() AS x')).rows[0].x)
  await client.query("PREPARE TRANSACTION 'the-gid'")
  await client.query("COMMIT PREPARED 'the-gid'")
  await client.end()
  const restorePoint = await one(server, "SELECT pg_create_restore_point('before_migration')")
  await server.sql(`CREATE TABLESPACE ts1 LOCATION '${tablespace}'`)
  const oid = Number(await one(server, "SELECT oid FROM pg_tablespace WHERE spcname = 'ts1'"))
  const strategy = server.major >= 15 ? ' STRATEGY file_copy' : ''
  await server.sql(`CREATE DATABASE copied TEMPLATE template0${strategy}`)
  const copied = Number(await one(server, "SELECT oid FROM pg_database WHERE datname='copied'"))
  if (server.major >= 15) await server.sql('CREATE DATABASE logged STRATEGY wal_log')
  await server.sql('DROP DATABASE copied')
  await server.sql('DROP TABLE t')
  await server.sql('DROP TABLESPACE ts1')
  await server.sql('CHECKPOINT')
  await server.restart({ max_connections: '41' })
  await server.sql('ALTER SYSTEM SET full_page_writes = off')
  await server.sql('SELECT pg_reload_conf()')
  await server.sql('CHECKPOINT')
  const at = await one(
    server,
    `SELECT to_char(pg_xact_commit_timestamp('${committed}'::text::xid) AT TIME ZONE 'UTC',
       'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
  )
  return { committed, aborted, prepared, restorePoint, tablespace, oid, copied, at }
}

/** Distributes over the kinds that a member of the union has. */
type EventOf<K, E = WalEvent> = E extends { kind: infer Kinds }
  ? K extends Kinds
    ? E
    : never
  : never

function find<K extends WalEvent['kind']>(events: readonly WalEvent[], kind: K): EventOf<K>[] {
  return events.filter((event) => event.kind === kind) as EventOf<K>[]
}

for (const major of SAMPLED_MAJORS) {
  test(`every kind of record of PostgreSQL ${major}`, async () => {
    const { server, directory } = await startArchiving(major, 1, major === 15 ? undefined : true)
    await using _ = server
    const from = await currentLsn(server)
    const facts = await doEverything(server)
    const archive = await archiveOf(server, directory, from, 1)
    const { records, events, end } = await readArchive(archive)
    assert.equal(end.kind, 'segment-needed')
    compareWithDump(records, await dump(major, archive))

    const commit = find(events, 'commit').find(({ xid }) => xid === facts.committed)
    assert.equal(commit?.subxids.length, 3)
    assert.equal(formatMicroseconds(commit?.time ?? 0n), facts.at)
    const abort = find(events, 'abort').find(({ xid }) => xid === facts.aborted)
    assert.equal(abort?.droppedRelations.length, 1)
    const prepared = find(events, 'prepare').find(({ xid }) => xid === facts.prepared)
    const ended = find(events, 'commit').find(({ xid }) => xid === facts.prepared)
    assert.ok(prepared !== undefined && ended?.isPrepared === true && ended.lsn > prepared.lsn)
    const [point] = find(events, 'restore-point')
    assert.equal(point?.name, 'before_migration')
    assert.equal(formatLsn(point?.endLsn as Lsn), facts.restorePoint)
    const [created] = find(events, 'tablespace-create')
    assert.deepEqual([created?.oid, created?.path], [facts.oid, facts.tablespace])
    assert.equal(find(events, 'tablespace-drop')[0]?.oid, facts.oid)
    const [copy, logged] = find(events, 'database-create')
    assert.deepEqual([copy?.database, copy?.strategy], [facts.copied, 'file-copy'])
    assert.equal(copy?.source?.tablespace, 1663)
    assert.equal(logged?.strategy, major >= 15 ? 'wal-log' : undefined)
    const [dropped] = find(events, 'database-drop')
    assert.deepEqual([dropped?.database, dropped?.tablespaces], [facts.copied, [1663]])
    const shutdown = find(events, 'checkpoint').find(({ isShutdown }) => isShutdown)
    assert.equal(shutdown?.redo, shutdown?.lsn)
    assert.equal(shutdown?.timelineAfter, 1)
    const online = find(events, 'checkpoint').find(({ isShutdown }) => !isShutdown)
    assert.ok(online !== undefined && online.redo < online.lsn)
    assert.ok(Math.abs(Number(online.time) / 1000 - Date.now()) < 600_000)
    const [change] = find(events, 'parameter-change')
    assert.deepEqual([change?.maxConnections, change?.walLevel], [41, 'replica'])
    assert.equal(change?.trackCommitTimestamp, true)
    const off = find(events, 'full-page-writes').find(({ on }) => !on)
    // What src/events/find-breaks.ts knows of them: 54 and 27 bytes, aligned.
    assertLength(change, 56)
    assertLength(off, 32)
    assert.ok(find(events, 'switch').length >= 1)
  })
}

/** The header of a page may lie within it. */
function assertLength(event: WalEvent | undefined, expected: number): void {
  const length = Number((event?.endLsn ?? 0n) - (event?.lsn ?? 0n))
  assert.ok([0, 24, 40].includes(length - expected), `${event?.kind}: ${length}`)
}

function compareWithDump(
  records: readonly ReadRecord[],
  dumped: Awaited<ReturnType<typeof dump>>,
): void {
  if (dumped.length === 0) return
  assert.deepEqual(
    records.map(({ line }) => line),
    dumped.map(({ line }) => line),
  )
  for (const [index, { event }] of records.entries()) {
    const { description } = dumped[index] as (typeof dumped)[number]
    const expected = event === undefined ? undefined : describe(event)
    if (expected !== undefined) assert.match(description, expected)
  }
}

/** What pg_waldump must say of the event. */
function describe(event: WalEvent): RegExp | undefined {
  switch (event.kind) {
    case 'commit':
    case 'abort': {
      const time = formatMicroseconds(event.time).replace('T', ' ').replace('Z', ' UTC')
      const word = `${event.kind.toUpperCase()}${event.isPrepared ? '_PREPARED' : ''}`
      const xid = event.isPrepared ? ` ${event.xid}:` : ''
      const subxids = event.subxids.length === 0 ? '' : `.*; subxacts: ${event.subxids.join(' ')}`
      return new RegExp(`^${word}${xid} ${time.replaceAll('.', '\\.')}${subxids}`)
    }
    case 'restore-point':
      return new RegExp(`^RESTORE_POINT ${event.name}$`)
    case 'checkpoint': {
      const word = event.isShutdown ? 'SHUTDOWN' : 'ONLINE'
      const timelines = `tli ${event.timelineAfter}; prev tli ${event.timelineBefore}; `
      const xid = `xid ${event.nextXid >> 32n}:${event.nextXid & 0xffffffffn};`
      const redo = formatLsn(event.redo)
      return new RegExp(
        `^CHECKPOINT_${word} redo ${redo}; ${timelines}fpw ${event.fullPageWrites};.* ${xid}`,
      )
    }
    case 'end-of-recovery':
      return new RegExp(
        `^END_OF_RECOVERY tli ${event.timelineAfter}; prev tli ${event.timelineBefore}`,
      )
    case 'parameter-change':
      return new RegExp(
        `^PARAMETER_CHANGE max_connections=${event.maxConnections} .*wal_level=${event.walLevel}`,
      )
    case 'full-page-writes':
      return new RegExp(`^FPW_CHANGE ${event.on}`)
    case 'backup-end':
      return new RegExp(`^BACKUP_END ${formatLsn(event.startLsn)}`)
    case 'switch':
      return /^SWITCH/
    case 'tablespace-create':
      return new RegExp(`^CREATE ${event.oid} "${event.path}"`)
    case 'tablespace-drop':
      return new RegExp(`^DROP ${event.oid}`)
    case 'database-create': {
      const word =
        event.strategy === 'wal-log' ? 'CREATE_WAL_LOG create' : 'CREATE(_FILE_COPY)? copy'
      return new RegExp(`^${word}.*${event.tablespace}/${event.database}$`)
    }
    case 'database-drop':
      return new RegExp(`^DROP dir ${event.tablespaces[0]}/${event.database}`)
    default:
      return undefined
  }
}

for (const [major, sizeMb] of [
  [15, 1],
  [15, 16],
  [15, 64],
  [18, 64],
  [13, 16],
] as const) {
  test(`PostgreSQL ${major} under load with segments of ${sizeMb} MB`, async () => {
    const { server, directory } = await startArchiving(major, sizeMb)
    await using _ = server
    const from = await currentLsn(server)
    await load(server)
    const archive = await archiveOf(server, directory, from, sizeMb)
    const { records, end } = await readArchive(archive)
    assert.ok(records.length > 20_000, String(records.length))
    assert.equal(end.kind, 'segment-needed')
    compareWithDump(records, await dump(major, archive))
  })
}

/** Small and large records, many of them across pages, from several sessions at once. */
async function load(server: PostgresServer): Promise<void> {
  await server.sql(`CREATE TABLE big (id int PRIMARY KEY, body text);
    ALTER TABLE big ALTER body SET STORAGE EXTERNAL`)
  const session = async (number: number): Promise<void> => {
    const client = await server.connect()
    for (let round = 0; round < 8; round++) {
      await client.query(`INSERT INTO big SELECT n * 4 + ${number}, repeat(md5(n::text), 1 + n % 40)
        FROM generate_series(${round * 400 + 1}, ${round * 400 + 400}) AS n`)
      await client.query(
        `UPDATE big SET body = body || 'x' WHERE id % 4 = ${number} AND id % 3 = 0`,
      )
    }
    await client.end()
  }
  await Promise.all([0, 1, 2, 3].map(session))
  for (const text of ['CREATE INDEX ON big (body)', 'VACUUM big', 'CHECKPOINT']) {
    await server.sql(text)
  }
}

test('a record whose continuation was lost in a crash', async () => {
  const { server, directory } = await startArchiving(15, 1)
  await using _ = server
  await server.sql('CREATE TABLE t (id int)')
  const from = await currentLsn(server)
  await server.sql('SELECT pg_switch_wal()')
  await server.sql('INSERT INTO t VALUES (1)')
  const left = `SELECT (1024 * 1024 - (pg_current_wal_insert_lsn() - '0/0') % (1024 * 1024))::int`
  while (Number(await one(server, left)) > 2 * 8192) {
    await server.sql(`SELECT pg_logical_emit_message(true, 'test', repeat('x', 1000))`)
  }
  await server.sql(`SELECT pg_logical_emit_message(false, 'test', repeat('lost', 10000))`)
  const lost = await one(server, 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())')
  await server.kill()
  await rm(join(server.dataDirectory, 'pg_wal', lost), { force: true })
  await server.start()
  await server.sql('INSERT INTO t VALUES (2)')
  const archive = await archiveOf(server, directory, from, 1)
  const { records, events, end } = await readArchive(archive)
  assert.equal(end.kind, 'segment-needed')
  assert.equal(find(events, 'overwritten-record').length, 1)
  compareWithDump(records, await dump(15, archive))
})
