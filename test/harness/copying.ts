/** Dumps of rows by COPY and loading them, in this process, on one server with two databases. */
import type { CopyOptions } from '../../src/dump/copy-options.ts'
import type { DumpResult } from '../../src/dump/dump-context.ts'
import { type LoadedCopy, loadCopy } from '../../src/dump/load-copy.ts'
import { type TakeCopyOptions, takeCopy } from '../../src/dump/take-copy.ts'
import type { CopyFormat, DumpRecord } from '../../src/repository/dump-record.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { newRepository } from '../scenarios/backup-fixture.ts'
import { readWholeFile } from './dumped-files.ts'
import { type PostgresServer, startPostgres } from './postgres-server.ts'

const progress = { phase() {}, advance() {}, note() {}, end() {} }
const never = new AbortController().signal

export interface CopyAsked {
  readonly table?: string
  readonly query?: string
  readonly where?: string
  readonly columns?: readonly string[]
  readonly database?: string
  readonly copy?: Partial<CopyOptions>
  readonly extra?: Partial<TakeCopyOptions>
}

export interface CopyLoadAsked {
  readonly table?: string
  readonly into?: string
  readonly append?: boolean
  readonly truncate?: boolean
  readonly force?: boolean
  readonly connection?: string
}

/** Rows are dumped from `shop` and loaded into `goal`. */
export class CopyFixture implements AsyncDisposable {
  readonly server: PostgresServer
  readonly storage: Storage

  private constructor(server: PostgresServer, storage: Storage) {
    this.server = server
    this.storage = storage
  }

  static async start(major: number): Promise<CopyFixture> {
    const server = await startPostgres({ major })
    await server.sql('CREATE DATABASE shop')
    await server.sql('CREATE DATABASE goal')
    return new CopyFixture(server, await newRepository())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  async dispose(): Promise<void> {
    await this.storage.close()
    await this.server.dispose()
  }

  async dump(format: CopyFormat, asked: CopyAsked, signal = never): Promise<DumpResult> {
    const { server, storage } = this
    const options: TakeCopyOptions = {
      targets: [{ name: 'main', storage, specification: { url: storage.url }, required: true }],
      cluster: 'main',
      connection: server.url('shop'),
      database: asked.database,
      source: {
        table: asked.table,
        query: asked.query,
        where: asked.where,
        columns: asked.columns ?? [],
      },
      copy: {
        format,
        header: false,
        delimiter: undefined,
        null: undefined,
        encoding: undefined,
        quote: undefined,
        escape: undefined,
        forceQuote: false,
        ...asked.copy,
      },
      rowSecurity: false,
      labels: { why: 'test' },
      rewrite: false,
      ...asked.extra,
    }
    return await takeCopy(options, progress, signal)
  }

  async load({ record }: { record: DumpRecord }, asked: CopyLoadAsked = {}): Promise<LoadedCopy> {
    const request = {
      storage: this.storage,
      record,
      connection: asked.connection ?? this.server.url(),
      into: asked.into ?? 'goal',
      table: asked.table,
      choices: {
        append: asked.append === true,
        truncate: asked.truncate === true,
        force: asked.force === true,
      },
      role: undefined,
      analyze: true,
    }
    return await loadCopy(request, progress, never)
  }

  async contentsOf({ record }: { record: DumpRecord }): Promise<Buffer> {
    return await readWholeFile(this.storage, record, 0)
  }

  /** Keys of everything in the repository. */
  async keys(): Promise<string[]> {
    const keys: string[] = []
    for await (const { key } of this.storage.list('')) keys.push(key)
    return keys.sort()
  }

  async rowsOf(database: string, table: string): Promise<unknown[]> {
    const rows = await this.server.sql<{ row: string }>(
      `SELECT whole_row::text AS row FROM ${table} whole_row ORDER BY 1`,
      [],
      database,
    )
    return rows.map(({ row }) => row)
  }

  async inBoth(sql: string): Promise<void> {
    for (const database of ['shop', 'goal']) await this.server.sql(sql, [], database)
  }

  async waitFor(query: string): Promise<void> {
    while ((await this.server.sql(query)).length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
