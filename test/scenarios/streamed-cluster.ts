/** A server whose WAL is streamed by `tidemark wal receive`, which runs as a process of its own. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import {
  type PostgresServer,
  type StartOptions,
  startPostgres,
} from '../harness/postgres-server.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import {
  type RunningTidemark,
  startTidemark,
  type TidemarkResult,
  tidemark,
  tidemarkOk,
} from '../harness/tidemark.ts'

export interface StreamedCluster extends AsyncDisposable {
  readonly server: PostgresServer
  readonly storage: Storage
  readonly config: string
  path(name: string): string
  ok(...args: string[]): Promise<TidemarkResult>
  run(...args: string[]): Promise<TidemarkResult>
  /** `tidemark --json wal receive …` as the server's user. */
  receive(...args: string[]): RunningTidemark
}

export interface StreamedOptions extends StartOptions {
  /** More lines of `wal:`, as YAML within braces: `standbys: […]`. */
  readonly wal?: string
}

export async function startStreamedCluster(
  options: StreamedOptions = {},
): Promise<StreamedCluster> {
  const base = temporaryDirectory(undefined, 'tidemark-stream-')
  const url = `file://${join(base, 'repository')}`
  const storage = await openStorage({ url })
  await createRepository(storage, new Date())
  const server = await startPostgres({ walSegmentSizeMb: 1, ...options })
  const config = join(base, 'tidemark.yaml')
  const wal = `{ source: stream${options.wal === undefined ? '' : `, ${options.wal}`} }`
  writeFileSync(
    config,
    `repositories:\n  local: { url: "${url}" }\n` +
      `clusters:\n  main:\n    connection: "${server.url()}"\n    wal: ${wal}\n`,
  )
  const { runAs } = server
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, base])
  const words = (args: readonly string[]): string[] => ['--config', config, ...args]
  const running = new Set<RunningTidemark>()
  return {
    server,
    storage,
    config,
    path: (name) => join(base, name),
    ok: async (...args) => await tidemarkOk(words(args), { runAs }),
    run: async (...args) => await tidemark(words(args), { runAs }),
    receive(...args) {
      const program = startTidemark(words(['--json', 'wal', 'receive', ...args]), { runAs })
      running.add(program)
      program.done.then(() => running.delete(program))
      return program
    },
    async [Symbol.asyncDispose]() {
      for (const program of running) {
        program.kill('SIGKILL')
        await program.done
      }
      await server.dispose()
    },
  }
}
