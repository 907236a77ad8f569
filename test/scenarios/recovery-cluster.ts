/**
 * A server whose WAL goes into a repository of its own, for scenarios of recovery: the
 * configuration is a file, and every step is the command that a user would type.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import {
  type OpenOptions,
  openServerOn,
  type PostgresServer,
  type StartOptions,
  startPostgres,
} from '../harness/postgres-server.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { type TidemarkResult, TIDEMARK, tidemark, tidemarkOk } from '../harness/tidemark.ts'

export interface ProtectedServer extends AsyncDisposable {
  readonly server: PostgresServer
  /** Holds the configuration, the repository and whatever the test restores. */
  readonly base: string
  readonly repository: string
  readonly config: string
  /** Never throws for an exit status. */
  run(...args: string[]): Promise<TidemarkResult>
  ok(...args: string[]): Promise<TidemarkResult>
  backup(): Promise<string>
  /** Switches the segment and waits until it is archived. */
  archiveNow(): Promise<void>
  path(name: string): string
}

interface SwitchRow extends Record<string, unknown> {
  readonly name: string
}

export async function protectServer(options: StartOptions = {}): Promise<ProtectedServer> {
  const base = temporaryDirectory(undefined, 'tidemark-recovery-')
  const config = join(base, 'tidemark.yaml')
  const repository = join(base, 'repository')
  const storage = await openStorage({ url: `file://${repository}` })
  await createRepository(storage, new Date())
  const archive = `${TIDEMARK} --config ${config} wal push --cluster main "%p"`
  const settings = { archive_mode: 'on', archive_command: archive, ...options.settings }
  const server = await startPostgres({ ...options, settings })
  writeFileSync(
    config,
    `repositories:\n  local: { url: "file://${repository}" }\n` +
      `clusters:\n  main:\n    connection: "${server.url()}"\n`,
  )
  const { runAs } = server
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, base])
  const words = (args: readonly string[]): string[] => ['--config', config, ...args]
  const ok = async (...args: string[]): Promise<TidemarkResult> =>
    await tidemarkOk(words(args), { runAs })
  return {
    server,
    base,
    repository,
    config,
    ok,
    run: async (...args) => await tidemark(words(args), { runAs }),
    async backup() {
      const { backups } = (await ok('--json', 'backup')).json<{ backups: { id: string }[] }>()
      return backups[0]?.id ?? ''
    },
    archiveNow: async () => {
      await archiveNow(server)
    },
    path: (name) => join(base, name),
    async [Symbol.asyncDispose]() {
      await server.dispose()
    },
  }
}

/** Switches the segment of a server that archives, and waits until it is archived. */
export async function archiveNow(server: PostgresServer): Promise<void> {
  await server.sql('CHECKPOINT')
  const [row] = await server.sql<SwitchRow>('SELECT pg_walfile_name(pg_switch_wal()) AS name')
  const done = join(server.dataDirectory, 'pg_wal/archive_status', `${row?.name}.done`)
  for (let waited = 0; waited < 600; waited++) {
    const names = readdirSync(join(server.dataDirectory, 'pg_wal/archive_status'))
    if (names.includes(`${row?.name}.done`)) return
    await sleep(50)
  }
  throw new Error(`${done} did not appear:\n${await server.log()}`)
}

/** Every file below a directory, relative, sorted; empty when it is absent. */
export function filesBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true }).map(String).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Starts a restored copy and waits until it has been promoted at its target. */
export async function openRecovered(
  directory: string,
  options: OpenOptions = {},
): Promise<PostgresServer> {
  const settings = { hot_standby: 'on', ...options.settings }
  const server = await openServerOn(directory, { ...options, settings })
  for (let waited = 0; waited < 600; waited++) {
    const [row] = await server.sql<{ busy: boolean }>('SELECT pg_is_in_recovery() AS busy')
    if (row?.busy === false) return server
    await sleep(50)
  }
  throw new Error(`recovery does not end:\n${await server.log()}`)
}
