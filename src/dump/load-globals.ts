/**
 * Loads the roles and tablespaces of a dump through psql, before any database.
 *
 * Invariant: what the server has already stays as it is (plan-globals.ts).
 */
import { Failure } from '../base/failure.ts'
import { parseConnectionUrl, withDatabase } from '../postgres/connection-url.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import type { Storage } from '../storage/storage.ts'
import { findTools } from './find-tools.ts'
import { runScript } from './load-script.ts'
import { type GlobalsPlan, planGlobals } from './plan-globals.ts'
import type { LoadRequest } from './prepare-load.ts'
import { readDumpFile } from './read-dump.ts'
import { openMaintenanceSession, readNames } from './read-load-facts.ts'
import { toolEnvironment } from './tool-environment.ts'

export type LoadGlobalsOptions = Pick<LoadRequest, 'connection' | 'tools' | 'variables'>

export interface PreparedGlobals {
  readonly plan: GlobalsPlan
  /** TM2034 with the statement that the server refused; what came before it stays. */
  load(signal: AbortSignal): Promise<void>
}

/** `script` as pg_dumpall --globals-only writes it. Changes nothing yet. */
export async function prepareGlobals(
  script: string,
  options: LoadGlobalsOptions,
): Promise<PreparedGlobals> {
  const session = await openMaintenanceSession(options.connection)
  try {
    const { database, version } = session.facts
    const plan = planGlobals(script, {
      roles: await readNames(session, 'SELECT rolname AS name FROM pg_roles'),
      tablespaces: await readNames(session, 'SELECT spcname AS name FROM pg_tablespace'),
    })
    const { statements } = plan
    const tools = await findTools({ names: ['psql'], major: version.major, ...options.tools })
    const target = parseConnectionUrl(withDatabase(options.connection, database))
    const env = toolEnvironment(target, database, options.variables)
    const psql = tools.path('psql')
    return { plan, load: async (signal) => await runGlobals({ psql, env, signal, statements }) }
  } finally {
    await session.close()
  }
}

interface GlobalsRun {
  readonly psql: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  readonly statements: readonly string[]
}

async function runGlobals({ statements, ...run }: GlobalsRun): Promise<void> {
  const { isWhole, endedBy, messages } = await runScript({
    ...run,
    encoding: 'UTF8',
    script: inOnePiece(`${statements.join('\n')}\n`),
    singleTransaction: false,
    continueOnError: false,
  })
  if (isWhole) return
  const words = messages.statement === undefined ? '' : `; the statement: ${messages.statement}`
  throw new Failure('TM2034', {
    message: 'the roles and tablespaces of the dump could not be loaded',
    because: `${messages.error ?? endedBy}${words}`,
    fix: 'what came before it stays, and is passed over when it is loaded again; mend what the server says',
    details: { ...messages },
  })
}

async function* inOnePiece(script: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(script, 'utf8')
}

/** TM2031 where the dump has none. */
export async function readGlobals(storage: Storage, record: DumpRecord): Promise<string> {
  if (record.globals === undefined) {
    throw new Failure('TM2031', {
      message: `dump ${record.id} has no globals`,
      because: 'they are in a dump only when it was asked for them',
      fix: 'leave out --globals, or load a dump that has them',
    })
  }
  const chunks: Uint8Array[] = []
  for await (const chunk of readDumpFile(storage, record, record.globals)) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}
