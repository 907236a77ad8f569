/** One database, or the globals of the server: the tool's bytes into files of the dump. */
import { createReadStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import { type ArchiveEntry, makesAnObject } from '../postgres/archive-toc.ts'
import { CustomArchiveReader } from '../postgres/archive-blocks.ts'
import { TarArchiveReader } from '../postgres/archive-tar.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import type { DumpObject } from '../repository/dump-objects.ts'
import type { DumpedDatabase, ToolFormat } from '../repository/dump-record.ts'
import type { FrameReference } from '../repository/backup-record.ts'
import { completeSelection } from './complete-selection.ts'
import { readDirectoryArchive } from './directory-archive.ts'
import { PlainEnd } from './plain-end.ts'
import { type NamedDatabase, runPgDump } from './run-pg-dump.ts'
import { runTool } from './run-tool.ts'
import { type HeldSnapshot, holdSnapshot } from './snapshot.ts'
import type { DumpContext } from './dump-context.ts'
import { toolEnvironment } from './tool-environment.ts'
import { withToolDirectory } from './tool-directory.ts'

/** Returns the number of their file. */
export async function dumpGlobals(context: DumpContext): Promise<number> {
  const { options, tools, progress, signal, notes, rolePasswords, server } = context
  progress.phase('dumping roles, tablespaces and settings')
  const file = await context.writer.openFile('globals.sql')
  const end = new PlainEnd()
  const { remarks } = await runTool({
    program: tools.path('pg_dumpall'),
    args: [
      '--globals-only',
      '--no-password',
      // It would try postgres and template1, which need not be open to us.
      `--database=${formatDatabaseParameter(server.database)}`,
      ...(rolePasswords ? [] : ['--no-role-passwords']),
    ],
    env: toolEnvironment(
      parseConnectionUrl(options.connection),
      server.database,
      options.environment,
    ),
    signal,
    task: 'dump the roles and tablespaces',
    onOutput: async (bytes) => {
      end.push(bytes)
      await file.append(bytes)
      progress.advance(bytes.length)
    },
  })
  end.finish('pg_dumpall')
  notes.push(...remarks)
  if (!rolePasswords) notes.push('the globals have no passwords of roles (--role-passwords)')
  return await file.close()
}

/** A parameter is expanded when it looks like a connection string; so this one always is. */
function formatDatabaseParameter(name: string): string {
  return `dbname='${name.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

export async function dumpDatabase(
  context: DumpContext,
  database: NamedDatabase,
): Promise<DumpedDatabase> {
  const { progress, server } = context
  progress.phase(`dumping database ${database.name}`)
  const snapshot = await holdSnapshot(database.url)
  try {
    requireSameServer(snapshot, server.systemIdentifier)
    const written = await writeFiles(context, database, snapshot)
    // Only now is it known that one and the same snapshot was there all the time.
    await snapshot.end()
    const { databaseOid: oid, encoding, lsn, at } = snapshot.facts
    return { name: database.name, oid, encoding, lsn, at: at.toISOString(), ...written }
  } finally {
    await snapshot.close()
  }
}

/** Between two sessions another server may have taken over the address. */
export function requireSameServer({ server }: HeldSnapshot, systemIdentifier: bigint): void {
  if (server.systemIdentifier === systemIdentifier) return
  throw new Failure('TM2004', {
    message: 'another server answers than when the dump began',
    because: `its system identifier is ${server.systemIdentifier}, not ${systemIdentifier}`,
    fix: 'name the server itself in the connection, then run the dump again',
  })
}

type WrittenFiles = Pick<DumpedDatabase, 'files' | 'objectLists' | 'objects'>

async function writeFiles(
  context: DumpContext,
  database: NamedDatabase,
  snapshot: HeldSnapshot,
): Promise<WrittenFiles> {
  if (context.options.format !== 'directory') return await writeStream(context, database, snapshot)
  return await withToolDirectory(context.options.temporaryDirectory, async (parent) => {
    const path = join(parent, 'dump')
    const args = [`--file=${path}`, `--jobs=${context.options.jobs}`, '--no-sync']
    await runDump(context, database, { snapshot, args, onOutput: () => undefined })
    return await storeDirectory(context, database, path)
  })
}

interface DumpRun {
  readonly snapshot: HeldSnapshot
  readonly args: readonly string[]
  readonly onOutput: (bytes: Uint8Array) => Promise<void> | void
}

export async function runDump(
  context: DumpContext,
  database: NamedDatabase,
  run: DumpRun,
): Promise<void> {
  const { options, selection, notes } = context
  const { snapshot, onOutput } = run
  const completion = await completeSelection(context, database, snapshot)
  const args = [...run.args, ...selection, ...completion]
  notes.push(
    ...(await runPgDump(context, database, { snapshot, format: options.format, args, onOutput })),
  )
}

const SUFFIXES: Readonly<Record<Exclude<ToolFormat, 'directory'>, string>> = {
  plain: 'sql',
  custom: 'dump',
  tar: 'tar',
}

/** What pg_dump writes to its standard output, proved to be whole on its way. */
async function writeStream(
  context: DumpContext,
  { number, ...database }: NamedDatabase,
  snapshot: HeldSnapshot,
): Promise<WrittenFiles> {
  const { writer, progress } = context
  const format = context.options.format as Exclude<ToolFormat, 'directory'>
  const judge = openJudge(format)
  const file = await writer.openFile(`${number}.${SUFFIXES[format]}`)
  const onOutput = async (bytes: Uint8Array): Promise<void> => {
    judge.push(bytes)
    await file.append(bytes)
    progress.advance(bytes.length)
  }
  await runDump(context, { number, ...database }, { snapshot, args: [], onOutput })
  const entries = judge.finish()
  const files = [await file.close()]
  return { files, ...(await writeObjects(context, entries)) }
}

/** Undefined: nothing lists the objects. */
interface StreamJudge {
  push(bytes: Uint8Array): unknown
  finish(): readonly ArchiveEntry[] | undefined
}

function openJudge(format: Exclude<ToolFormat, 'directory'>): StreamJudge {
  if (format === 'plain') {
    const end = new PlainEnd()
    return {
      push: (bytes) => end.push(bytes),
      finish: () => {
        end.finish('pg_dump')
        return undefined
      },
    }
  }
  const reader = format === 'custom' ? new CustomArchiveReader() : new TarArchiveReader()
  return { push: (bytes) => reader.push(bytes), finish: () => reader.finish().entries }
}

async function writeObjects(
  { writer }: DumpContext,
  entries: readonly ArchiveEntry[] | undefined,
): Promise<{ objectLists: FrameReference[]; objects: number }> {
  if (entries === undefined) return { objectLists: [], objects: 0 }
  const { lists, count } = await writer.writeObjects(
    entries.filter(makesAnObject).map(describeEntry),
  )
  return { objectLists: lists, objects: count }
}

export function describeEntry({ dumpId, kind, schema, name, owner }: ArchiveEntry): DumpObject {
  return { dumpId, kind, schema, name, owner }
}

/** Each file as pg_dump has left it, the table of contents first. */
async function storeDirectory(
  context: DumpContext,
  { number, name }: NamedDatabase,
  directory: string,
): Promise<WrittenFiles> {
  context.progress.phase(`storing database ${name}`)
  const { toc, names } = await readDirectoryArchive(directory)
  const files: number[] = []
  for (const one of names) {
    files.push(await storeFile(context, join(directory, one), `${number}/${one}`))
  }
  return { files, ...(await writeObjects(context, toc.entries)) }
}

const READ_BYTES = 256 * 1024

async function storeFile(
  { writer, progress, signal }: DumpContext,
  path: string,
  name: string,
): Promise<number> {
  signal.throwIfAborted()
  if (writer.adoptFile !== undefined) return await writer.adoptFile(path, name)
  const file = await writer.openFile(name)
  for await (const bytes of createReadStream(path, { highWaterMark: READ_BYTES })) {
    signal.throwIfAborted()
    await file.append(bytes as Buffer)
    progress.advance((bytes as Buffer).length)
  }
  const number = await file.close()
  await rm(path)
  return number
}
