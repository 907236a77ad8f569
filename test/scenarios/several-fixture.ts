/**
 * A server that is backed up into several repositories, on directories or on S3; every step is
 * the command that a user would type.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRepository } from '../../src/repository/repository.ts'
import { ensureFirstKey } from '../../src/repository/unlock.ts'
import { openStorage, type StorageSpecification } from '../../src/storage/open-storage.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { type TidemarkResult, TIDEMARK, startTidemark, tidemark } from '../harness/tidemark.ts'
import { archiveNow, openRecovered } from './recovery-cluster.ts'

export interface BackupReport {
  readonly cluster: string
  readonly backups: readonly { readonly repository: string; readonly id: string }[]
  readonly repositories: readonly {
    readonly name: string
    readonly outcome: string
    readonly code: string | null
  }[]
}

export interface FixtureOptions {
  /** Beside `local`, which is a directory: directories by name, or S3. */
  readonly others: Readonly<Record<string, StorageSpecification | 'directory' | 'encrypted'>>
  readonly required?: readonly string[]
}

export class SeveralRepositories {
  readonly base: string
  readonly config: string
  readonly server: PostgresServer
  readonly #options: FixtureOptions

  constructor(base: string, config: string, server: PostgresServer, options: FixtureOptions) {
    this.base = base
    this.config = config
    this.server = server
    this.#options = options
    this.configure(options.required)
  }

  root(name: string): string {
    return join(this.base, name)
  }

  /** Writes tidemark.yaml; `url` adds what follows the URL of a repository. */
  configure(required?: readonly string[], names: readonly string[] = this.names()): void {
    const repositories = names.map((name) => `  ${name}: ${this.#describe(name)}`)
    const policy = required === undefined ? '' : `    required: [${required.join(', ')}]\n`
    const cluster = `  main:\n    connection: "${this.server.url()}"\n${policy}`
    writeFileSync(this.config, `repositories:\n${repositories.join('\n')}\nclusters:\n${cluster}`)
    // A key of access stands in it.
    chmodSync(this.config, 0o644)
  }

  names(): string[] {
    return ['local', ...Object.keys(this.#options.others)]
  }

  #describe(name: string): string {
    const other = this.#options.others[name] ?? 'directory'
    if (other === 'encrypted') {
      const encryption = { keyFile: `${this.root(name)}.key` }
      return JSON.stringify({ url: `file://${this.root(name)}`, encryption })
    }
    if (other === 'directory') return JSON.stringify({ url: `file://${this.root(name)}` })
    return JSON.stringify({ url: other.url, ...other.s3 })
  }

  /** A new directory that is a repository. */
  async create(name: string): Promise<void> {
    await createRepository(await openStorage({ url: `file://${this.root(name)}` }), new Date())
    this.giveToServer(this.root(name))
  }

  /** The same, encrypted by a key file beside it. */
  async createEncrypted(name: string): Promise<void> {
    const bytes = Buffer.alloc(32, name)
    const keyFile = `${this.root(name)}.key`
    writeFileSync(keyFile, bytes, { mode: 0o600 })
    const storage = await openStorage({ url: `file://${this.root(name)}` })
    await createRepository(storage, new Date(), true)
    const secret = { kind: 'key-file', bytes, where: 'a test' } as const
    await ensureFirstKey(storage, { secret, label: 'first', createdAt: new Date() })
    for (const path of [keyFile, this.root(name)]) this.giveToServer(path)
  }

  giveToServer(path: string): void {
    const { runAs } = this.server
    if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, path])
  }

  takeAway(name: string): void {
    renameSync(this.root(name), `${this.root(name)}.away`)
  }

  bringBack(name: string): void {
    renameSync(`${this.root(name)}.away`, this.root(name))
  }

  async run(...args: string[]): Promise<TidemarkResult> {
    return await tidemark(['--config', this.config, ...args], { runAs: this.server.runAs })
  }

  begin(...args: string[]) {
    return startTidemark(['--config', this.config, ...args], { runAs: this.server.runAs })
  }

  async ok(...args: string[]): Promise<TidemarkResult> {
    const result = await this.run(...args)
    if (result.status === 0) return result
    throw new Error(`${args.join(' ')}: ${result.status}\n${result.stdout}${result.stderr}`)
  }

  /** The report of a backup that may have ended with 0 or 3. */
  async backUp(...args: string[]): Promise<{ status: number | null; report: BackupReport }> {
    const result = await this.run('--json', 'backup', ...args)
    if (result.status !== 0 && result.status !== 3) {
      throw new Error(`backup: ${result.status}\n${result.stdout}${result.stderr}`)
    }
    return { status: result.status, report: result.json<BackupReport>() }
  }

  async listed(repository: string): Promise<string[]> {
    const result = await this.ok('--json', 'list', '--repository', repository)
    return result.json<{ backups: { id: string }[] }>().backups.map(({ id }) => id)
  }

  async archiveNow(): Promise<void> {
    await archiveNow(this.server)
  }

  /** How many rows table `t` has in what is restored so. */
  async restoredRows(name: string, ...args: string[]): Promise<number> {
    const into = this.root(name)
    await this.ok('restore', '--into', into, ...args)
    await using copy = await openRecovered(into)
    const [row] = await copy.sql<{ rows: number }>('SELECT count(*)::int AS rows FROM t')
    return row?.rows ?? -1
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.dispose()
  }
}

export async function protectServerBySeveral(
  options: FixtureOptions,
): Promise<SeveralRepositories> {
  const base = temporaryDirectory(undefined, 'tidemark-several-')
  const config = join(base, 'tidemark.yaml')
  const archive = `${TIDEMARK} --config ${config} wal push --cluster main "%p"`
  const settings = { archive_mode: 'on', archive_command: archive }
  const server = await startPostgres({ settings })
  const scene = new SeveralRepositories(base, config, server, options)
  scene.giveToServer(base)
  await scene.create('local')
  for (const [name, other] of Object.entries(options.others)) {
    if (other === 'directory') await scene.create(name)
    else if (other === 'encrypted') await scene.createEncrypted(name)
    else await createRepository(await openStorage(other), new Date())
  }
  return scene
}
