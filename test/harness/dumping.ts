/** What tests of dumps share: options, the tools alone, and what is the same by nature. */
import { chmodSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { TakeDumpOptions } from '../../src/dump/dump-context.ts'
import { WHOLE_DATABASE } from '../../src/dump/selection.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { findTool } from './postgres-binaries.ts'
import type { PostgresServer } from './postgres-server.ts'
import { temporaryDirectory } from './temporary-directory.ts'

export function toolDirectory(major: number): string {
  const path = findTool('pg_dump', major)
  if (path === undefined) throw new Error(`no pg_dump for PostgreSQL ${major} here`)
  return dirname(path)
}

export function dumpOptions(
  server: PostgresServer,
  storage: Storage,
  extra: Partial<TakeDumpOptions> = {},
): TakeDumpOptions {
  return {
    targets: [{ name: 'main', storage, specification: { url: storage.url }, required: true }],
    cluster: 'main',
    connection: server.url(),
    databases: 'one',
    globals: false,
    rolePasswords: undefined,
    format: 'custom',
    jobs: 1,
    selection: WHOLE_DATABASE,
    toolDirectory: toolDirectory(server.major),
    environment: { PATH: process.env['PATH'], HOME: '/nowhere' },
    temporaryDirectory: temporaryDirectory(),
    labels: {},
    rewrite: false,
    ...extra,
  }
}

type Wrapped = 'pg_dump' | 'pg_dumpall'

/** A directory of tools of which `pg_dump`, or another one, first does what `lines` say. */
export function wrapPgDump(major: number, lines: string, wrapped: Wrapped = 'pg_dump'): string {
  const directory = temporaryDirectory(undefined, 'tidemark-tools-')
  const real = toolDirectory(major)
  for (const name of ['pg_dump', 'pg_dumpall', 'psql', 'pg_restore']) {
    const isOurs = name === wrapped
    const body = isOurs ? `[ "$1" = --version ] || {\n${lines}\n}\n` : ''
    const path = join(directory, name)
    writeFileSync(path, `#!/bin/sh\n${body}exec ${join(real, name)} "$@"\n`)
    chmodSync(path, 0o755)
  }
  return directory
}

/** An archive of the custom format, or toc.dat, without the moment of its making. */
export function maskBegun(bytes: Buffer): Buffer {
  const masked = Buffer.from(bytes)
  const intBytes = 1 + (masked[8] as number)
  const begins = 11 + ((masked[6] as number) >= 15 ? 1 : intBytes)
  return masked.fill(0, begins, begins + 7 * intBytes)
}

/** SQL without the key that every run makes anew. */
export function withoutKeys(sql: string): string {
  return sql.replaceAll(/^\\(un)?restrict .*$/gm, '')
}
