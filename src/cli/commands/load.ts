/** `load`: a dump into a database, or its files into a directory. */
import { readFileSync } from 'node:fs'
import { monotonicMs } from '../../base/clock.ts'
import { describeSystemError, Failure } from '../../base/failure.ts'
import { applyEnvironment } from '../../config/apply-environment.ts'
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
  nearestFirst,
} from '../../config/configuration.ts'
import { didYouMean } from '../../config/nearest-name.ts'
import { type PreparedGlobals, prepareGlobals } from '../../dump/load-globals.ts'
import type { LoadSection, LoadSelection } from '../../dump/load-selection.ts'
import { type LoadRequest, prepareLoad } from '../../dump/prepare-load.ts'
import { executeLoad } from '../../dump/run-load.ts'
import { parseConnectionUrl } from '../../postgres/connection-url.ts'
import { describePassedOver, openSources } from '../../recovery/open-sources.ts'
import type { DumpRecord } from '../../repository/dump-record.ts'
import { findDump, listDumps } from '../../repository/read-dumps.ts'
import type { Storage } from '../../storage/storage.ts'
import { type CommandContext, connectionUrl } from '../command-context.ts'
import { unlockSources } from '../unlock-sources.ts'
import {
  checkFormat,
  checkOptions,
  type LoadCommandOptions,
  parseJobs,
} from './load/check-options.ts'
import { printLoaded, resultJson } from './load/print-load.ts'
import { runOutput } from './load/run-output.ts'

export async function runLoad(
  context: CommandContext,
  dump: string,
  clusterName: string | undefined,
  options: LoadCommandOptions,
): Promise<number> {
  checkOptions(options)
  const cluster = chooseCluster(context.configuration(), clusterName)
  const repositories =
    options.repository === undefined
      ? nearestFirst(cluster.repositories)
      : [chooseRepository(cluster, options.repository)]
  const unlocked = await unlockSources(repositories, context.env)
  const sources = await openSources(unlocked.storage)
  try {
    for (const note of [...unlocked.leftOut, ...sources.notes]) {
      context.terminal.remark(`note: ${note}`)
    }
    const record = await findRecord(context, sources.storage, cluster, dump)
    const status =
      options.output === undefined
        ? await loadInto(context, cluster, { storage: sources.storage, record }, options)
        : await runOutput(context, { storage: sources.storage, record }, options)
    for (const event of sources.passedOver) {
      context.terminal.remark(`warning: ${describePassedOver(event)}`)
    }
    return status
  } finally {
    await sources.storage.close()
  }
}

interface FoundDump {
  readonly storage: Storage
  readonly record: DumpRecord
}

/** TM2031 when there is none. */
async function findRecord(
  context: CommandContext,
  storage: Storage,
  cluster: ClusterConfiguration,
  id: string,
): Promise<DumpRecord> {
  if (id !== 'latest') {
    const record = await findDump(storage, cluster.name, id)
    if (record !== undefined) return record
  }
  const { dumps, unreadable } = await listDumps(storage, cluster.name)
  for (const { key } of unreadable) {
    context.terminal.remark(`warning: ${key} is damaged and left out`)
  }
  const newest = dumps.at(-1)
  if (id === 'latest' && newest !== undefined) return newest
  const ids = dumps.map((one) => one.id)
  throw new Failure('TM2031', {
    message:
      id === 'latest'
        ? `there is no dump of ${cluster.name}`
        : `there is no dump ${id} of ${cluster.name}${didYouMean(id, ids)}`,
    because: `${storage.url} lists ${ids.length} of this cluster`,
    fix: ids.length === 0 ? `tidemark dump ${cluster.name} takes one` : 'tidemark list shows them',
  })
}

async function loadInto(
  context: CommandContext,
  cluster: ClusterConfiguration,
  dump: FoundDump,
  options: LoadCommandOptions,
): Promise<number> {
  const startedMs = monotonicMs()
  checkFormat(dump.record.format, options)
  const request = buildRequest(context, cluster, dump, options)
  const globals = options.globals === true ? await prepareGlobals(request) : undefined
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

function buildRequest(
  context: CommandContext,
  cluster: ClusterConfiguration,
  { storage, record }: FoundDump,
  options: LoadCommandOptions,
): LoadRequest {
  const { env } = context
  const where = options.into ?? ''
  const isUrl = /^postgres(ql)?:\/\//.test(where)
  const connection = isUrl ? applyEnvironment(where, env) : connectionUrl(context, cluster)
  return {
    storage,
    record,
    databaseNumber: findDatabase(record, options.database),
    connection,
    into: isUrl ? databaseOfUrl(connection) : where,
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

/** TM2031 */
function findDatabase(record: DumpRecord, name: string | undefined): number {
  const names = record.databases.map((database) => database.name)
  if (name === undefined && names.length === 1) return 0
  const number = name === undefined ? -1 : names.indexOf(name)
  if (number >= 0) return number
  const hint = name === undefined ? '' : didYouMean(name, names)
  throw new Failure('TM2031', {
    message:
      name === undefined
        ? `dump ${record.id} has ${names.length} databases`
        : `dump ${record.id} has no database ${name}${hint}`,
    because: `it has ${names.join(', ') || 'none'}`,
    fix: 'say which one with --database',
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
