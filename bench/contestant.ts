/** What the benchmark asks of a backup tool, and the two tools. */
import { randomBytes } from 'node:crypto'
import { chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PostgresServer } from '../test/harness/postgres-server.ts'
import { type RunOptions, runChecked, runProgram } from '../test/harness/run-program.ts'
import type { Command } from './measure.ts'

export type ToolName = 'tidemark' | 'pgbackrest' | 'encrypted' | 'plain'

export interface Contestant {
  readonly name: ToolName
  readonly repository: string
  version(): Promise<string>
  /** An empty repository, ready for its first backup. */
  reset(): Promise<void>
  /** The server's archiving is this tool's from now on; what was waiting is through. */
  takeArchiving(): Promise<void>
  full(): Command
  incremental(): Command
  /** `into` is an empty directory of the server's user. */
  restore(into: string): Command
}

abstract class ServerContestant {
  readonly repository: string
  readonly home: string
  readonly server: PostgresServer

  constructor(server: PostgresServer, home: string) {
    this.server = server
    this.home = home
    this.repository = join(home, 'repository')
  }

  protected emptyHome(): void {
    rmSync(this.home, { recursive: true, force: true })
    this.makeDirectory(this.home)
    this.makeDirectory(this.repository)
  }

  protected makeDirectory(path: string): void {
    mkdirSync(path, { recursive: true, mode: 0o750 })
    const owner = this.server.runAs
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid)
  }

  protected command(program: string, args: readonly string[]): Command {
    return { program, args, runAs: this.server.runAs, env: this.environment() }
  }

  protected environment(): Record<string, string> {
    return { HOME: this.home }
  }

  protected options(): RunOptions {
    return { runAs: this.server.runAs, env: this.environment() }
  }

  protected async setArchiveCommand(command: string): Promise<void> {
    await this.server.sql(`ALTER SYSTEM SET archive_command = '${command.replaceAll("'", "''")}'`)
    await this.server.sql('SELECT pg_reload_conf()')
    await waitForArchiver(this.server)
  }
}

/** So that one tool's measurement does not pay for the WAL of another's. */
async function waitForArchiver(server: PostgresServer): Promise<void> {
  for (;;) {
    const [row] = await server.sql<{ waiting: number }>(
      `SELECT count(*)::int AS waiting FROM pg_ls_archive_statusdir() WHERE name ~ '\\.ready$'`,
    )
    if (row?.waiting === 0) return
    await sleep(100)
  }
}

/** Archives with its own archive_command, and waits in each backup for its WAL. */
export class Tidemark extends ServerContestant implements Contestant {
  readonly name: Exclude<ToolName, 'pgbackrest'>
  readonly #program: string

  /** Named `encrypted`, its repository is encrypted and a key file opens it. */
  constructor(
    server: PostgresServer,
    home: string,
    program: string,
    name: Exclude<ToolName, 'pgbackrest'> = 'tidemark',
  ) {
    super(server, home)
    this.#program = program
    this.name = name
  }

  async version(): Promise<string> {
    return (await runChecked(this.#program, ['--version'], this.options())).stdout.trim()
  }

  async reset(): Promise<void> {
    this.emptyHome()
    const args = ['init', '--yes', '--name', 'main', '--connection', this.server.url()]
    args.push('--repository', `file://${this.repository}`)
    if (this.name === 'encrypted') args.push('--key-file', this.#makeKey())
    await runChecked(this.#program, [...this.#global(), ...args], this.options())
  }

  #makeKey(): string {
    const path = join(this.home, 'repository.key')
    writeFileSync(path, randomBytes(32).toString('hex'))
    const owner = this.server.runAs
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid)
    return path
  }

  async takeArchiving(): Promise<void> {
    const config = join(this.home, 'tidemark.yaml')
    await this.setArchiveCommand(`"${this.#program}" --config "${config}" wal push "%p"`)
  }

  full(): Command {
    return this.command(this.#program, [...this.#global(), 'backup', 'main', '--workers', '2'])
  }

  incremental(): Command {
    return this.full()
  }

  restore(into: string): Command {
    const args = ['restore', 'main', '--into', into, '--to', 'latest']
    return this.command(this.#program, [...this.#global(), ...args])
  }

  #global(): string[] {
    return ['--config', join(this.home, 'tidemark.yaml'), '--no-progress', '--quiet']
  }
}

/**
 * Debian's pgbackrest in its best configuration. It neither archives nor waits for WAL
 * (--no-archive-check), as in the figures that others have published.
 */
export class PgBackRest extends ServerContestant implements Contestant {
  readonly name = 'pgbackrest'

  async version(): Promise<string> {
    return (await runProgram('pgbackrest', ['version'])).stdout.trim()
  }

  async reset(): Promise<void> {
    this.emptyHome()
    for (const name of ['lock', 'log', 'spool']) this.makeDirectory(join(this.home, name))
    writeFileSync(join(this.home, 'pgbackrest.conf'), this.#configuration())
    const args = [...this.#global(), '--no-online', 'stanza-create']
    await runChecked('pgbackrest', args, this.options())
  }

  async takeArchiving(): Promise<void> {
    await this.setArchiveCommand('/bin/true')
  }

  full(): Command {
    return this.#backup('full')
  }

  incremental(): Command {
    return this.#backup('incr')
  }

  restore(into: string): Command {
    const args = [...this.#global(), `--pg1-path=${into}`, 'restore']
    return this.command('pgbackrest', args)
  }

  #backup(type: string): Command {
    const args = [...this.#global(), '--no-archive-check', `--type=${type}`, 'backup']
    return this.command('pgbackrest', args)
  }

  #global(): string[] {
    return [`--config=${join(this.home, 'pgbackrest.conf')}`, '--stanza=main']
  }

  #configuration(): string {
    return `[global]
repo1-path=${this.repository}
repo1-bundle=y
repo1-retention-full=100
lock-path=${join(this.home, 'lock')}
log-path=${join(this.home, 'log')}
spool-path=${join(this.home, 'spool')}
log-level-console=warn
log-level-file=off
start-fast=y
process-max=2
compress-type=zst
compress-level=3
[main]
pg1-path=${this.server.dataDirectory}
pg1-port=${this.server.port}
pg1-socket-path=${this.server.socketDirectory}
pg1-user=${this.server.user}
`
  }
}
