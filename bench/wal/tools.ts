/** The two archivers, each with a repository of its own that begins empty. */
import { chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatArchiveCommand } from '../../src/cli/archive-command.ts'
import { runChecked } from '../../test/harness/run-program.ts'
import type { WalSet } from './wal-set.ts'

export interface WalArchiver {
  readonly name: 'tidemark' | 'pgbackrest'
  /** Empties the repository; gives archive_command. */
  prepare(data: string): Promise<string>
  /** What brings `%f` to `%p`, before any mapping of exit statuses. */
  get(data: string): string
  readonly repository: string
  readonly env: Readonly<Record<string, string>>
}

export function archivers(directory: string, set: WalSet, program: string): WalArchiver[] {
  return [tidemark(directory, set, program), pgbackrest(directory, set)]
}

function makeHome(home: string, set: WalSet, names: readonly string[]): void {
  rmSync(home, { recursive: true, force: true })
  for (const name of ['', ...names]) {
    const path = join(home, name)
    mkdirSync(path, { recursive: true })
    if (set.runAs !== undefined) chownSync(path, set.runAs.uid, set.runAs.gid)
  }
}

function tidemark(directory: string, set: WalSet, program: string): WalArchiver {
  const home = join(directory, 'tidemark')
  const configuration = join(home, 'tidemark.yaml')
  const repository = join(home, 'repository')
  const script = join(import.meta.dirname, 'make-repository.ts')
  return {
    name: 'tidemark',
    repository,
    env: { HOME: home },
    async prepare() {
      makeHome(home, set, [])
      const url = `file://${repository}`
      writeFileSync(
        configuration,
        `repositories:\n  local:\n    url: ${url}\nclusters:\n  main:\n    connection: postgresql:///x\n    repositories: [local]\n`,
      )
      const options = { runAs: set.runAs }
      await runChecked(process.execPath, [script, url, set.systemIdentifier, '15'], options)
      return formatArchiveCommand({ program, configuration, cluster: 'main' })
    },
    get: () => `${program} --config ${configuration} wal get --cluster main --ahead --timeline 1`,
  }
}

function pgbackrest(directory: string, set: WalSet): WalArchiver {
  const home = join(directory, 'pgbackrest')
  const repository = join(home, 'repository')
  const configuration = join(home, 'pgbackrest.conf')
  return {
    name: 'pgbackrest',
    repository,
    env: { HOME: home },
    async prepare(data) {
      makeHome(home, set, ['repository', 'lock', 'log', 'spool'])
      writeFileSync(
        configuration,
        `[global]
repo1-path=${repository}
lock-path=${join(home, 'lock')}
log-path=${join(home, 'log')}
spool-path=${join(home, 'spool')}
log-level-console=warn
log-level-file=off
process-max=2
compress-type=zst
compress-level=3
archive-async=y
archive-get-queue-max=256MiB
[main]
pg1-path=${data}
`,
      )
      const global = [`--config=${configuration}`, '--stanza=main']
      const options = { runAs: set.runAs }
      await runChecked('pgbackrest', [...global, '--no-online', 'stanza-create'], options)
      return `pgbackrest --config=${configuration} --stanza=main archive-push "%p"`
    },
    get: (data) =>
      `pgbackrest --config=${configuration} --stanza=main --pg1-path=${data} archive-get %f "%p"`,
  }
}
