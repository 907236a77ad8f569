/**
 * The cluster whose WAL is archived and replayed: pgbench, with a base copy from before its load
 * and every segment of the load kept as it was handed over.
 */
import { chmodSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { runChecked } from '../../test/harness/run-program.ts'
import type { Owner } from '../../test/harness/server-user.ts'
import { SETTINGS } from '../make-workload.ts'

export interface WalSet {
  /** A data directory from before the load, with backup_label; pg_wal is empty. */
  readonly base: string
  /** Segments from the backup's start on. */
  readonly wal: string
  readonly segments: readonly string[]
  readonly runAs: Owner | undefined
  readonly version: string
  readonly systemIdentifier: string
}

export interface WalSetOptions {
  readonly directory: string
  readonly segments: number
  readonly scale: number
  readonly tell: (text: string) => void
}

export async function makeWalSet(options: WalSetOptions): Promise<WalSet> {
  const { directory, tell } = options
  const wal = join(directory, 'wal')
  const base = join(directory, 'base')
  mkdirSync(wal)
  chmodSync(wal, 0o777)
  await using server = await startPostgres({
    embedded: false,
    settings: { ...SETTINGS, archive_command: `cp %p ${wal}/%f` },
    directory: join(directory, 'data'),
  })
  await server.sql('CREATE DATABASE bench')
  await server.tool('pgbench', ['-i', '-q', '-s', String(options.scale), 'bench'])
  tell('a base copy')
  await server.tool('pg_basebackup', [
    '-D',
    base,
    '-X',
    'none',
    '-c',
    'fast',
    '-h',
    server.socketDirectory,
  ])
  const before = await waitForArchiver(server, wal)
  await load(server, options, wal, before.length)
  await server.sql('CREATE TABLE mark AS SELECT 1 AS number', [], 'bench')
  await server.sql('SELECT pg_switch_wal()')
  const all = await waitForArchiver(server, wal)
  const [row] = await server.sql<{ version: string; id: string }>(
    `SELECT current_setting('server_version') AS version,
       (SELECT system_identifier::text FROM pg_control_system()) AS id`,
  )
  // The last one of before is that of the backup.
  const segments = all.slice(before.length - 1)
  for (const name of before.slice(0, -1)) rmSync(join(wal, name))
  tell(`${segments.length} segments`)
  return {
    base,
    wal,
    segments,
    runAs: server.runAs,
    version: row?.version ?? '',
    systemIdentifier: row?.id ?? '',
  }
}

async function load(
  server: PostgresServer,
  { segments, tell }: WalSetOptions,
  wal: string,
  before: number,
): Promise<void> {
  const wanted = segments - 2
  for (;;) {
    const made = listSegments(wal).length - before
    if (made >= wanted) return
    tell(`load: ${made} of ${wanted} segments`)
    // A checkpoint every now and then, so that pages are logged whole as on a living server.
    await server.sql('CHECKPOINT')
    const transactions = String(Math.min(10_000, Math.max(2000, (wanted - made) * 150)))
    await server.tool('pgbench', ['-n', '-c', '4', '-j', '2', '-t', transactions, 'bench'])
  }
}

function listSegments(wal: string): string[] {
  return readdirSync(wal)
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .sort()
}

async function waitForArchiver(server: PostgresServer, wal: string): Promise<string[]> {
  for (;;) {
    const [row] = await server.sql<{ waiting: number }>(
      `SELECT count(*)::int AS waiting FROM pg_ls_archive_statusdir() WHERE name ~ '\\.ready$'`,
    )
    if (row?.waiting === 0) return listSegments(wal)
    await sleep(100)
  }
}

/** Copies with reflinks where the file system has them. */
export async function copyTree(from: string, to: string): Promise<void> {
  await runChecked('cp', ['-a', from, to])
}
