/** `load`: a dump into a database, or its files into a directory. */
import { Failure } from '../../base/failure.ts'
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
  nearestFirst,
} from '../../config/configuration.ts'
import { didYouMean } from '../../config/nearest-name.ts'
import { holdInAll } from '../../dump/hold-for-load.ts'
import { readGlobals } from '../../dump/load-globals.ts'
import { dumpSource } from '../../dump/load-source.ts'
import { describePassedOver, openSources } from '../../recovery/open-sources.ts'
import type { DumpRecord } from '../../repository/dump-record.ts'
import { findDump, listDumps } from '../../repository/read-dumps.ts'
import type { Storage } from '../../storage/storage.ts'
import { type CommandContext, connectionUrl } from '../command-context.ts'
import { unlockSources } from '../unlock-sources.ts'
import { checkFormat, checkOptions, type LoadCommandOptions } from './load/check-options.ts'
import { runCopyLoad } from './load/load-copy.ts'
import { loadInto, readPlace } from './load/load-into.ts'
import { runImport } from './load/run-import.ts'
import { runOutput } from './load/run-output.ts'

export async function runLoad(
  context: CommandContext,
  dump: string | undefined,
  clusterName: string | undefined,
  options: LoadCommandOptions,
): Promise<number> {
  checkOptions(options)
  // The first word is the cluster then: a file has no id.
  if (options.import !== undefined) return await runImport(context, dump, options)
  if (dump === undefined) throw dumpMissing()
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
    const found = { storage: sources.storage, record }
    const storages = sources.list.map(({ storage }) => storage)
    const hold = await holdInAll(storages, record)
    for (const note of hold.notes) context.terminal.remark(`note: ${note}`)
    const status = await (options.output === undefined
      ? loadDump(context, cluster, found, options)
      : runOutput(context, found, options)
    ).finally(async () => await hold.release())
    for (const event of sources.passedOver) {
      context.terminal.remark(`warning: ${describePassedOver(event)}`)
    }
    return status
  } finally {
    await sources.storage.close()
  }
}

function dumpMissing(): Failure {
  return new Failure('TM1001', {
    message: 'no dump is named',
    fix: 'name one by its id, or say latest; --import FILE loads a file',
  })
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

async function loadDump(
  context: CommandContext,
  cluster: ClusterConfiguration,
  { storage, record }: FoundDump,
  options: LoadCommandOptions,
): Promise<number> {
  checkFormat(record.format, options)
  if (record.format === 'copy')
    return await loadRows(context, cluster, { storage, record }, options)
  const source = dumpSource(storage, record, findDatabase(record, options.database))
  const place = readPlace(context, options.into ?? '', () => connectionUrl(context, cluster))
  const globals =
    options.globals === true ? async () => await readGlobals(storage, record) : undefined
  if (globals !== undefined && record.selection.includes('--no-role-passwords')) {
    context.terminal.remark('note: the dump has no passwords of roles: those created have none')
  }
  return await loadInto(context, { source, place, globals }, options)
}

async function loadRows(
  context: CommandContext,
  cluster: ClusterConfiguration,
  dump: FoundDump,
  options: LoadCommandOptions,
): Promise<number> {
  const place = readPlace(context, options.into ?? '', () => connectionUrl(context, cluster))
  const target = { connection: place.connection, into: place.database }
  return await runCopyLoad(context, dump, target, options)
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
