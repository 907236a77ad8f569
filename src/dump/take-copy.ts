/**
 * Dumps the rows of one table or query through COPY: the story in order (docs/design/dumps.md,
 * section 10).
 *
 * Invariant: the record is written only after the server has said how many rows it sent, what it
 * sent was taken to its last byte, and the transaction that read them was committed on the same
 * server process. Anything else removes what was written and throws.
 *
 * Order: what is read is found out first, in a transaction of its own. It is locked before the
 * snapshot is taken: TRUNCATE and ALTER TABLE that rewrite are not MVCC-safe, so a table that
 * was emptied between snapshot and lock would look as if it had had no rows.
 */
import { Targets } from '../backup/targets.ts'
import { now } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { withDatabase } from '../postgres/connection-url.ts'
import {
  type CopySession,
  openCopySession,
  openServerSession,
  type Row,
  type ServerFacts,
  type ServerSession,
} from '../postgres/server-session.ts'
import type { DumpedCopy } from '../repository/dump-record.ts'
import { makeBackupId } from '../repository/keys.ts'
import { openRepository } from '../repository/repository.ts'
import { explainCopyOutError } from './copy-failures.ts'
import {
  type CopyForm,
  type CopyOptions,
  completeForm,
  formatEncodingSwitch,
  formatForm,
} from './copy-options.ts'
import {
  type CopyPlan,
  type CopySource,
  describeColumns,
  formatTable,
  listReadTables,
  planCopy,
} from './copy-source.ts'
import type { DumpResult, TakeDumpOptions } from './dump-context.ts'
import { requireSameServer } from './dump-database.ts'
import { type HeldSnapshot, holdSnapshot } from './snapshot.ts'
import { type DumpFacts, type DumpWriter, openDumpWriter } from './write-dump.ts'

export interface TakeCopyOptions
  extends Pick<TakeDumpOptions, 'targets' | 'cluster' | 'connection' | 'labels' | 'rewrite'> {
  /** Undefined: the one that the connection goes to. */
  readonly database: string | undefined
  readonly source: CopySource
  readonly copy: CopyOptions
  /** Only rows that policies let the role see; else it is an error that there are any. */
  readonly rowSecurity: boolean
}

export async function takeCopy(
  options: TakeCopyOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<DumpResult> {
  judgeSource(options.source)
  progress.phase('connecting')
  const look = await lookAhead(options)
  signal.throwIfAborted()
  const targets = new Targets(options.targets)
  await targets.group.gather(openRepository)
  const startedAt = now()
  const selection = formatSource(options)
  const writer = await openDumpWriter({
    group: targets.group,
    cluster: options.cluster,
    id: makeBackupId(startedAt),
    startedAt,
    databases: [look.server.database],
    format: 'copy',
    selection,
    signal,
    rewrite: options.rewrite,
  })
  try {
    const notes: string[] = [...look.notes]
    const facts = await dumpRows({ options, look, writer, selection, progress, signal })
    progress.phase('writing the record')
    const published = await writer.publish(facts)
    for (const target of published.stored) targets.noteStored(target)
    notes.push(...published.notes)
    return { record: published.record, notes, targets: targets.report() }
  } catch (error) {
    // What could not be removed now is removed by the next dump: the hold names this process.
    await writer.abort().catch(() => undefined)
    throw error
  }
}

/** TM2081 */
function judgeSource({ table, query, where, columns }: CopySource): void {
  if (table === undefined && query === undefined) {
    throw contradiction('nothing says what is to be dumped', 'give --table or --query')
  }
  if (query === undefined) return
  if (where !== undefined || columns.length > 0) {
    const option = where === undefined ? '--columns' : '--where'
    throw contradiction(`${option} and --query exclude each other`, 'write it into the query')
  }
}

function contradiction(message: string, fix: string): Failure {
  return new Failure('TM2081', { message, fix })
}

/** Of the record: dumps of the same rows take each other's place when they expire. */
function formatSource({ source, rowSecurity }: TakeCopyOptions): string[] {
  const { table, query, where, columns } = source
  return [
    ...(table === undefined ? [] : [`--table=${table}`]),
    ...(columns.length === 0 ? [] : [`--columns=${columns.join(',')}`]),
    ...(where === undefined ? [] : [`--where=${where}`]),
    ...(query === undefined ? [] : [`--query=${query}`]),
    ...(rowSecurity ? ['--enable-row-security'] : []),
  ]
}

interface Look {
  readonly server: ServerFacts
  readonly url: string
  readonly form: CopyForm
  /** To be locked, quoted. */
  readonly reads: readonly string[]
  readonly notes: readonly string[]
}

/** TM2080, TM2081: before anything is written. */
async function lookAhead(options: TakeCopyOptions): Promise<Look> {
  const { connection, database, source, copy } = options
  const url = database === undefined ? connection : withDatabase(connection, database)
  const session = await openCopySession({ connection: url, applicationName: 'tidemark dump' })
  try {
    await session.query('BEGIN READ ONLY')
    const form = completeForm(copy, await chooseEncoding(session, copy), serverMajor(session))
    await session.query(formatSettings(options))
    const plan = await planCopy(session, source)
    await describeColumns(session, plan)
    const reads = await listReadTables(session)
    return {
      server: session.facts,
      url: withDatabase(connection, session.facts.database),
      form,
      reads,
      notes: listNotes(plan, source),
    }
  } finally {
    await session.close()
  }
}

function serverMajor({ facts }: ServerSession): number {
  return facts.version.major
}

/** TM2081 for a name that the server does not know. Bytes as they are: that is the database's. */
async function chooseEncoding(session: CopySession, { encoding }: CopyOptions): Promise<string> {
  const [row] = await session.query<Row & { own: string; wanted: string | null }>(
    `SELECT pg_catalog.current_setting('server_encoding') AS own,
            CASE WHEN e.code >= 0 THEN pg_catalog.pg_encoding_to_char(e.code)::text END AS wanted
       FROM pg_catalog.pg_char_to_encoding($1) AS e (code)`,
    [encoding ?? 'SQL_ASCII'],
    'say its encoding',
  )
  if (row === undefined) throw new Error('a SELECT without FROM gave no row')
  if (row.wanted === null) {
    throw contradiction(
      `--encoding: the server knows no encoding ${encoding}`,
      'write it as PostgreSQL does: UTF8, LATIN1, WIN1252',
    )
  }
  return row.wanted === 'SQL_ASCII' ? row.own : row.wanted
}

function listNotes({ table }: CopyPlan, { query }: CopySource): string[] {
  if (table === undefined || query !== undefined || table.kind === 'p') return []
  if (table.children === 0) return []
  const name = formatTable(table)
  const others = `${table.children} tables inherit from ${name}: their rows are not in the dump`
  return [`${others}; --query 'TABLE ${name}' has them`]
}

/** No value may depend on what the role or the database have set. */
function formatSettings({ rowSecurity }: TakeCopyOptions): string {
  return `SET LOCAL row_security TO ${rowSecurity ? 'on' : 'off'};
    SET LOCAL intervalstyle TO postgres;
    SET LOCAL extra_float_digits TO 3;
    SET LOCAL synchronize_seqscans TO off`
}

interface CopyRun {
  readonly options: TakeCopyOptions
  readonly look: Look
  readonly writer: DumpWriter
  readonly selection: readonly string[]
  readonly progress: Progress
  readonly signal: AbortSignal
}

async function dumpRows(run: CopyRun): Promise<DumpFacts> {
  const { options, look } = run
  const snapshot = await holdSnapshot(look.url, async (session) => {
    await session.query(formatSettings(options))
    if (look.reads.length === 0) return
    const tables = look.reads.join(', ')
    await session.query(`LOCK TABLE ${tables} IN ACCESS SHARE MODE`, [], `lock ${tables}`)
  })
  try {
    requireSameServer(snapshot, look.server.systemIdentifier)
    const plan = await planCopy(snapshot.session, options.source)
    const columns = await describeColumns(snapshot.session, plan)
    const copied = await copyRows(run, snapshot, plan)
    // Only now is it known that one and the same transaction has read all of it.
    await snapshot.end()
    return await describe(run, snapshot, { plan, columns, ...copied })
  } catch (error) {
    if (run.signal.aborted) await endStatement(snapshot, look.url)
    throw error
  } finally {
    await snapshot.close()
  }
}

/** A server notices that nobody listens only when it sends a row, which may be in hours. */
async function endStatement({ server }: HeldSnapshot, url: string): Promise<void> {
  try {
    const session = await openServerSession({ connection: url, applicationName: 'tidemark' })
    await session.query(
      `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
        WHERE pid = $1 AND application_name = 'tidemark dump'`,
      [server.backendPid],
    )
    await session.close()
  } catch (error) {
    // Why it was aborted is what is told.
    if (!isFailure(error)) throw error
  }
}

interface CopiedRows {
  readonly rows: number
  /** Number of the file. */
  readonly file: number
}

async function copyRows(
  { options, look, writer, progress, signal }: CopyRun,
  { session }: HeldSnapshot,
  { copied, what }: CopyPlan,
): Promise<CopiedRows> {
  progress.phase(`dumping ${what}`)
  const { form } = look
  const file = await writer.openFile(`1.${form.format}`)
  let tail = Buffer.alloc(0)
  const take = async (bytes: Uint8Array): Promise<void> => {
    tail = Buffer.concat([tail, bytes.subarray(-2)]).subarray(-2)
    await file.append(bytes)
    progress.advance(bytes.length)
  }
  const words = formatForm(form, 'out', options.copy.forceQuote)
  const text = `${formatEncodingSwitch(form)}COPY ${copied} TO STDOUT (${words})`
  try {
    const rows = await session.copyOut(text, take, { what: `dump ${what}`, signal })
    judgeEnd(form, tail)
    await session.query("SET LOCAL client_encoding TO 'UTF8'")
    return { rows, file: await file.close() }
  } catch (error) {
    throw explainCopyOutError(error, what, options.rowSecurity)
  }
}

const BINARY_TRAILER = Buffer.from([0xff, 0xff])

/** The protocol has said that it is whole; so the form must be. */
function judgeEnd({ format }: CopyForm, tail: Buffer): void {
  const isWhole =
    format === 'binary' ? tail.equals(BINARY_TRAILER) : tail.length === 0 || tail.at(-1) === 0x0a
  if (isWhole) return
  throw new Failure('TM2082', {
    message: 'what COPY wrote does not end as it must',
    because: `the last bytes are ${tail.toString('hex') || 'missing'}`,
    fix: 'please report this; nothing was kept of this run',
  })
}

interface Described extends CopiedRows {
  readonly plan: CopyPlan
  readonly columns: DumpedCopy['columns']
}

async function describe(
  { options, look, writer, selection }: CopyRun,
  { server, facts }: HeldSnapshot,
  { plan, columns, rows, file }: Described,
): Promise<DumpFacts> {
  const { table } = plan
  const named = table === undefined ? undefined : { schema: table.schema, name: table.name }
  const kind = options.source.query === undefined ? 'TABLE DATA' : 'QUERY'
  const objects = await writer.writeObjects([
    { dumpId: 1, kind, schema: named?.schema ?? '', name: named?.name ?? 'query', owner: '' },
  ])
  return {
    finishedAt: now().toISOString(),
    server: {
      systemIdentifier: String(server.systemIdentifier),
      version: server.versionText,
      major: server.version.major,
    },
    toolVersion: server.versionText.split(' ', 1)[0] ?? server.versionText,
    selection,
    databases: [
      {
        name: server.database,
        oid: facts.databaseOid,
        encoding: facts.encoding,
        lsn: facts.lsn,
        at: facts.at.toISOString(),
        files: [file],
        objectLists: objects.lists,
        objects: objects.count,
      },
    ],
    copy: { rows, ...(named === undefined ? {} : { table: named }), columns, ...look.form },
    labels: options.labels,
  }
}
