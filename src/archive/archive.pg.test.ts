/** Real servers that archive and recover through push-wal.ts and fetch-wal.ts. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chownSync, mkdirSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { archiveCommand, restoreCommand } from '../../test/harness/archive-command.ts'
import {
  openServerOn,
  type PostgresServer,
  type Settings,
  startPostgres,
} from '../../test/harness/postgres-server.ts'
import { serverUser } from '../../test/harness/server-user.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { formatLsn, type Lsn, parseLsn } from '../postgres/lsn.ts'
import type { WalEvent } from '../postgres/wal-event.ts'
import { createRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { readTimelinePath } from './find-history.ts'
import { listWal, type WalListing } from './list-wal.ts'
import { scanWal } from './scan-wal.ts'

const MB = 1024 * 1024

interface Protected {
  readonly server: PostgresServer
  readonly storage: Storage
  readonly url: string
  readonly systemIdentifier: string
}

async function startProtected(major: number, walSegmentSizeMb = 1): Promise<Protected> {
  const owner = serverUser()
  const root = join(temporaryDirectory(owner), 'repository')
  mkdirSync(root)
  if (owner !== undefined) chownSync(root, owner.uid, owner.gid)
  const url = `file://${root}`
  const storage = await openStorage({ url, ...(owner === undefined ? {} : { owner }) })
  await createRepository(storage, new Date())
  const server = await startPostgres({
    major,
    walSegmentSizeMb,
    settings: {
      archive_mode: 'on',
      archive_command: archiveCommand(url, 'main'),
      min_wal_size: `${2 * walSegmentSizeMb}MB`,
    },
  })
  const systemIdentifier = await value(
    server,
    'SELECT system_identifier::text FROM pg_control_system()',
  )
  await introduce(storage, systemIdentifier, major, walSegmentSizeMb * MB)
  if (owner !== undefined) giveAway(root, owner)
  return { server, storage, url, systemIdentifier }
}

async function introduce(storage: Storage, id: string, major: number, size: number) {
  await ensureSystemIdentity(storage, 'main', {
    systemIdentifier: id,
    major,
    walSegmentSizeBytes: size,
    createdAt: new Date().toISOString(),
  })
}

/** This process may be root; the server that archives is not. */
function giveAway(root: string, owner: { uid: number; gid: number }): void {
  for (const path of ['', 'clusters', 'clusters/main', 'clusters/main/systems', '.incoming']) {
    try {
      chownSync(join(root, path), owner.uid, owner.gid)
    } catch {}
  }
}

async function value(server: PostgresServer, text: string): Promise<string> {
  return String(Object.values((await server.sql(text))[0] ?? {})[0])
}

/** Ends the segment and waits until it is archived, or until archiving has failed on it. */
async function archiveNow(server: PostgresServer, expected: 'archived' | 'failed' = 'archived') {
  const name = await value(server, 'SELECT pg_walfile_name(pg_switch_wal())')
  const column = `last_${expected}_wal`
  for (;;) {
    const last = await value(server, `SELECT coalesce(${column}, '') FROM pg_stat_archiver`)
    if (last.slice(0, 24) >= name || (expected === 'failed' && last !== '')) return name
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function scanAll(from: Protected, timeline: number, fromLsn: Lsn) {
  const { storage, systemIdentifier } = from
  const path = await readTimelinePath(storage, 'main', systemIdentifier, timeline)
  const events: WalEvent[] = []
  const { walSegmentSizeBytes } = await list(from)
  const end = await scanWal({
    storages: [storage],
    cluster: 'main',
    systemIdentifier,
    walSegmentSizeBytes,
    path,
    start: { at: fromLsn },
    visit: (_, event) => {
      if (event !== undefined) events.push(event)
      return false
    },
  })
  return { events, end }
}

const list = async (from: Protected): Promise<WalListing> =>
  await listWal(from.storage, 'main', from.systemIdentifier)

/** A copy of a stopped server's directory, to be recovered from the archive. */
function copyOf(server: PostgresServer): string {
  const data = join(temporaryDirectory(serverUser()), 'data')
  execFileSync('cp', ['-a', server.dataDirectory, data])
  return data
}

/** Opens a directory with recovery.signal and waits until it has been promoted. */
async function recover(data: string, from: Protected, extra: Settings = {}) {
  await writeFile(join(data, 'recovery.signal'), '')
  const server = await openServerOn(data, {
    settings: {
      restore_command: restoreCommand(from.url, 'main', from.systemIdentifier),
      recovery_target_action: 'promote',
      ...extra,
    },
  })
  while ((await value(server, 'SELECT pg_is_in_recovery()')) === 'true') {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return server
}

for (const major of [13, 15, 18]) {
  test(`PostgreSQL ${major}: promotions in one segment are archived and scanned`, async () => {
    const from = await startProtected(major)
    await using server = from.server
    await server.sql('CREATE TABLE t (id int)')
    await server.sql('CHECKPOINT')
    const redo = parseLsn(
      await value(server, 'SELECT redo_lsn FROM pg_control_checkpoint()'),
    ) as Lsn
    await server.sql('INSERT INTO t SELECT generate_series(1, 20000)')
    await archiveNow(server)
    const point = await value(server, "SELECT pg_create_restore_point('here')")
    await server.sql('INSERT INTO t VALUES (-1)')
    // Not a clean stop: that would end the segment (ShutdownXLOG).
    await server.stop('immediate')
    const data = copyOf(server)

    const second = await recover(data, from)
    await second.sql('INSERT INTO t VALUES (-2)')
    await second.stop('immediate')
    const third = await recover(data, from)
    await using _ = third
    assert.equal(await value(third, 'SELECT count(*) FROM t WHERE id < 0'), '2')
    await third.sql('INSERT INTO t VALUES (-3)')
    await third.sql("SELECT pg_create_restore_point('after')")
    const fork = await archiveNow(third)
    assert.equal(Number.parseInt(fork.slice(0, 8), 16), 3)

    const listing = await list(from)
    assert.deepEqual(listing.quarantine, [])
    const left = listing.partials.map(({ name }) => name.slice(0, 32))
    assert.deepEqual(left, [`00000001${fork.slice(8)}.partial`, `00000002${fork.slice(8)}.partial`])
    const child = listing.timelines.find(({ timeline }) => timeline === 3)
    assert.deepEqual(
      child?.history?.ancestors.map(({ timeline }) => timeline),
      [1, 2],
    )
    assert.ok((child?.segments ?? 0) >= 1)

    const { events, end } = await scanAll(from, 3, redo)
    assert.equal(end.reason, 'archive-end')
    assert.equal(end.last?.timeline, 3)
    const points = events.flatMap((event) => (event.kind === 'restore-point' ? [event] : []))
    assert.deepEqual(
      points.map(({ name }) => name),
      ['here', 'after'],
    )
    assert.equal(formatLsn(points[0]?.endLsn as Lsn), point)
    const ends = events.filter(
      (event) =>
        event.kind === 'end-of-recovery' ||
        (event.kind === 'checkpoint' && event.timelineAfter !== event.timelineBefore),
    )
    assert.equal(ends.length, 2)
  })
}

test('the archive recovers what only it has, and a hole stops recovery', async () => {
  const from = await startProtected(15)
  await using server = from.server
  await server.sql('CREATE TABLE t (id int)')
  await server.stop()
  const [data, other] = [copyOf(server), copyOf(server)]
  await server.start()
  for (let n = 0; n < 4; n++) {
    await server.sql('INSERT INTO t SELECT generate_series(1, 5000)')
    await archiveNow(server)
  }
  await server.stop()
  {
    await using copy = await recover(data, from, { archive_mode: 'off' })
    assert.equal(await value(copy, 'SELECT count(*) FROM t'), '20000')
  }
  const { timelines } = await list(from)
  const [range] = timelines[0]?.ranges ?? []
  const hole = (range?.last ?? 0n) - 1n
  const name = `0000000100000000${hole.toString(16).toUpperCase().padStart(8, '0')}`
  await rm(
    new URL(`${from.url}/clusters/main/wal/${from.systemIdentifier}/00000001/00000000/${name}.wal`),
  )
  await writeFile(join(other, 'recovery.signal'), '')
  const command = restoreCommand(from.url, 'main', from.systemIdentifier)
  await using stopped = await openServerOn(other, {
    wait: 'none',
    settings: { restore_command: command, archive_mode: 'off' },
  })
  await stopped.waitForExit()
  const log = await stopped.log()
  assert.match(log, new RegExp(`TM1408 the WAL segment ${name} is missing`))
  assert.doesNotMatch(log, /selected new timeline/)
})

test('two clones on one timeline: the second is stopped, its WAL in quarantine', async () => {
  const from = await startProtected(15)
  await using server = from.server
  await server.sql('CREATE TABLE t (id int)')
  await server.stop()
  const data = copyOf(server)
  await server.start()
  await using clone = await openServerOn(data)
  await clone.sql('INSERT INTO t VALUES (2)')
  const taken = await archiveNow(clone)
  await server.sql('INSERT INTO t VALUES (1)')
  await archiveNow(server, 'failed')
  const { quarantine, timelines } = await list(from)
  assert.ok(quarantine.some(({ name }) => name.startsWith(taken)))
  assert.ok((timelines[0]?.segments ?? 0) >= 1)
  assert.match(
    await server.log(),
    new RegExp(`TM1402 ${taken} is in the archive with other content`),
  )
})

test('another server that archives under the name of this one is refused', async () => {
  const from = await startProtected(15)
  await using server = from.server
  await using other = await startPostgres({
    major: 15,
    walSegmentSizeMb: 1,
    settings: { archive_mode: 'on', archive_command: archiveCommand(from.url, 'main') },
  })
  await archiveNow(other, 'failed')
  assert.match(await other.log(), /TM1403/)
  await archiveNow(server)
  const { quarantine, timelines } = await list(from)
  assert.deepEqual(quarantine, [])
  assert.equal(timelines.length, 1)
})
