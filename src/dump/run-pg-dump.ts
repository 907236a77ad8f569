/** pg_dump of one database, in the snapshot that is held for it. */
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import type { DumpFormat } from '../repository/dump-record.ts'
import type { DumpContext } from './dump-context.ts'
import { runTool } from './run-tool.ts'
import type { HeldSnapshot } from './snapshot.ts'
import { toolEnvironment } from './tool-environment.ts'

export interface NamedDatabase {
  /** From 1: names its files. */
  readonly number: number
  readonly name: string
  readonly url: string
}

export interface PgDumpRun {
  readonly snapshot: HeldSnapshot
  readonly format: DumpFormat
  /** The selection among them. */
  readonly args: readonly string[]
  readonly onOutput: (bytes: Uint8Array) => Promise<void> | void
}

/** Returns its remarks. */
export async function runPgDump(
  context: DumpContext,
  database: NamedDatabase,
  { snapshot, format, args, onOutput }: PgDumpRun,
): Promise<readonly string[]> {
  const { options, tools, compression, signal } = context
  const { remarks } = await runTool({
    program: tools.path('pg_dump'),
    args: [
      ...[`--format=${format}`, `--snapshot=${snapshot.facts.name}`, '--no-password'],
      // Else a pattern that nothing fits is passed over where another one fits something.
      ...['--strict-names', ...compression, ...args],
    ],
    env: toolEnvironment(parseConnectionUrl(database.url), database.name, options.environment),
    signal: AbortSignal.any([signal, snapshot.signal]),
    task: `dump database ${database.name}`,
    onOutput,
  })
  return remarks
}
