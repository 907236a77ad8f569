/**
 * A direct copy: pg_dump of one server writes into pg_restore of another; nothing is stored
 * (docs/design/dumps.md, section 11).
 *
 * Order: the snapshot, pg_dump up to the end of its table of contents, the judgement of the
 * target, the load. Invariant: the last bytes reach pg_restore only when pg_dump has ended well,
 * its archive was whole and the snapshot still stood; whichever side fails, the tool of the other
 * is ended.
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { withDatabase } from '../postgres/connection-url.ts'
import { type ArchiveToc, makesAnObject } from '../postgres/archive-toc.ts'
import { dumpGlobals, describeEntry, requireSameServer, runDump } from './dump-database.ts'
import { type PreparedDump, prepareDump } from './dump-all.ts'
import type { DumpContext, DumpRequest, DumpSink } from './dump-context.ts'
import { HeadedArchive } from './headed-archive.ts'
import { describeRemains, describeRepeat, type FailedLoad } from './load-failures.ts'
import { type PreparedGlobals, prepareGlobals } from './load-globals.ts'
import type { LoadSource } from './load-source.ts'
import { type LoadRequest, type PreparedLoad, prepareLoad } from './prepare-load.ts'
import { executeLoad, type LoadResult } from './run-load.ts'
import { type HeldSnapshot, holdSnapshot, type SnapshotFacts } from './snapshot.ts'
import { openToolOutput, type ToolOutput } from './tool-output.ts'

export interface CopyOptions {
  /** Of one database, in the custom format. */
  readonly dump: DumpRequest
  /** All but where it comes from; `into` undefined: named like the database. */
  readonly load: Omit<LoadRequest, 'source' | 'expected' | 'into'> & {
    readonly into: string | undefined
  }
  /** Told before anything is written. */
  readonly onCautions: (cautions: readonly string[]) => void
}

export interface CopyResult {
  readonly prepared: PreparedLoad
  readonly result: LoadResult
  readonly globals: PreparedGlobals['plan'] | undefined
  readonly snapshot: SnapshotFacts
  readonly notes: readonly string[]
}

/** Failures of a dump before anything is written; TM2030, TM2034, TM2037 of the target; TM2101. */
export async function copyDatabase(
  options: CopyOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<CopyResult> {
  progress.phase('connecting')
  const prepared = await prepareDump(options.dump)
  const name = prepared.databases[0]
  if (name === undefined) throw new Error('no database to copy')
  const notes: string[] = []
  const globals = await readSourceGlobals(options, { prepared, notes, progress, signal })
  const snapshot = await holdSnapshot(withDatabase(options.dump.connection, name))
  try {
    requireSameServer(snapshot, prepared.server.systemIdentifier)
    const dump = { prepared, name, snapshot, notes, progress, signal }
    const lost = AbortSignal.any([signal, snapshot.signal])
    const output = openToolOutput(lost, async (take, stop) => await dumpInto(dump, take, stop))
    try {
      return await loadFrom(output, { options, dump, globals })
    } finally {
      await output.close()
    }
  } finally {
    await snapshot.close()
  }
}

interface RunningDump {
  readonly prepared: PreparedDump
  readonly name: string
  readonly snapshot: HeldSnapshot
  readonly notes: string[]
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** pg_dump, and that its snapshot was there until it had ended. */
async function dumpInto(
  { prepared, name, snapshot, notes, progress, signal }: RunningDump,
  onOutput: (bytes: Uint8Array) => Promise<void>,
  stop: AbortSignal,
): Promise<void> {
  const context: DumpContext = {
    ...prepared,
    rolePasswords: false,
    // What is compressed here is decompressed at once.
    compression: ['--compress=0'],
    writer: NO_SINK,
    notes,
    progress,
    signal: AbortSignal.any([signal, stop]),
  }
  const url = withDatabase(prepared.options.connection, name)
  try {
    await runDump(context, { number: 1, name, url }, { snapshot, args: [], onOutput })
    await snapshot.end()
  } catch (error) {
    if (!isFailure(error) || signal.aborted || stop.aborted) throw error
    throw markAsSource(error)
  }
}

/** Failures of tools are told in the same way on both sides: this one is the source's. */
function markAsSource(cause: Failure): Failure {
  const { message, because, fix } = cause
  return new Failure('TM2101', {
    message,
    fix,
    cause,
    ...(because === undefined ? {} : { because }),
  })
}

const NO_SINK: DumpSink = {
  openFile: () => Promise.reject(new Error('a copy writes no files')),
  writeObjects: () => Promise.reject(new Error('a copy writes no files')),
}

interface Copy {
  readonly options: CopyOptions
  readonly dump: RunningDump
  readonly globals: PreparedGlobals | undefined
}

async function loadFrom(output: ToolOutput, copy: Copy): Promise<CopyResult> {
  const { options, dump, globals } = copy
  const { progress, signal, notes, snapshot } = dump
  const archive = new HeadedArchive('custom', output.bytes)
  const toc = await readToc(archive)
  const created = globals?.plan
  const prepared = await prepareLoad(
    {
      ...options.load,
      into: options.load.into ?? dump.name,
      source: sourceOf(archive, toc, dump),
      expected: {
        roles: created?.roles.created ?? [],
        tablespaces: created?.tablespaces.created ?? [],
      },
    },
    signal,
  )
  try {
    options.onCautions(prepared.judgement.cautions)
    await globals?.load(signal)
    const ending = AbortSignal.any([signal, output.failed])
    const result = await executeLoad(prepared, progress, ending)
    if (!archive.isWhole) throw endedEarly(prepared)
    return { prepared, result, globals: globals?.plan, snapshot: snapshot.facts, notes }
  } finally {
    await prepared.close()
  }
}

/** Before anything is written a dump fails here as it does anywhere. */
async function readToc(archive: HeadedArchive): Promise<ArchiveToc> {
  try {
    return await archive.readToc()
  } catch (error) {
    throw isFailure(error, 'TM2101') ? error.cause : error
  }
}

/** It cannot be: the end of the archive is the end of its last rows. */
function endedEarly({ request }: PreparedLoad): Failure {
  return new Failure('TM2101', {
    message: `the copy into ${request.into} may lack something`,
    because: 'pg_restore ended well before it had read the end of what pg_dump writes',
    fix: `compare ${request.into} with its source, or drop it and copy again`,
  })
}

function sourceOf(
  archive: HeadedArchive,
  toc: ArchiveToc,
  { prepared, name, snapshot }: RunningDump,
): LoadSource {
  const { server, address, tools } = prepared
  const { databaseOid: oid, encoding } = snapshot.facts
  return {
    label: `the server at ${address}`,
    json: { source: { server: address, lsn: snapshot.facts.lsn, at: snapshot.facts.at } },
    format: 'custom',
    toolVersion: tools.version,
    database: { name, oid, encoding },
    server: {
      systemIdentifier: String(server.systemIdentifier),
      major: server.version.major,
    },
    createsItself: false,
    // The load is told by its own selection.
    holdsOnlyRows: false,
    bytes: undefined,
    async *objects() {
      yield* toc.entries.filter(makesAnObject).map(describeEntry)
    },
    openArchive: async () => archive.open(),
    script: () => {
      throw new Error('a copy is no script')
    },
    stopped: sourceFailed,
  }
}

function sourceFailed(load: FailedLoad, cause: Failure): Failure {
  return new Failure('TM2101', {
    message: `the copy into ${load.database} was stopped since its source failed: ${cause.message}`,
    because: cause.because ?? 'pg_dump did not come to its end',
    fix: `${describeRemains(load)}; ${cause.fix}; then ${describeRepeat(load)}`,
    details: { ...load, cause: isFailure(cause.cause) ? cause.cause.code : cause.code },
    cause,
  })
}

/** With the globals: read before anything is written. */
async function readSourceGlobals(
  { dump, load }: CopyOptions,
  shared: Pick<RunningDump, 'prepared' | 'notes' | 'progress' | 'signal'>,
): Promise<PreparedGlobals | undefined> {
  if (!dump.globals) return undefined
  const pieces: Uint8Array[] = []
  const writer: DumpSink = {
    ...NO_SINK,
    openFile: async () => ({
      append: async (bytes) => void pieces.push(Uint8Array.from(bytes)),
      close: async () => 0,
    }),
  }
  const rolePasswords = dump.rolePasswords ?? true
  await dumpGlobals({ ...shared, ...shared.prepared, rolePasswords, compression: [], writer })
  return await prepareGlobals(Buffer.concat(pieces).toString('utf8'), load)
}
