/**
 * Runs pg_restore on an archive of the repository without a server: its list of what a selection
 * takes, and the statements of that without the rows.
 */
import { Failure } from '../base/failure.ts'
import { decodeServerText } from '../postgres/server-text.ts'
import { feedTool } from './feed-tool.ts'
import { parseListedIds } from './load-selection.ts'
import type { ArchiveSource } from './open-archive.ts'
import { MessageReader } from './restore-messages.ts'

export interface ArchiveTool {
  readonly path: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  /** Of the dumped database: the archive's texts are in it. */
  readonly encoding: string
}

/** Numbers of the objects that these options take, in the archive's order. */
export async function listSelected(
  tool: ArchiveTool,
  source: ArchiveSource,
  selection: readonly string[],
): Promise<number[]> {
  return parseListedIds(await readOutput(tool, source, ['--list', ...selection]))
}

/** With `create` the statements that make the database stand first. */
export async function readSchemaScript(
  tool: ArchiveTool,
  source: ArchiveSource,
  selection: readonly string[],
  { create }: { create: boolean },
): Promise<string> {
  const options = ['--schema-only', '--file=-', ...(create ? ['--create'] : []), ...selection]
  return await readOutput(tool, source, options)
}

async function readOutput(
  { path, env, signal, encoding }: ArchiveTool,
  source: ArchiveSource,
  options: readonly string[],
): Promise<string> {
  const chunks: Uint8Array[] = []
  const messages = new MessageReader()
  const { status } = await feedTool({
    path,
    env,
    signal,
    encoding,
    args: [...options, ...source.args],
    ...(source.input === undefined ? {} : { input: source.input }),
    onOutput: (chunk) => void chunks.push(chunk),
    onLine: (line) => messages.take(line),
  })
  if (status === 0) return decodeServerText(Buffer.concat(chunks), encoding)
  throw cannotReadDump(messages.lastLines)
}

export function cannotReadDump(lastLines: readonly string[]): Failure {
  return new Failure('TM2033', {
    message: 'pg_restore cannot read the dump',
    because: lastLines.join('; ') || 'it said nothing',
    fix: 'see what it says; tidemark load DUMP --output FILE writes the file for a look at it',
  })
}
