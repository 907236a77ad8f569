/**
 * The table of contents of a tar file that pg_dump writes: its first member, `toc.dat`.
 *
 * PostgreSQL: _tarWriteHeader() of bin/pg_dump/pg_backup_tar.c. A header has 512 bytes: the
 * name at 0, the size at 124 as 11 octal digits, `ustar` at 257.
 */
import { Failure } from '../base/failure.ts'
import { type ArchiveToc, ArchiveTocReader, type TocReaderOptions } from './archive-toc.ts'

const HEADER_BYTES = 512

export class TarTocReader {
  readonly #toc: ArchiveTocReader
  #header = Buffer.alloc(0)
  /** Of toc.dat, and how much of it is still to come. */
  #remaining: number | undefined

  constructor(options: Omit<TocReaderOptions, 'format'> = {}) {
    this.#toc = new ArchiveTocReader({ ...options, format: 'tar' })
  }

  /** Returns whether all of the table is there; what comes behind it is let go. */
  push(bytes: Uint8Array): boolean {
    if (this.#toc.isComplete) return true
    if (this.#remaining !== undefined) return this.#pushMember(bytes)
    this.#header = Buffer.concat([this.#header, bytes])
    if (this.#header.length < HEADER_BYTES) return false
    this.#remaining = readMemberSize(this.#header)
    return this.#pushMember(this.#header.subarray(HEADER_BYTES))
  }

  #pushMember(bytes: Uint8Array): boolean {
    const own = bytes.subarray(0, this.#remaining)
    this.#remaining = (this.#remaining ?? 0) - own.length
    return this.#toc.push(own)
  }

  finish(): ArchiveToc {
    return this.#toc.finish()
  }
}

function readMemberSize(header: Buffer): number {
  const name = header.toString('latin1', 0, 100).replace(/\0.*$/s, '')
  const magic = header.toString('latin1', 257, 262)
  const size = /^([0-7]{11})[ \0]/.exec(header.toString('latin1', 124, 136))?.[1]
  if (name === 'toc.dat' && magic === 'ustar' && size !== undefined) return Number.parseInt(size, 8)
  throw new Failure('TM2005', {
    message: "an archive's table of contents cannot be read",
    because: 'it is no tar file that begins with toc.dat',
    fix: 'use pg_dump of a PostgreSQL that this Tidemark knows, or dump with --format plain',
  })
}
