/**
 * What `psql --echo-errors` says on standard error with LC_ALL=C. Pure. Whether a script went
 * through is read out of the exit status, never out of this.
 */
import { hidePasswords } from './sql-text.ts'

export interface ScriptMessages {
  /** `ERROR:  relation "t" already exists`, with detail, hint and context; undefined: none. */
  readonly error: string | undefined
  readonly statement: string | undefined
  /** Line of the script. */
  readonly line: number | undefined
  readonly lastLines: readonly string[]
}

const PLACE = /^psql:[^:]*:(\d+): /
const LAST_LINES = 12

export function parseScriptMessages(said: readonly string[]): ScriptMessages {
  const lines = said.map(hidePasswords)
  const error: string[] = []
  const statement: string[] = []
  let line: number | undefined
  let reading: string[] | undefined
  for (const text of lines) {
    const place = PLACE.exec(text)
    const words = place === null ? text : text.slice(place[0].length)
    if (/^(ERROR|FATAL|PANIC|error): /.test(words)) {
      line ??= place === null ? undefined : Number(place[1])
      reading = error.length === 0 ? error : undefined
    } else if (words.startsWith('STATEMENT:  ')) {
      reading = statement.length === 0 ? statement : undefined
    } else if (place !== null) {
      reading = undefined
    }
    reading?.push(words)
  }
  return {
    error: error.length === 0 ? undefined : error.join('\n').trim(),
    statement: statement.length === 0 ? undefined : statement.join('\n').slice(12).trim(),
    line,
    lastLines: lines.slice(-LAST_LINES),
  }
}
