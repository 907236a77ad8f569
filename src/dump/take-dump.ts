/**
 * Takes a dump: the story in order (docs/design/dumps.md, sections 3 and 5).
 *
 * Invariant: the record is written only after every tool has ended well, what it wrote was
 * taken to its last byte, and each snapshot still stood when its tool had ended. Anything
 * else removes what was written and throws.
 */
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { Targets } from '../backup/targets.ts'
import { withDatabase } from '../postgres/connection-url.ts'
import { openServerSession, type ServerFacts } from '../postgres/server-session.ts'
import type { DumpedDatabase } from '../repository/dump-record.ts'
import { makeBackupId } from '../repository/keys.ts'
import { openRepository } from '../repository/repository.ts'
import type { DumpContext, DumpResult, TakeDumpOptions } from './dump-context.ts'
import { dumpDatabase, dumpGlobals } from './dump-database.ts'
import { findTools } from './find-tools.ts'
import { chooseDatabases, listDatabases } from './list-databases.ts'
import { formatSelection, judgeSelection } from './selection.ts'
import { type DumpWriter, openDumpWriter } from './write-dump.ts'

export async function takeDump(
  options: TakeDumpOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<DumpResult> {
  judgeOptions(options)
  progress.phase('connecting')
  const { server, databases } = await lookAtServer(options)
  const names = options.globals ? (['pg_dump', 'pg_dumpall'] as const) : (['pg_dump'] as const)
  const tools = await findTools({
    names,
    major: server.version.major,
    directory: options.toolDirectory,
    searchPath: options.environment['PATH'] ?? '',
  })
  const selection = formatSelection(options.selection, tools.major)
  signal.throwIfAborted()
  const targets = new Targets(options.targets)
  const repositories = await targets.group.gather(openRepository)
  const areEncrypted = [...repositories.values()].every(({ isEncrypted }) => isEncrypted)
  const startedAt = now()
  const writer = await openDumpWriter({
    group: targets.group,
    cluster: options.cluster,
    id: makeBackupId(startedAt),
    startedAt,
    databases,
    format: options.format,
    signal,
    rewrite: options.rewrite,
  })
  const rolePasswords = options.rolePasswords ?? areEncrypted
  const shared = { options, server, tools, selection, databases, rolePasswords, writer }
  return await dumpAndPublish({ ...shared, notes: [], progress, signal }, targets)
}

/** TM2006: what contradicts itself, before anything is asked of anybody. */
function judgeOptions({ format, jobs, selection }: TakeDumpOptions): void {
  judgeSelection(selection, format)
  if (jobs === 1 || format === 'directory') return
  throw new Failure('TM2006', {
    message: `--jobs ${jobs} is for --format directory, not for ${format}`,
    because: 'pg_dump writes the other formats in one go',
    fix: 'leave --jobs out, or choose --format directory',
  })
}

interface ServerLook {
  readonly server: ServerFacts
  readonly databases: readonly string[]
}

async function lookAtServer(options: TakeDumpOptions): Promise<ServerLook> {
  const { connection } = options
  const session = await openServerSession({ connection, applicationName: 'tidemark dump' })
  try {
    const server = session.facts
    const wanted = options.databases === 'one' ? [server.database] : options.databases
    return { server, databases: chooseDatabases(await listDatabases(session), wanted) }
  } finally {
    await session.close()
  }
}

async function dumpAndPublish(context: DumpContext, targets: Targets): Promise<DumpResult> {
  const { writer, notes, progress } = context
  try {
    const facts = await dumpAll(context)
    progress.phase('writing the record')
    const published = await writer.publish(facts)
    for (const target of published.stored) targets.noteStored(target)
    return {
      record: published.record,
      notes: [...notes, ...published.notes],
      targets: targets.report(),
    }
  } catch (error) {
    // What could not be removed now is removed by the next dump: the hold names this process.
    await writer.abort().catch(() => undefined)
    throw error
  }
}

const WITHOUT_CREATE =
  'plain without --create: settings, comment and privileges of the database itself are not in it'

type DumpFacts = Parameters<DumpWriter['publish']>[0]

async function dumpAll(context: DumpContext): Promise<DumpFacts> {
  const { options, server, tools, selection, notes } = context
  const globals = options.globals ? await dumpGlobals(context) : undefined
  const databases: DumpedDatabase[] = []
  for (const [index, name] of context.databases.entries()) {
    const url = withDatabase(options.connection, name)
    databases.push(await dumpDatabase(context, { number: index + 1, name, url }))
  }
  if (server.isInRecovery) notes.push('the server is a standby: unlogged tables have no rows there')
  if (options.format === 'plain' && !options.selection.create) notes.push(WITHOUT_CREATE)
  const ofGlobals = options.globals && !context.rolePasswords ? ['--no-role-passwords'] : []
  return {
    finishedAt: now().toISOString(),
    server: {
      systemIdentifier: String(server.systemIdentifier),
      version: server.versionText,
      major: server.version.major,
    },
    toolVersion: tools.version,
    selection: [...selection, ...ofGlobals],
    ...(globals === undefined ? {} : { globals }),
    databases,
    labels: options.labels,
  }
}
