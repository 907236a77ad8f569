/**
 * Dumps of real databases, written by pg_dump of a chosen major and stored as `tidemark dump`
 * stores them, with the files that pg_dump wrote for comparison.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { DumpWriter } from '../../src/dump/write-dump.ts'
import { openDumpWriter } from '../../src/dump/write-dump.ts'
import { ArchiveTocReader, makesAnObject } from '../../src/postgres/archive-toc.ts'
import { TarArchiveReader } from '../../src/postgres/archive-tar.ts'
import type { DumpedDatabase, DumpFormat, DumpRecord } from '../../src/repository/dump-record.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { groupOf, makeDumpId } from './dumped-files.ts'
import { findTool } from './postgres-binaries.ts'
import type { PostgresServer } from './postgres-server.ts'
import { runChecked } from './run-program.ts'
import { temporaryDirectory } from './temporary-directory.ts'

export interface RealDumpOptions {
  readonly databases?: readonly string[]
  readonly format?: DumpFormat
  readonly globals?: boolean
  readonly args?: readonly string[]
  /** Of pg_dump; the server's unless given. */
  readonly toolMajor?: number
}

export interface RealDump {
  readonly record: DumpRecord
  /** By name in the record: where what pg_dump wrote lies. */
  readonly written: ReadonlyMap<string, string>
}

const ENDINGS = { plain: '.sql', custom: '.dump', tar: '.tar', directory: '' } as const

let taken = 0

export async function takeRealDump(
  server: PostgresServer,
  storage: Storage,
  options: RealDumpOptions = {},
): Promise<RealDump> {
  const { databases = ['postgres'], format = 'custom' } = options
  const base = temporaryDirectory(server.runAs, 'tidemark-dump-')
  const written = new Map<string, string>()
  const writer = await openDumpWriter({
    group: groupOf([storage]),
    cluster: 'main',
    id: makeDumpId(),
    startedAt: new Date(1_800_000_000_000 + 1000 * taken++),
    databases,
    format,
    signal: new AbortController().signal,
  })
  const globals = options.globals === true ? await addGlobals(server, writer, base, written) : {}
  const dumped: DumpedDatabase[] = []
  for (const [index, name] of databases.entries()) {
    const path = join(base, `${index + 1}${ENDINGS[format]}`)
    await runDump(server, options, ['pg_dump', `--format=${format[0]}`, `--file=${path}`, name])
    dumped.push(await addDatabase(server, writer, { name, format, path, written }))
  }
  const { record } = await writer.publish({
    finishedAt: '2026-11-22T09:00:00.000Z',
    server: await describeServer(server),
    toolVersion: await versionOf(server, options),
    selection: [...(options.args ?? [])],
    databases: dumped,
    labels: {},
    ...globals,
  })
  return { record, written }
}

function toolOf(server: PostgresServer, name: string, major = server.major): string {
  const path = findTool(name, major)
  if (path === undefined) throw new Error(`no ${name} ${major} here`)
  return path
}

async function versionOf(server: PostgresServer, { toolMajor }: RealDumpOptions): Promise<string> {
  const { stdout } = await runChecked(toolOf(server, 'pg_dump', toolMajor), ['--version'])
  return /\) (\S+)/.exec(stdout)?.[1] ?? ''
}

async function runDump(
  server: PostgresServer,
  options: RealDumpOptions,
  [tool = '', ...args]: readonly string[],
): Promise<void> {
  const isPacked = args[0] === '--format=c' || args[0] === '--format=d'
  const rest = [...(isPacked ? ['-Z0'] : []), ...(options.args ?? []), ...args]
  await runChecked(toolOf(server, tool, options.toolMajor), rest, {
    runAs: server.runAs,
    env: { PGHOST: server.socketDirectory, PGPORT: String(server.port), PGUSER: server.user },
  })
}

async function addGlobals(
  server: PostgresServer,
  writer: DumpWriter,
  base: string,
  written: Map<string, string>,
): Promise<{ globals: number }> {
  const path = join(base, 'globals.sql')
  await runDump(server, {}, ['pg_dumpall', '--globals-only', `--file=${path}`])
  written.set('globals.sql', path)
  return { globals: await addFile(writer, 'globals.sql', path) }
}

async function addFile(writer: DumpWriter, name: string, path: string): Promise<number> {
  const file = await writer.openFile(name)
  const bytes = readFileSync(path)
  for (let at = 0; at < bytes.length; at += 65_536)
    await file.append(bytes.subarray(at, at + 65_536))
  return await file.close()
}

async function addDatabase(
  server: PostgresServer,
  writer: DumpWriter,
  dump: { name: string; format: DumpFormat; path: string; written: Map<string, string> },
): Promise<DumpedDatabase> {
  const { name, format, path, written } = dump
  const paths = statSync(path).isDirectory()
    ? readdirSync(path).map((file) => join(path, file))
    : [path]
  const files: number[] = []
  for (const one of paths) {
    const stored = one.slice(dirname(path).length + 1)
    written.set(stored, one)
    files.push(await addFile(writer, stored, one))
  }
  const { lists, count } = await writer.writeObjects(format === 'plain' ? [] : readObjects(dump))
  const [row] = await server.sql<{ oid: string; encoding: string }>(
    'SELECT oid::text, pg_encoding_to_char(encoding) AS encoding FROM pg_database WHERE datname = $1',
    [name],
  )
  return {
    name,
    oid: Number(row?.oid),
    encoding: row?.encoding ?? '',
    lsn: '0/1A2B3C4',
    at: '2026-11-22T08:59:00.000Z',
    files,
    objectLists: lists,
    objects: count,
  }
}

function readObjects({ format, path }: { format: DumpFormat; path: string }) {
  const reader =
    format === 'tar'
      ? new TarArchiveReader()
      : new ArchiveTocReader({ format: format === 'directory' ? format : 'custom' })
  reader.push(readFileSync(format === 'directory' ? join(path, 'toc.dat') : path))
  return reader
    .finish()
    .entries.filter(makesAnObject)
    .map(({ dumpId, kind, schema, name, owner }) => ({ dumpId, kind, schema, name, owner }))
}

async function describeServer(server: PostgresServer) {
  const [row] = await server.sql<{ identifier: string; version: string }>(
    `SELECT system_identifier::text AS identifier, current_setting('server_version') AS version
       FROM pg_control_system()`,
  )
  return {
    systemIdentifier: row?.identifier ?? '',
    version: row?.version ?? '',
    major: server.major,
  }
}

/** Of a database, to compare: what pg_dump says of it, without what differs by name or run. */
export async function describeDatabase(
  server: PostgresServer,
  database: string,
  args: readonly string[] = [],
): Promise<string> {
  const { stdout } = await runChecked(
    toolOf(server, 'pg_dump', 15),
    ['--format=p', '--encoding=UTF8', ...args],
    {
      runAs: server.runAs,
      env: {
        PGHOST: server.socketDirectory,
        PGPORT: String(server.port),
        PGUSER: server.user,
        PGDATABASE: database,
      },
    },
  )
  return stdout.replaceAll(/^\\(un)?restrict .*$/gm, '')
}
