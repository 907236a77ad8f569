/**
 * Files of pg_dump as a source of loads: archives and SQL, told apart by their first bytes.
 *
 * Invariant: they end well only when they were seen to be whole: an archive to its last block, SQL
 * with the comment that ends every dump.
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { ArchiveToc } from '../postgres/archive-toc.ts'
import { makesAnObject } from '../postgres/archive-toc.ts'
import type { DumpFormat } from '../repository/dump-record.ts'
import { describeEntry } from './dump-database.ts'
import { HeadedArchive, type StreamedFormat } from './headed-archive.ts'
import { damagedImport, type ImportFile, putBack, readHead } from './import-bytes.ts'
import { describeRemains, describeRepeat, type FailedLoad } from './load-failures.ts'
import type { LoadSource } from './load-source.ts'
import { openArchive } from './open-archive.ts'
import { PlainEnd } from './plain-end.ts'
import { NAME, unquoteName } from './sql-text.ts'

export type ImportKind = StreamedFormat | 'plain' | 'databases'

export interface OpenedImport {
  readonly kind: ImportKind
  readonly head: Buffer
  readonly bytes: AsyncGenerator<Uint8Array>
}

/** Of SQL: the comments, the settings, CREATE DATABASE. */
const HEAD_BYTES = 64 * 1024

/** TM2110 */
export async function recogniseImport(file: ImportFile): Promise<OpenedImport> {
  const iterator = file.read()
  const head = await readHead(iterator, HEAD_BYTES)
  const kind = recognise(head)
  if (kind !== undefined) return { kind, head, bytes: putBack(head, iterator) }
  await iterator.return(undefined)
  throw new Failure('TM2110', {
    message: `${file.label} is no dump of PostgreSQL`,
    because: 'it does not begin as pg_dump and pg_dumpall let their files begin',
    fix: 'name such a file; other SQL is run with psql -v ON_ERROR_STOP=1 -f FILE',
  })
}

/** Pure. `databases`: SQL that makes databases and connects to them. */
export function recognise(head: Buffer): ImportKind | undefined {
  if (head.toString('latin1', 0, 5) === 'PGDMP') return head[10] === 1 ? 'custom' : undefined
  if (head.toString('latin1', 257, 262) === 'ustar') {
    return head.toString('latin1', 0, 8) === 'toc.dat\0' ? 'tar' : undefined
  }
  const text = head.toString('latin1')
  if (/^-- PostgreSQL database cluster dump$/m.test(text)) return 'databases'
  if (!/^-- PostgreSQL database dump$/m.test(text)) return undefined
  if (!/^\\connect /m.test(text)) return 'plain'
  return findCreated(head) === undefined ? 'databases' : 'plain'
}

/** pg_dump --create: the database that the script makes and goes to. */
function findCreated(head: Buffer): string | undefined {
  const text = head.toString('utf8')
  if (!/^\\connect /m.test(text)) return undefined
  const name = new RegExp(`^CREATE DATABASE (${NAME}) WITH `, 'm').exec(text)?.[1]
  return name === undefined ? undefined : unquoteName(name)
}

export async function openArchiveSource(
  file: ImportFile,
  { kind, bytes }: OpenedImport,
): Promise<LoadSource> {
  const format = kind as StreamedFormat
  const archive = new HeadedArchive(format, bytes)
  const toc = await naming(file, async () => await archive.readToc())
  const files = [{ name: `import.${format}`, bytes: file.bytes ?? 0, read: () => prove() }]
  async function* prove(): AsyncGenerator<Uint8Array> {
    const again = new HeadedArchive(format, file.read())
    await again.readToc()
    yield* again.whole()
  }
  return {
    ...describeArchive(file.label, format, toc),
    bytes: file.bytes,
    openArchive: async (seeks) => {
      if (!seeks) return { ...archive.open(), close: async () => await archive.close() }
      await archive.close()
      if (file.isFile) return await openArchive({ format, files, seeks })
      throw new Failure('TM2100', {
        message: '--jobs and --list need a file',
        because: 'standard input cannot be read twice',
        fix: 'leave them out, or name the file with --import',
      })
    },
  }
}

/** All that the table of contents tells. */
export function describeArchive(
  label: string,
  format: DumpFormat,
  toc: ArchiveToc,
): Omit<LoadSource, 'openArchive' | 'bytes'> {
  const database = toc.entries.find(({ kind }) => kind === 'DATABASE')
  return {
    label,
    json: { file: label },
    format,
    toolVersion: toc.head.toolVersion,
    database: { name: toc.head.database, oid: database?.oid, encoding: toc.encoding },
    server: { systemIdentifier: undefined, major: Number.parseInt(toc.head.serverVersion, 10) },
    createsItself: false,
    holdsOnlyRows: toc.entries.every(({ section }) => section === 'none' || section === 'data'),
    async *objects() {
      yield* toc.entries.filter(makesAnObject).map(describeEntry)
    },
    script: () => {
      throw new Error('an archive is no script')
    },
    stopped: (load, cause) => importStopped(label, load, cause),
  }
}

export function openScriptSource(file: ImportFile, { head, bytes }: OpenedImport): LoadSource {
  const text = head.toString('latin1')
  const created = findCreated(head)
  const serverVersion = /^-- Dumped from database version (\S+)/m.exec(text)?.[1] ?? '0'
  return {
    label: file.label,
    json: { file: file.label },
    format: 'plain',
    toolVersion: /^-- Dumped by pg_dump version (\S+)/m.exec(text)?.[1] ?? '0',
    database: {
      name: created ?? file.label,
      oid: undefined,
      encoding: /^SET client_encoding = '([^']+)'/m.exec(text)?.[1] ?? 'UTF8',
    },
    server: { systemIdentifier: undefined, major: Number.parseInt(serverVersion, 10) },
    createsItself: created !== undefined,
    holdsOnlyRows: false,
    bytes: file.bytes,
    objects: () => {
      throw new Error('a script has no list of objects')
    },
    openArchive: () => {
      throw new Error('a script is no archive')
    },
    script: () => proveScript(bytes),
    stopped: (load, cause) => importStopped(file.label, load, cause),
  }
}

export async function* proveScript(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const end = new PlainEnd()
  for await (const piece of bytes) {
    end.push(piece)
    yield piece
  }
  end.finish('pg_dump')
}

export async function naming<T>(file: { label: string }, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    if (!isFailure(error, 'TM2005') && !isFailure(error, 'TM2008')) throw error
    throw damagedImport(file.label, error.because ?? error.message, error)
  }
}

function importStopped(label: string, load: FailedLoad, cause: Failure): Failure {
  return new Failure('TM2112', {
    message: `the load into ${load.database} was stopped: ${label} is damaged or not whole`,
    because: cause.because ?? cause.message,
    fix: `${describeRemains(load)}; see to the file, then ${describeRepeat(load)}`,
    details: { ...load, cause: cause.code },
    cause,
  })
}
