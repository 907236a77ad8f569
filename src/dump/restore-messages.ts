/**
 * What `pg_restore --verbose` says on standard error with LC_ALL=C: what it begins, and what
 * went wrong with which entry. Pure. PostgreSQL: pg_backup_archiver.c, restore_toc_entry() and
 * warn_or_exit_horribly().
 *
 * Invariant: whether a load succeeded is never read out of these lines, only out of the exit
 * status; they say which object it was.
 */
import { hidePasswords } from './sql-text.ts'

export interface RestoreError {
  /** The archive's number of the object; undefined where the tool names none. */
  readonly dumpId: number | undefined
  /** `ERROR:  relation "t" already exists`, with detail, hint and context. */
  readonly message: string
  readonly statement: string | undefined
}

export interface RestoreMessages {
  /** `TABLE public.t`, as often as it was begun. */
  readonly begun: ReadonlyMap<string, number>
  readonly errors: readonly RestoreError[]
  /** Everything that was said of the last steps, for when nothing else explains the end. */
  readonly lastLines: readonly string[]
}

const LAST_LINES = 12

export class MessageReader implements RestoreMessages {
  readonly begun = new Map<string, number>()
  readonly lastLines: string[] = []
  readonly #errors: { dumpId: number | undefined; lines: string[] }[] = []
  #dumpId: number | undefined
  #isInError = false

  /** One line, without its end. */
  take(said: string): void {
    const line = hidePasswords(said)
    this.lastLines.push(line)
    if (this.lastLines.length > LAST_LINES) this.lastLines.shift()
    const own = /^pg_restore: (.*)$/.exec(line)?.[1]
    if (own === undefined) {
      if (this.#isInError) this.#errors.at(-1)?.lines.push(line)
      return
    }
    this.#isInError = false
    const entry = /^from TOC entry (\d+);/.exec(own)?.[1]
    const error = /^error: (.*)$/.exec(own)?.[1]
    if (entry !== undefined) this.#dumpId = Number(entry)
    else if (error !== undefined) this.#begin(error)
    else this.#note(own)
  }

  #begin(text: string): void {
    this.#isInError = true
    this.#errors.push({ dumpId: this.#dumpId, lines: [text] })
    this.#dumpId = undefined
  }

  #note(text: string): void {
    const object = parseBegun(text)
    if (object === undefined) return
    this.begun.set(object, (this.begun.get(object) ?? 0) + 1)
  }

  get errors(): readonly RestoreError[] {
    return this.#errors.map(({ dumpId, lines }) => ({ dumpId, ...splitStatement(lines) }))
  }
}

function parseBegun(text: string): string | undefined {
  const creating = /^creating ([A-Z ]+) "(.*)"$/.exec(text)
  if (creating !== null) return `${creating[1]} ${creating[2]}`
  const data = /^processing data for table "(.*)"$/.exec(text)
  if (data !== null) return `TABLE DATA ${data[1]}`
  return /^(?:executing|processing) ([A-Z][A-Z ]* .+|BLOBS)$/.exec(text)?.[1]
}

function splitStatement(lines: readonly string[]): {
  message: string
  statement: string | undefined
} {
  const at = lines.findIndex((line) => line.startsWith('Command was: '))
  const text = (part: readonly string[]): string => part.join('\n').trim()
  if (at < 0) return { message: text(lines), statement: undefined }
  return {
    message: text(lines.slice(0, at)).replace(/^could not execute query: /, ''),
    statement: text(lines.slice(at)).replace(/^Command was: /, ''),
  }
}
