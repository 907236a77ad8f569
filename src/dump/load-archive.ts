/**
 * Loads an archive with pg_restore: straight into the server, or through psql where the server
 * is older than what the tool says to it.
 */
import { PassThrough } from 'node:stream'
import type { Progress } from '../base/progress.ts'
import { feedTool } from './feed-tool.ts'
import { type LoadedContents, reportObjects } from './load-report.ts'
import { isNewerTool, runScript, withoutNewSettings } from './load-script.ts'
import { formatSelection } from './load-selection.ts'
import type { ArchiveSource } from './open-archive.ts'
import { cannotReadDump } from './run-archive-tool.ts'
import type { PreparedArchive, PreparedLoad } from './prepare-load.ts'
import { MessageReader } from './restore-messages.ts'

export async function loadArchive(
  prepared: PreparedLoad,
  archive: PreparedArchive,
  progress: Progress,
  signal: AbortSignal,
): Promise<LoadedContents> {
  const { request, tools, target } = prepared
  const { stagedBytes } = archive.open
  if (stagedBytes > 0) progress.phase('copying the dump to read it', stagedBytes)
  const source = await archive.open.whole((bytes) => progress.advance(bytes))
  progress.phase(`loading ${request.into}`, stagedBytes > 0 ? undefined : request.source.bytes)
  const run = { prepared, archive, source, progress, signal }
  return isNewerTool(tools.version, target.major) ? await loadByScript(run) : await restore(run)
}

interface ArchiveRun {
  readonly prepared: PreparedLoad
  readonly archive: PreparedArchive
  readonly source: ArchiveSource
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** What changes how objects are made, whoever makes them. */
function formatChoices({ request }: PreparedLoad): string[] {
  const { choices, selection } = request
  return [
    ...formatSelection(selection, choices),
    ...(choices.clean ? ['--clean'] : []),
    ...(choices.ifExists ? ['--if-exists'] : []),
    ...(choices.role === undefined ? [] : [`--role=${choices.role}`]),
  ]
}

async function restore(run: ArchiveRun): Promise<LoadedContents> {
  const { prepared, archive, source, progress, signal } = run
  const { request, database, tools, env } = prepared
  const { choices } = request
  const messages = new MessageReader()
  const { status, endedBy } = await feedTool({
    path: tools.path('pg_restore'),
    args: [
      ...['--verbose', '--no-password', `--dbname=${formatDatabase(request.into)}`],
      ...(choices.continueOnError ? [] : ['--exit-on-error']),
      ...(choices.singleTransaction ? ['--single-transaction'] : []),
      ...(choices.jobs > 1 ? [`--jobs=${choices.jobs}`] : []),
      ...formatChoices(prepared),
      ...source.args,
    ],
    env,
    signal,
    encoding: database.encoding,
    ...(source.input === undefined ? {} : { input: source.input }),
    onInput: (bytes) => progress.advance(bytes),
    onLine: (line) => messages.take(line),
  })
  const isWhole = status === 0
  const isOneTransaction = choices.singleTransaction
  const { objects, selected } = archive
  const reported = reportObjects(objects, { selected, messages, isWhole, isOneTransaction })
  const names = new Map(objects.map((one) => [one.dumpId, describe(one)]))
  const errors = messages.errors.map(({ dumpId, message, statement }) => {
    return { object: dumpId === undefined ? undefined : names.get(dumpId), message, statement }
  })
  const end = endedBy ?? `status ${status}`
  return { objects: reported, isWhole, endedBy: end, errors, lastLines: messages.lastLines }
}

function describe({ kind, schema, name }: { kind: string; schema: string; name: string }): string {
  return `${kind} ${schema === '' || schema === '-' ? '' : `${schema}.`}${name}`
}

/** A name alone would be taken for a connection string where it looks like one. */
function formatDatabase(name: string): string {
  return `dbname='${name.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

async function loadByScript(run: ArchiveRun): Promise<LoadedContents> {
  const { prepared, archive, signal } = run
  const { request, database, tools, env } = prepared
  const { choices } = request
  const { isWhole, endedBy, messages } = await runScript({
    psql: tools.path('psql'),
    env,
    signal,
    encoding: database.encoding,
    script: withoutNewSettings(writeScript(run)),
    singleTransaction: choices.singleTransaction,
    continueOnError: choices.continueOnError,
  })
  const { error: message, statement, lastLines } = messages
  const { objects, selected } = archive
  const reported = isWhole
    ? reportObjects(objects, {
        selected,
        messages: new MessageReader(),
        isWhole,
        isOneTransaction: choices.singleTransaction,
      })
    : undefined
  const errors = message === undefined ? [] : [{ object: undefined, message, statement }]
  return { objects: reported, isWhole, endedBy, errors, lastLines }
}

/** What pg_restore writes where it has no server; it ends only when that tool has ended well. */
async function* writeScript(run: ArchiveRun): AsyncGenerator<Uint8Array> {
  const { prepared, source, progress, signal } = run
  const { database, tools, env } = prepared
  const messages = new MessageReader()
  const stop = new AbortController()
  const output = new PassThrough()
  const ended = feedTool({
    path: tools.path('pg_restore'),
    args: ['--file=-', ...formatChoices(prepared), ...source.args],
    env,
    signal: AbortSignal.any([signal, stop.signal]),
    encoding: database.encoding,
    ...(source.input === undefined ? {} : { input: source.input }),
    onInput: (bytes) => progress.advance(bytes),
    onLine: (line) => messages.take(line),
    pipeTo: output,
  })
  // Seen below; until then it must not count as one that nobody looks at.
  ended.catch(() => output.end())
  try {
    yield* output
    const { status } = await ended
    if (status !== 0) throw cannotReadDump(messages.lastLines)
  } finally {
    stop.abort()
    output.destroy()
    await ended.catch(() => undefined)
  }
}
