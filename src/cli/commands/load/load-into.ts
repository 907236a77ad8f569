/** Loads what a source gives into a database, and tells it: `load`, `load --import`. */
import { readFileSync } from 'node:fs'
import { monotonicMs } from '../../../base/clock.ts'
import { describeSystemError, Failure } from '../../../base/failure.ts'
import { applyEnvironment } from '../../../config/apply-environment.ts'
import { didYouMean } from '../../../config/nearest-name.ts'
import { type PreparedGlobals, prepareGlobals } from '../../../dump/load-globals.ts'
import type { LoadSection, LoadSelection } from '../../../dump/load-selection.ts'
import type { LoadSource } from '../../../dump/load-source.ts'
import { type LoadRequest, prepareLoad } from '../../../dump/prepare-load.ts'
import { executeLoad } from '../../../dump/run-load.ts'
import { parseConnectionUrl } from '../../../postgres/connection-url.ts'
import type { CommandContext } from '../../command-context.ts'
import { parseGivenUrl } from '../../given-url.ts'
import { type LoadCommandOptions, parseJobs } from './check-options.ts'
import { printLoaded, resultJson } from './print-load.ts'

export interface LoadPlace {
  /** URL of the server, password and all. */
  readonly connection: string
  readonly database: string
}

export interface AskedLoad {
  readonly source: LoadSource
  readonly place: LoadPlace
  /** Undefined: they were not asked for. */
  readonly globals: (() => Promise<string>) | undefined
}

export async function loadInto(
  context: CommandContext,
  asked: AskedLoad,
  options: LoadCommandOptions,
): Promise<number> {
  const startedMs = monotonicMs()
  const request = buildRequest(context, asked, options)
  const script = await asked.globals?.()
  const globals = script === undefined ? undefined : await prepareGlobals(script, request)
  const prepared = await prepareLoad(expecting(request, globals), context.signal)
  try {
    for (const caution of prepared.judgement.cautions) context.terminal.remark(`note: ${caution}`)
    await globals?.load(context.signal)
    const result = await executeLoad(prepared, context.progress, context.signal)
    context.progress.end()
    const loaded = {
      prepared,
      result,
      globals: globals?.plan,
      milliseconds: monotonicMs() - startedMs,
    }
    if (context.json) context.terminal.printJson(resultJson(loaded))
    else printLoaded(context, loaded)
    return result.errors.length === 0 ? 0 : 3
  } finally {
    await prepared.close()
  }
}

function expecting(request: LoadRequest, globals: PreparedGlobals | undefined): LoadRequest {
  if (globals === undefined) return request
  const { roles, tablespaces } = globals.plan
  return { ...request, expected: { roles: roles.created, tablespaces: tablespaces.created } }
}

/** A URL, or a database of the server that `ofCluster` gives the URL of. */
export function readPlace(
  { env }: CommandContext,
  where: string,
  ofCluster: () => string,
): LoadPlace {
  const isUrl = /^postgres(ql)?:\/\//.test(where)
  if (!isUrl) return { connection: ofCluster(), database: where }
  parseGivenUrl('--into', where)
  const connection = applyEnvironment(where, env)
  return { connection, database: databaseOfUrl(connection) }
}

function buildRequest(
  { env }: CommandContext,
  { source, place }: AskedLoad,
  options: LoadCommandOptions,
): LoadRequest {
  return {
    source,
    connection: place.connection,
    into: place.database,
    selection: readSelection(options),
    choices: {
      create: options.create === true,
      clean: options.clean === true,
      ifExists: options.ifExists === true,
      force: options.force === true,
      createMissingRoles: options.createMissingRoles === true,
      noOwner: options.owner === false,
      noPrivileges: options.privileges === false,
      noTablespaces: options.tablespaces === false,
      singleTransaction: options.singleTransaction === true,
      jobs: parseJobs(options.jobs),
      role: options.role,
      continueOnError: options.continueOnError === true,
      analyze: options.analyze !== false,
    },
    suggest: didYouMean,
    expected: { roles: [], tablespaces: [] },
    tools: { directory: options.tools, searchPath: env['PATH'] ?? '' },
    variables: env,
  }
}

function databaseOfUrl(connection: string): string {
  const { database } = parseConnectionUrl(connection)
  if (database !== undefined) return database
  throw new Failure('TM1001', {
    message: '--into names no database',
    fix: 'write it like postgresql://user@host:5432/database',
  })
}

function readSelection(options: LoadCommandOptions): LoadSelection {
  return {
    schemas: options.schema ?? [],
    tables: options.table ?? [],
    sections: (options.section ?? []) as readonly LoadSection[],
    list: options.list === undefined ? undefined : readList(options.list),
  }
}

function readList(path: string): { path: string; text: string } {
  try {
    return { path, text: readFileSync(path, 'utf8') }
  } catch (error) {
    throw new Failure('TM1001', {
      message: `the list ${path} cannot be read`,
      because: describeSystemError(error),
      fix: 'name a file that pg_restore --list has written',
      cause: error,
    })
  }
}
