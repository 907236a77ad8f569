/**
 * Runs SQL scripts through psql: plain dumps, globals, and what pg_restore writes for a server
 * that is older than itself.
 *
 * Invariant: the first error ends it, unless told otherwise, and an end that is not that of the
 * script kills psql before its input ends.
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
  const { status, endedBy } = await feedTool({
    path: run.psql,
    args: [
      ...['--no-psqlrc', '--no-password', '--quiet', '--echo-errors', '--file=-'],
      ...['--output=/dev/null', `--set=ON_ERROR_STOP=${run.continueOnError ? 0 : 1}`],
      ...(run.singleTransaction ? ['--single-transaction'] : []),
    ],
    env: run.env,
    signal: run.signal,
    encoding: run.encoding,
    input: run.script,
    ...(run.onInput === undefined ? {} : { onInput: run.onInput }),
    onLine: (line) => {
      // The first error counts: what follows may be very much of the same.
      if (lines.length < KEPT_LINES) lines.push(line)
    },
  })
  const messages = parseScriptMessages(lines)
  return { isWhole: status === 0, endedBy: endedBy ?? `status ${status}`, messages }
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
