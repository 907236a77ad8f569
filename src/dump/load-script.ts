/**
 * Runs SQL scripts through psql: plain dumps, globals, and what pg_restore writes for a server
 * that is older than itself.
 *
 * Invariant: the first error ends it, unless told otherwise. psql takes the end of its input for
 * that of the script, within a COPY too: so what is not its end kills psql first, and a
 * transaction is committed by the last words of the script, not by `psql --single-transaction`,
 * which would commit half a script when we are killed.
 */
import { feedTool } from './feed-tool.ts'
import { parseScriptMessages, type ScriptMessages } from './script-messages.ts'

export interface ScriptRun {
  readonly psql: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  readonly encoding: string
  readonly script: AsyncIterable<Uint8Array>
  readonly singleTransaction: boolean
  readonly continueOnError: boolean
  readonly onInput?: (bytes: number) => void
}

export interface ScriptEnd {
  /** It came to the end of the script; with continueOnError past what `messages` say. */
  readonly isWhole: boolean
  readonly endedBy: string
  readonly messages: ScriptMessages
}

const KEPT_LINES = 400

export async function runScript(run: ScriptRun): Promise<ScriptEnd> {
  const lines: string[] = []
  const { status, endedBy, tookAll } = await feedTool({
    path: run.psql,
    args: [
      ...['--no-psqlrc', '--no-password', '--quiet', '--echo-errors', '--file=-'],
      ...['--output=/dev/null', `--set=ON_ERROR_STOP=${run.continueOnError ? 0 : 1}`],
    ],
    env: run.env,
    signal: run.signal,
    encoding: run.encoding,
    input: run.singleTransaction ? inTransaction(run.script) : run.script,
    ...(run.onInput === undefined ? {} : { onInput: run.onInput }),
    onLine: (line) => {
      // The first error counts: what follows may be very much of the same.
      if (lines.length < KEPT_LINES) lines.push(line)
    },
  })
  const messages = parseScriptMessages(lines)
  // One that ends before its script does has not loaded it, whatever it says.
  const isWhole = status === 0 && tookAll
  return { isWhole, endedBy: endedBy ?? `status ${status}`, messages }
}

/** On the first line, so that psql counts lines as the script has them. */
async function* inTransaction(script: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield Buffer.from('BEGIN; ')
  yield* script
  yield Buffer.from('\nCOMMIT;\n')
}

/** It says something that a server of this major does not know. */
export function isNewerTool(version: string, major: number): boolean {
  return Number.parseInt(version, 10) >= 17 && major < 17
}

/**
 * Tools from 17 on switch transaction_timeout off, which an older server does not know: an
 * error, and with the first one ending the load, its end.
 */
export async function* withoutNewSettings(
  script: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let head: Buffer | undefined = Buffer.alloc(0)
  for await (const chunk of script) {
    if (head === undefined) {
      yield chunk
      continue
    }
    head = Buffer.concat([head, chunk])
    if (head.byteLength < HEAD_BYTES) continue
    yield cutSetting(head)
    head = undefined
  }
  if (head !== undefined) yield cutSetting(head)
}

/** All settings stand there. */
const HEAD_BYTES = 4096
const SETTING = '\nSET transaction_timeout = 0;\n'

function cutSetting(head: Buffer): Buffer {
  const at = head.indexOf(SETTING)
  if (at < 0 || at >= HEAD_BYTES) return head
  return Buffer.concat([head.subarray(0, at), head.subarray(at + SETTING.length - 1)])
}
