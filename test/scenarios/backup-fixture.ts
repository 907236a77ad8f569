/**
 * What the scenarios of backups share: a repository, a backup of a server, a comparison
 * with its files, and a cluster built from a backup with the format's readers alone.
 */
import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fetchWalFile } from '../../src/archive/fetch-wal.ts'
import type { TakeBackupOptions } from '../../src/backup/backup-context.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { now, sleep } from '../../src/base/clock.ts'
import { type Progress, SILENT } from '../../src/base/progress.ts'
import type { BackupRecord, FileEntry } from '../../src/repository/backup-record.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { listPacks } from '../../src/repository/write-backup.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { collect } from '../harness/faulty-storage.ts'
import { formatSettings, openServerOn, type PostgresServer } from '../harness/postgres-server.ts'
import { serverUser } from '../harness/server-user.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { makeRebuilder, readEntries } from '../simulation/backup-rebuild.ts'

export const AT_REST = { autovacuum: 'off', archive_mode: 'on', archive_command: 'false' }

export async function newRepository(directory = temporaryDirectory(serverUser())) {
  const storage = await openStorage({ url: `file://${directory}` })
  await createRepository(storage, now())
  return storage
}

export function backupOptions(
  server: PostgresServer,
  storage: Storage,
  extra: Partial<TakeBackupOptions> = {},
): TakeBackupOptions {
  return {
    storage,
    cluster: 'main',
    connection: server.url(),
    workers: 2,
    archiveCheck: false,
    archiveCommand: 'tidemark wal push %p',
    tidemarkVersion: 'test',
    ...extra,
  }
}

export async function backUp(
  server: PostgresServer,
  storage: Storage,
  extra: Partial<TakeBackupOptions> = {},
  progress: Progress = SILENT,
): Promise<BackupRecord> {
  const options = backupOptions(server, storage, extra)
  return (await takeBackup(options, progress, new AbortController().signal)).record
}

/** Calls `act` once, when the phase of that name begins. */
export function atPhase(name: string, act: () => void): Progress {
  return {
    ...SILENT,
    phase(phase) {
      if (phase === name) act()
    },
  }
}

/** On a server at rest the backup holds its relation files to the byte. */
export async function assertEqualsDataDirectory(
  server: PostgresServer,
  storage: Storage,
  record: BackupRecord,
): Promise<FileEntry[]> {
  const entries = await readEntries(storage, record)
  const rebuild = makeRebuilder(storage, record)
  let compared = 0
  for (const entry of entries) {
    const bytes = await rebuild(entry)
    if (entry.kind !== 'pages' && !/^pg_xact\//.test(entry.path)) continue
    const live = readFileSync(join(server.dataDirectory, entry.path))
    assert.ok(bytes?.equals(live), `${entry.path} differs`)
    compared++
  }
  assert.ok(compared > 500, `${compared} files compared`)
  return entries
}

/** Nothing but whole backups: no hold, no pack that no record names. */
export async function assertTidy(storage: Storage): Promise<void> {
  assert.deepEqual(await collect(storage.list('clusters/main/holds/')), [])
  const { backups, damaged } = await listBackups(storage, 'main')
  assert.deepEqual(damaged, [])
  const named = new Set(backups.flatMap(({ packs }) => packs.map(({ id }) => id)))
  const there = [...(await listPacks(storage, 'main')).keys()]
  assert.deepEqual(
    there.filter((id) => !named.has(id)),
    [],
  )
}

/**
 * Writes a backup out as a data directory with the WAL that it needs, and starts a server
 * on it, recovered to the end of that WAL.
 */
export async function startFromBackup(
  storage: Storage,
  record: BackupRecord,
  options: { major?: number; embedded?: boolean } = {},
): Promise<PostgresServer> {
  const base = temporaryDirectory(serverUser())
  const data = join(base, 'data')
  mkdirSync(data)
  const written: string[] = [data]
  const rebuild = makeRebuilder(storage, record)
  for (const entry of await readEntries(storage, record)) {
    if (entry.path.startsWith('@config/')) continue
    const location = join(data, entry.path)
    mkdirSync(dirname(location), { recursive: true })
    if (entry.kind === 'directory') mkdirSync(location, { recursive: true })
    else if (entry.kind === 'link') {
      const target = join(base, entry.path.replaceAll('/', '-'))
      mkdirSync(target)
      symlinkSync(target, location)
      written.push(target)
    } else writeFileSync(location, (await rebuild(entry)) as Buffer)
    written.push(location)
  }
  writeFileSync(join(data, 'backup_label'), record.backupLabel)
  writeFileSync(join(data, 'recovery.signal'), '')
  const settings = {
    archive_mode: 'off',
    restore_command: 'false',
  }
  writeFileSync(join(data, 'postgresql.auto.conf'), formatSettings(settings))
  await fetchSegments(storage, record, join(data, 'pg_wal'))
  giveAway(base)
  chmodSync(data, 0o700)
  const server = await openServerOn(data, options)
  for (let tries = 0; tries < 300; tries++) {
    if ((await server.sql('SELECT pg_is_in_recovery() AS r'))[0]?.['r'] === false) return server
    await sleep(100)
  }
  const log = await server.log()
  await server.dispose()
  throw new Error(`the copy does not leave recovery\n${log}`)
}

async function fetchSegments(storage: Storage, record: BackupRecord, directory: string) {
  const { systemIdentifier, cluster } = record
  const prefix = `clusters/${cluster}/wal/${systemIdentifier}/`
  for (const { key } of await collect(storage.list(prefix))) {
    const name = /([0-9A-F]{24})\.wal$/.exec(key)?.[1]
    if (name === undefined || name < record.walFirst || name > record.walLast) continue
    const destination = join(directory, name)
    await fetchWalFile({ storages: [storage], cluster, systemIdentifier, name, destination })
  }
}

function giveAway(directory: string): void {
  const owner = serverUser()
  if (owner === undefined) return
  const { readdirSync } = process.getBuiltinModule('node:fs')
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    lchownSync(join(entry.parentPath, entry.name), owner.uid, owner.gid)
  }
  chownSync(directory, owner.uid, owner.gid)
}
