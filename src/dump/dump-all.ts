/**
 * What every dump does, wherever it goes: looks at the server, finds the tools, and runs them for
 * the globals and one database after the other.
 */
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import { withDatabase } from '../postgres/connection-url.ts'
import { openServerSession, type ServerFacts } from '../postgres/server-session.ts'
import type { DumpedDatabase, DumpFormat } from '../repository/dump-record.ts'
import type { DumpContext, DumpRequest } from './dump-context.ts'
import { dumpDatabase, dumpGlobals } from './dump-database.ts'
import { findTools } from './find-tools.ts'
import { chooseDatabases, listClosedDatabases, listDatabases } from './list-databases.ts'
import { formatSelection, judgeSelection } from './selection.ts'
import type { DumpWriter } from './write-dump.ts'

type Shared = Pick<DumpContext, 'options' | 'server' | 'tools' | 'selection' | 'databases'>

export interface PreparedDump extends Shared {
  /** Of the server, for people. */
  readonly address: string
  readonly notes: string[]
}

/** Nothing is dumped yet. TM2001, TM2006, TM2007. */
export async function prepareDump(options: DumpRequest): Promise<PreparedDump> {
  judgeOptions(options)
  const { server, address, databases, notes } = await lookAtServer(options)
  const names = options.globals ? (['pg_dump', 'pg_dumpall'] as const) : (['pg_dump'] as const)
  const tools = await findTools({
    names,
    major: server.version.major,
    directory: options.toolDirectory,
    searchPath: options.environment['PATH'] ?? '',
  })
  const selection = formatSelection(options.selection, tools.major)
  return { options, server, address, tools, selection, databases, notes }
}

/** pg_dump can compress it. */
export function isCompressible(format: DumpFormat): boolean {
  return format === 'custom' || format === 'directory'
}

/** TM2006: what contradicts itself, before anything is asked of anybody. */
function judgeOptions({ format, jobs, selection }: DumpRequest): void {
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
  readonly address: string
  readonly databases: readonly string[]
  readonly notes: string[]
}

async function lookAtServer(options: DumpRequest): Promise<ServerLook> {
  const { connection } = options
  const session = await openServerSession({ connection, applicationName: 'tidemark dump' })
  try {
    const server = session.facts
    const wanted = options.databases === 'one' ? [server.database] : options.databases
    const { address } = session
    const there = await listDatabases(session)
    const closed = wanted === 'all' ? listClosedDatabases(there) : []
    const notes = closed.map((name) => `database ${name} is not in it: it allows no connections`)
    return { server, address, databases: chooseDatabases(there, wanted), notes }
  } finally {
    await session.close()
  }
}

const WITHOUT_CREATE =
  'plain without --create: settings, comment and privileges of the database itself are not in it'

export type DumpedAll = Omit<Parameters<DumpWriter['publish']>[0], 'labels'>

/** All of it has come to a good end when this returns. */
export async function dumpAll(context: DumpContext): Promise<DumpedAll> {
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
  }
}
