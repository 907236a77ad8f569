/** `dump --to-database`: from server to server, nothing stored. */
import { monotonicMs } from '../../../base/clock.ts'
import { applyEnvironment } from '../../../config/apply-environment.ts'
import type { ClusterConfiguration } from '../../../config/configuration.ts'
import { didYouMean } from '../../../config/nearest-name.ts'
import { type CopyOptions, copyDatabase } from '../../../dump/copy-database.ts'
import type { DumpRequest } from '../../../dump/dump-context.ts'
import { parseGivenUrl } from '../../given-url.ts'
import { type CommandContext, connectionUrl } from '../../command-context.ts'
import { printLoaded, resultJson } from '../load/print-load.ts'
import type { DumpCommandOptions } from './read-options.ts'

/** Some statements were refused, with --continue-on-error. */
const EXIT_INCOMPLETE = 3

export async function runCopy(
  context: CommandContext,
  cluster: ClusterConfiguration,
  asked: Omit<DumpRequest, 'connection'>,
  options: DumpCommandOptions,
): Promise<number> {
  const startedMs = monotonicMs()
  const { terminal } = context
  const remark = (note: string): void => terminal.remark(`note: ${note}`)
  const copied = await copyDatabase(
    {
      // The archive has what --create needs; whether it is made is the load's to say.
      dump: {
        ...asked,
        connection: connectionUrl(context, cluster),
        selection: { ...asked.selection, create: false },
      },
      load: readLoad(context, options),
      onCautions: (cautions) => cautions.forEach(remark),
    },
    context.progress,
    context.signal,
  )
  context.progress.end()
  const { snapshot, notes } = copied
  const loaded = { ...copied, milliseconds: monotonicMs() - startedMs }
  if (context.json) {
    const report = resultJson(loaded)
    terminal.printJson({ cluster: cluster.name, ...report, notes: [...report.notes, ...notes] })
  } else {
    notes.forEach(remark)
    printLoaded(context, loaded)
    terminal.print(`  as of ${snapshot.lsn} (${snapshot.at.toISOString()})`)
  }
  return copied.result.errors.length === 0 ? 0 : EXIT_INCOMPLETE
}

function readLoad({ env }: CommandContext, options: DumpCommandOptions): CopyOptions['load'] {
  const { connection, database } = readTarget(options.toDatabase ?? '', env)
  const isRowsOnly = options.dataOnly === true || options.section.join() === 'data'
  return {
    connection,
    into: database,
    selection: {
      schemas: [],
      tables: [],
      sections: isRowsOnly ? ['data'] : [],
      list: undefined,
    },
    choices: {
      create: options.create === true,
      clean: options.clean === true,
      ifExists: options.ifExists === true,
      force: options.force === true,
      createMissingRoles: options.createMissingRoles === true,
      noOwner: !options.owner,
      noPrivileges: !options.privileges,
      noTablespaces: !options.tablespaces,
      singleTransaction: options.singleTransaction === true,
      jobs: 1,
      role: options.role,
      continueOnError: options.continueOnError === true,
      analyze: options.analyze,
    },
    suggest: didYouMean,
    tools: { directory: options.tools, searchPath: env['PATH'] ?? '' },
    variables: env,
  }
}

function readTarget(url: string, env: CommandContext['env']) {
  const given = parseGivenUrl('--to-database', url)
  return { connection: applyEnvironment(url, env), database: given.database }
}
