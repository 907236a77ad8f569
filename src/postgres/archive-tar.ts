/**
 * A whole tar file that pg_dump writes, as it comes: the table of contents out of its first
 * member, `toc.dat`, and the names of the others, to prove that it is whole.
 *
 * Invariant: finish() gives a table only of a file that ends as tar files do, with a member
 * for each entry that has data. What is in them is not looked at.
 *
 * PostgreSQL: _CloseArchive() of bin/pg_dump/pg_backup_tar.c, tarCreateHeader() of
 * port/tar.c. A header has 512 bytes: the name at 0, the size at 124 as 11 octal digits, or in
 * 8 bytes at 128 with 0x80 at 124, `ustar` at 257. Members are filled up to 512 bytes; two
 * blocks of zeros are the end.
 */
import { Failure } from '../base/failure.ts'
import {
  type ArchiveEntry,
  type ArchiveToc,
  ArchiveTocReader,
  type TocReaderOptions,
} from './archive-toc.ts'

const BLOCK_BYTES = 512
const END_BYTES = 2 * BLOCK_BYTES

export class TarArchiveReader {
  readonly #toc: ArchiveTocReader
  readonly #members = new Set<string>()
  #header = Buffer.alloc(0)
  /** Of the member that is read: its bytes that are still to come, and what fills it up. */
  #remaining = 0
  #padding = 0
  #zeros = 0

  constructor(options: Omit<TocReaderOptions, 'format'> = {}) {
    this.#toc = new ArchiveTocReader({ ...options, format: 'tar' })
  }

  push(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length) {
      const rest = bytes.subarray(at)
      if (this.#remaining > 0) at += this.#takeMember(rest)
      else if (this.#padding > 0) at += this.#takePadding(rest)
      else at += this.#takeHeader(rest)
    }
  }

  /** The table alone, as soon as it is there. */
  get toc(): ArchiveToc | undefined {
    return this.#toc.isComplete ? this.#toc.finish() : undefined
  }

  /** TM2005 when it is not whole. */
  finish(): ArchiveToc {
    const toc = this.#toc.finish()
    if (this.#zeros < END_BYTES || this.#header.length > 0) throw unreadable('it has no end')
    const missing = toc.entries.find((entry) => entry.hasData && !this.#hasDataOf(entry))
    if (missing === undefined) return toc
    throw unreadable(`the data of ${missing.kind} ${missing.schema} ${missing.name} is missing`)
  }

  /** Large objects have a list of their own, under another name than the entry says. */
  #hasDataOf({ kind, fileName, dumpId }: ArchiveEntry): boolean {
    if (kind === 'BLOBS') {
      return this.#members.has('blobs.toc') || this.#members.has(`blobs_${dumpId}.toc`)
    }
    return fileName !== undefined && this.#members.has(fileName)
  }

  #takeMember(bytes: Uint8Array): number {
    const own = bytes.subarray(0, this.#remaining)
    this.#remaining -= own.length
    if (this.#members.size === 1) this.#toc.push(own)
    return own.length
  }

  #takePadding(bytes: Uint8Array): number {
    const taken = Math.min(this.#padding, bytes.length)
    this.#padding -= taken
    return taken
  }

  #takeHeader(bytes: Uint8Array): number {
    const piece = bytes.subarray(0, BLOCK_BYTES - this.#header.length)
    this.#header = Buffer.concat([this.#header, piece])
    if (this.#header.length < BLOCK_BYTES) return piece.length
    const header = this.#header
    this.#header = Buffer.alloc(0)
    if (header.every((byte) => byte === 0)) this.#zeros += BLOCK_BYTES
    else this.#beginMember(header)
    return piece.length
  }

  #beginMember(header: Buffer): void {
    const { name, bytes } = readHeader(header)
    if (this.#zeros > 0) throw unreadable('it goes on behind its end')
    if (this.#members.size === 0 && name !== 'toc.dat') throw unreadable(`it begins with ${name}`)
    if (this.#members.has(name)) throw unreadable(`${name} comes twice`)
    this.#members.add(name)
    this.#remaining = bytes
    this.#padding = (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES
  }
}

function readHeader(header: Buffer): { name: string; bytes: number } {
  const name = header.toString('latin1', 0, 100).replace(/\0.*$/s, '')
  const magic = header.toString('latin1', 257, 262)
  if (magic !== 'ustar') throw unreadable('it has a member without a header')
  if (header[124] === 0x80) return { name, bytes: Number(header.readBigUInt64BE(128)) }
  const size = /^([0-7]{11})[ \0]/.exec(header.toString('latin1', 124, 136))?.[1]
  if (size === undefined) throw unreadable('it has a member without a size')
  return { name, bytes: Number.parseInt(size, 8) }
}

function unreadable(because: string): Failure {
  return new Failure('TM2005', {
    message: 'the tar file that pg_dump wrote is not whole',
    because,
    fix: 'run the dump again; when it stays like that, try --format custom, and report it',
  })
}
