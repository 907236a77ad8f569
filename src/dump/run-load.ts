/**
 * The story of a load: roles, the database, its objects and rows, its settings, statistics.
 *
 * Order: what would be in the way was found before (prepare-load.ts). Roles and the database
 * come first, since nothing can be made without them; they stay when the rest fails, and the
 * failure says so. With one transaction the rest is there whole or not at all.
 */
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { withDatabase } from '../postgres/connection-url.ts'
import { createDatabase, createRoles, loadDatabaseSettings } from './create-database.ts'
import { loadArchive } from './load-archive.ts'
import {
  type FailedLoad,
  loadCutOff,
  type StatementError,
  statementFailed,
} from './load-failures.ts'
import { countStates, type LoadedContents, type LoadedObject } from './load-report.ts'
import { isNewerTool, runScript, withoutNewSettings } from './load-script.ts'
import { selectsAll } from './load-selection.ts'
import type { PreparedLoad } from './prepare-load.ts'
import { isStillThere, openLoadSession } from './read-load-facts.ts'
import { quoteName } from './sql-text.ts'

export interface LoadResult {
  /** Undefined: a plain script, whose objects nothing lists. */
  readonly objects: readonly LoadedObject[] | undefined
  readonly createdRoles: readonly string[]
  readonly createdDatabase: boolean
  /** With continueOnError: what the server refused. */
  readonly errors: readonly StatementError[]
  readonly analyzed: boolean
  readonly notes: readonly string[]
}

/** TM2034, TM2035, TM2037: it had begun. */
export async function executeLoad(
  prepared: PreparedLoad,
  progress: Progress,
  signal: AbortSignal,
): Promise<LoadResult> {
  const { request, judgement } = prepared
  const { choices } = request
  const notes: string[] = []
  await createRoles(request.connection, judgement.rolesToCreate)
  if (choices.create && !request.source.createsItself) {
    notes.push(...(await createDatabase(prepared)))
  }
  const contents = await loadContents(prepared, progress, signal)
  await judgeContents(prepared, contents)
  if (choices.create) notes.push(...(await loadDatabaseSettings(prepared, signal)))
  const analyzed = choices.analyze && (await analyze(prepared, contents, progress, notes))
  return {
    objects: contents.objects,
    createdRoles: judgement.rolesToCreate,
    createdDatabase: choices.create,
    errors: contents.errors,
    analyzed,
    notes,
  }
}

/** Of the tools and the temporary directory; everything else comes from the repository. */
const OWN_CODES: ReadonlySet<string> = new Set(['TM2003', 'TM2033', 'TM2036'])

async function loadContents(
  prepared: PreparedLoad,
  progress: Progress,
  signal: AbortSignal,
): Promise<LoadedContents> {
  try {
    return prepared.archive === undefined
      ? await loadPlain(prepared, progress, signal)
      : await loadArchive(prepared, prepared.archive, progress, signal)
  } catch (error) {
    if (!(error instanceof Failure) || OWN_CODES.has(error.code)) throw error
    throw prepared.request.source.stopped(describeLoad(prepared, undefined), error)
  }
}

async function loadPlain(
  { request, database, tools, env, target }: PreparedLoad,
  progress: Progress,
  signal: AbortSignal,
): Promise<LoadedContents> {
  const { source, choices } = request
  progress.phase(`loading ${request.into}`, source.bytes)
  const script = source.script()
  const { isWhole, endedBy, messages } = await runScript({
    psql: tools.path('psql'),
    // Such a script begins beside the database that it makes.
    env: source.createsItself ? { ...env, PGDATABASE: 'postgres' } : env,
    signal,
    encoding: database.encoding,
    script: isNewerTool(source.toolVersion, target.major) ? withoutNewSettings(script) : script,
    singleTransaction: choices.singleTransaction,
    continueOnError: choices.continueOnError,
    onInput: (bytes) => progress.advance(bytes),
  })
  const { error: message, statement, line, lastLines } = messages
  const object = line === undefined ? undefined : `line ${line}`
  const errors = message === undefined ? [] : [{ object, message, statement }]
  return { objects: undefined, isWhole, endedBy, errors, lastLines }
}

async function judgeContents(prepared: PreparedLoad, contents: LoadedContents): Promise<void> {
  const { request, target } = prepared
  const { choices, into } = request
  if (contents.isWhole) return
  const load = describeLoad(prepared, contents)
  const isThere = await isStillThere(withDatabase(request.connection, into), target)
  const said = contents.lastLines.at(-1) ?? 'it said nothing'
  if (!isThere) throw loadCutOff(load, `the server at ${target.address} has gone; ${said}`)
  const [error] = contents.errors
  if (!contents.endedBy.startsWith('status')) {
    throw loadCutOff(load, `the tool was ended by ${contents.endedBy}`)
  }
  if (error === undefined) throw loadCutOff(load, `${contents.endedBy}: ${said}`)
  if (!choices.continueOnError) throw statementFailed(load, error)
}

function describeLoad(
  { request, judgement }: PreparedLoad,
  contents: LoadedContents | undefined,
): FailedLoad {
  const { choices, into } = request
  return {
    database: into,
    isOneTransaction: choices.singleTransaction,
    wasCreated: choices.create,
    createdRoles: judgement.rolesToCreate,
    counts: contents?.objects === undefined ? undefined : countStates(contents.objects),
    objects: contents?.objects,
  }
}

/** Of a selection only its tables: the rest of the database may be large. */
async function analyze(
  { request }: PreparedLoad,
  { objects }: LoadedContents,
  progress: Progress,
  notes: string[],
): Promise<boolean> {
  const tables =
    objects === undefined || selectsAll(request.selection)
      ? undefined
      : objects.filter(({ kind, state }) => kind === 'TABLE DATA' && state === 'restored')
  if (tables?.length === 0) return false
  progress.phase('collecting statistics')
  const names = tables?.map(({ schema, name }) => `${quoteName(schema)}.${quoteName(name)}`)
  try {
    const session = await openLoadSession(withDatabase(request.connection, request.into))
    try {
      await session.query(`ANALYZE ${names?.join(', ') ?? ''}`, [], 'collect statistics')
      return true
    } finally {
      await session.close()
    }
  } catch (error) {
    // Everything is loaded: statistics can be had at any time.
    if (!(error instanceof Failure)) throw error
    notes.push(`no statistics were collected (${error.because ?? error.message}): run ANALYZE`)
    return false
  }
}
