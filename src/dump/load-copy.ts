/**
 * Loads the rows of a dump by COPY into a table that is there (docs/design/dumps.md, section 10).
 *
 * Invariant: all rows or none: one transaction empties the table (--truncate), sends every byte,
 * each proved before it is sent, and is committed only when the whole file was proved and the
 * server has taken as many rows as were dumped.
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { withDatabase } from '../postgres/connection-url.ts'
import { type CopySession, openCopySession, type Row } from '../postgres/server-session.ts'
import type { DumpedCopy, DumpRecord } from '../repository/dump-record.ts'
import type { Storage } from '../storage/storage.ts'
import { explainCopyInError } from './copy-failures.ts'
import { formatEncodingSwitch, formatForm } from './copy-options.ts'
import { findTable, type FoundTable, formatTable } from './copy-source.ts'
import {
  type CopyLoadChoices,
  type CopyTarget,
  judgeCopyLoad,
  refuseCopyLoad,
} from './judge-copy-load.ts'
import { readDumpFile } from './read-dump.ts'
import { LOAD_APPLICATION } from './read-load-facts.ts'
import { quoteName } from './sql-text.ts'

export interface CopyLoadRequest {
  readonly storage: Storage
  readonly record: DumpRecord
  /** URL of the server; its database is not looked at. May hold a password. */
  readonly connection: string
  /** Database to load into. */
  readonly into: string
  /** As SQL writes it; undefined: the one that was dumped. */
  readonly table: string | undefined
  readonly choices: CopyLoadChoices
  /** SET ROLE to it first. */
  readonly role: string | undefined
  readonly analyze: boolean
}

export interface LoadedCopy {
  readonly address: string
  readonly table: string
  readonly rows: number
  readonly truncated: boolean
  readonly analyzed: boolean
  readonly notes: readonly string[]
}

/** TM2083 to TM2086, TM1601 where the dump is damaged. */
export async function loadCopy(
  request: CopyLoadRequest,
  progress: Progress,
  signal: AbortSignal,
): Promise<LoadedCopy> {
  const { record, connection, into } = request
  const { copy } = record
  if (copy === undefined) throw new Error(`dump ${record.id} has no rows of COPY`)
  progress.phase('connecting')
  const session = await openCopySession({
    connection: withDatabase(connection, into),
    applicationName: LOAD_APPLICATION,
  })
  try {
    await session.query('BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE')
    await session.query(SETTINGS)
    if (request.role !== undefined) await session.query(`SET LOCAL ROLE ${quoteName(request.role)}`)
    const table = await prepareTable(session, request, copy)
    const rows = await sendRows({ session, request, copy, table, progress, signal })
    await commit(session, table)
    const notes: string[] = []
    const analyzed = request.analyze && (await analyze(session, table, notes))
    const { truncate: truncated } = request.choices
    const { address } = session
    return { address, table: formatTable(table), rows, truncated, analyzed, notes }
  } finally {
    // What is not committed is gone with the session.
    await session.close()
  }
}

/** The words are read as they were written, whatever role and database have set. */
const SETTINGS = `SET LOCAL row_security TO off;
  SET LOCAL intervalstyle TO postgres;
  SET LOCAL xmloption TO content;
  SET LOCAL array_nulls TO on`

/** TM2083 with all that stands against it; then the table is emptied where that is asked for. */
async function prepareTable(
  session: CopySession,
  request: CopyLoadRequest,
  copy: DumpedCopy,
): Promise<FoundTable> {
  const { record, choices } = request
  const wanted = request.table ?? nameOf(record, copy)
  const target = await readTarget(session, wanted, choices)
  const problems = judgeCopyLoad(record, copy, target, { wanted, choices })
  const { table } = target
  if (problems.length > 0 || table === undefined) throw refuseCopyLoad(problems)
  if (choices.truncate) {
    // The dump has rows of this table alone, so those of children stay.
    await session.query(`TRUNCATE ${onlyOf(table)}${formatTable(table)}`, [], 'empty the table')
  }
  return table
}

function onlyOf({ kind }: FoundTable): string {
  return kind === 'p' ? '' : 'ONLY '
}

function nameOf({ id }: DumpRecord, { table }: DumpedCopy): string {
  if (table !== undefined) return formatTable(table)
  throw new Failure('TM2083', {
    message: `dump ${id} is of a query, which has no table`,
    because: 'it was taken with --query and without --table',
    fix: 'name the table to load into with --table',
  })
}

async function readTarget(
  session: CopySession,
  wanted: string,
  { append, truncate }: CopyLoadChoices,
): Promise<CopyTarget> {
  const { systemIdentifier, version, isInRecovery, database } = session.facts
  const table = await findTable(session, wanted)
  const [row] = await session.query<Row & { oid: string }>(
    `SELECT oid::text AS oid FROM pg_catalog.pg_database
      WHERE datname = pg_catalog.current_database()`,
  )
  return {
    address: session.address,
    database,
    databaseOid: Number(row?.oid),
    systemIdentifier: String(systemIdentifier),
    major: version.major,
    isInRecovery,
    table,
    isEmpty: append || truncate || table === undefined || (await isEmpty(session, table)),
  }
}

const HAS_ROWS = new Set(['r', 'p', 'f'])

async function isEmpty(session: CopySession, table: FoundTable): Promise<boolean> {
  if (!HAS_ROWS.has(table.kind)) return true
  const name = formatTable(table)
  const [row] = await session.query<Row & { full: boolean }>(
    `SELECT EXISTS (SELECT FROM ${onlyOf(table)}${name}) AS full`,
    [],
    `say whether ${name} is empty`,
  )
  return row?.full === false
}

interface SendRun {
  readonly session: CopySession
  readonly request: CopyLoadRequest
  readonly copy: DumpedCopy
  readonly table: FoundTable
  readonly progress: Progress
  readonly signal: AbortSignal
}

async function sendRows(run: SendRun): Promise<number> {
  const { session, request, copy, table, progress, signal } = run
  const name = formatTable(table)
  progress.phase(`loading ${name}`, request.record.sizes.rawBytes)
  const columns = copy.columns.map((column) => quoteName(column.name)).join(', ')
  const form = { ...copy, encoding: await chooseEncoding(session, copy) }
  const words = formatForm(form, 'in')
  const text = `${formatEncodingSwitch(form)}COPY ${name} (${columns}) FROM STDIN (${words})`
  try {
    const rows = await session.copyIn(text, readRows(run), `load into ${name}`)
    await session.query("SET LOCAL client_encoding TO 'UTF8'")
    if (rows !== copy.rows) throw wrongCount(name, rows, copy.rows)
    return rows
  } catch (error) {
    signal.throwIfAborted()
    throw explainCopyInError(error, name)
  }
}

/**
 * Bytes that have no encoding must fit that of the database. COPY does not check them where it is
 * told SQL_ASCII (CopyConvertBuf() in commands/copyfromparse.c), and lets in what no one can read.
 */
async function chooseEncoding(session: CopySession, { encoding }: DumpedCopy): Promise<string> {
  if (encoding !== 'SQL_ASCII') return encoding
  const [row] = await session.query<Row & { encoding: string }>(
    `SELECT pg_catalog.current_setting('server_encoding') AS encoding`,
  )
  return row?.encoding ?? encoding
}

async function* readRows({ request, progress, signal }: SendRun): AsyncGenerator<Uint8Array> {
  const { storage, record } = request
  const file = record.databases[0]?.files[0] ?? 0
  for await (const bytes of readDumpFile(storage, record, file)) {
    signal.throwIfAborted()
    yield bytes
    progress.advance(bytes.length)
  }
  signal.throwIfAborted()
}

function wrongCount(table: string, loaded: number, dumped: number): Failure {
  return new Failure('TM2085', {
    message: `the dump has ${dumped} rows, and ${loaded} came into ${table}`,
    because: 'a trigger of the table leaves rows out',
    fix: 'nothing was loaded; disable the trigger for the time of the load, then load again',
    details: { dumped, loaded },
  })
}

/** Deferred constraints are checked here. */
async function commit(session: CopySession, table: FoundTable): Promise<void> {
  try {
    await session.query('COMMIT', [], 'commit the rows')
  } catch (error) {
    if (!isFailure(error, 'TM1106')) throw explainCopyInError(error, formatTable(table))
    throw new Failure('TM2086', {
      message: `it is not known whether the rows are in ${formatTable(table)}`,
      because: `the connection was lost during the commit: ${error.because ?? error.message}`,
      fix: 'see whether the table has them; only if not, load again',
      cause: error,
    })
  }
}

async function analyze(session: CopySession, table: FoundTable, notes: string[]): Promise<boolean> {
  try {
    await session.query(`ANALYZE ${formatTable(table)}`, [], 'collect statistics')
    return true
  } catch (error) {
    if (!isFailure(error)) throw error
    notes.push(`all rows are loaded, but ANALYZE failed: ${error.because ?? error.message}`)
    return false
  }
}
