/**
 * The frame of what pg_dump and pg_dumpall write as SQL: a first and a last comment, to prove
 * that a text is whole. Since the minor releases of August 2025 `\restrict` and `\unrestrict`
 * stand around it.
 *
 * PostgreSQL: RestoreArchive() of pg_backup_archiver.c, main() of pg_dumpall.c.
 */
import { Failure } from '../base/failure.ts'

const LAST_LINES = {
  pg_dump: '-- PostgreSQL database dump complete',
  pg_dumpall: '-- PostgreSQL database cluster dump complete',
}

/** More than the comment and `\unrestrict` with its key. */
const KEPT_BYTES = 512

export class PlainEnd {
  #tail = Buffer.alloc(0)

  push(bytes: Uint8Array): void {
    const end = bytes.length >= KEPT_BYTES ? bytes : Buffer.concat([this.#tail, bytes])
    this.#tail = Buffer.from(end.subarray(Math.max(0, end.length - KEPT_BYTES)))
  }

  /** TM2005 unless the tool's last comment has come, and nothing behind it. */
  finish(tool: keyof typeof LAST_LINES): void {
    const lines = this.#tail.toString('latin1').split('\n')
    const last = lines.lastIndexOf(LAST_LINES[tool])
    // The comment ends with a line of its own, which is empty but for its dashes.
    const isClosed = last !== -1 && lines[last + 1] === '--'
    if (isClosed && lines.slice(last + 2).every(mayFollow)) return
    throw new Failure('TM2005', {
      message: `what ${tool} wrote is not whole`,
      because: 'it does not end with the comment that every dump ends with',
      fix: 'see that this is the tool of PostgreSQL and not a program that stands for it (--tools)',
    })
  }
}

function mayFollow(line: string): boolean {
  return line === '' || line.startsWith('\\unrestrict ')
}
