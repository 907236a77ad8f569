/**
 * A whole archive of the custom format, as it comes: its table of contents, and the frame of
 * the blocks of data behind it, to prove that it is whole.
 *
 * Invariant: finish() gives a table only of an archive that ends behind a block, with one
 * block for each entry that has data. What is in the blocks is not looked at.
 *
 * PostgreSQL: _StartData(), _StartLOs() and _CustomWriteFunc() of pg_backup_custom.c.
 *
 * | block | |
 * |---|---|
 * | 1 | 1 rows, 3 large objects |
 * | integer | dump id of its entry |
 * | rows | pieces |
 * | large objects | OID and pieces of each, then an OID of 0 |
 *
 * Pieces are an integer, their length, and so many bytes; one of length 0 is the last.
 */
import { Failure } from '../base/failure.ts'
import { type ArchiveToc, ArchiveTocReader } from './archive-toc.ts'

type State = 'block' | 'piece' | 'large object'

const NONE = Buffer.alloc(0)
const ROWS = 1
const LARGE_OBJECTS = 3

export class CustomArchiveReader {
  readonly #toc = new ArchiveTocReader({ format: 'custom' })
  readonly #seen = new Set<number>()
  #state: State = 'block'
  #isWithinLargeObjects = false
  /** Bytes of a piece that are still to come. */
  #skip = 0
  #token: Buffer = NONE

  push(bytes: Uint8Array): void {
    if (this.#toc.isComplete) this.#walk(bytes)
    else if (this.#toc.push(bytes)) this.#walk(this.#toc.rest)
  }

  /** The table alone, as soon as it is there. */
  get toc(): ArchiveToc | undefined {
    return this.#toc.isComplete ? this.#toc.finish() : undefined
  }

  /** TM2005 when it is not whole. */
  finish(): ArchiveToc {
    const toc = this.#toc.finish()
    if (this.#state !== 'block' || this.#token.length > 0 || this.#skip > 0) {
      throw incomplete('it ends within the data of an entry')
    }
    const missing = toc.entries.find(({ hasData, dumpId }) => hasData && !this.#seen.has(dumpId))
    if (missing !== undefined) {
      throw incomplete(`the data of ${missing.kind} ${missing.schema} ${missing.name} is missing`)
    }
    const entries = toc.entries.filter(({ hasData }) => hasData)
    if (entries.length < this.#seen.size) throw incomplete('it has data that belongs to no entry')
    return toc
  }

  #walk(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#skip === 0) {
        at = this.#readToken(bytes, at)
        continue
      }
      const skipped = Math.min(this.#skip, bytes.length - at)
      this.#skip -= skipped
      at += skipped
    }
  }

  /**
   * Without compression each row is a piece, so the length of one is nearly all that comes here:
   * it is read in place. Returns where it has read to.
   */
  #readToken(bytes: Uint8Array, at: number): number {
    const wanted = this.#tokenBytes() - this.#token.length
    if (this.#token.length === 0 && at + wanted <= bytes.length) {
      if (this.#state === 'piece') this.#beginPiece(readInteger(bytes, at, wanted))
      else this.#takeToken(bytes.subarray(at, at + wanted))
      return at + wanted
    }
    const piece = bytes.subarray(at, at + wanted)
    const token = Buffer.concat([this.#token, piece])
    const isWhole = piece.length === wanted
    this.#token = isWhole ? NONE : token
    if (isWhole) this.#takeToken(token)
    return at + piece.length
  }

  #tokenBytes(): number {
    const integer = 1 + this.#toc.intBytes
    return this.#state === 'block' ? 1 + integer : integer
  }

  #takeToken(token: Uint8Array): void {
    if (this.#state === 'block') this.#beginBlock(token)
    else if (this.#state === 'piece') this.#beginPiece(readInteger(token, 0, token.length))
    else this.#state = readInteger(token, 0, token.length) === 0 ? 'block' : 'piece'
  }

  #beginPiece(length: number): void {
    if (length < 0) throw incomplete('a piece of data has a length below 0')
    this.#skip = length
    if (length === 0) this.#state = this.#isWithinLargeObjects ? 'large object' : 'block'
  }

  #beginBlock(token: Uint8Array): void {
    const kind = token[0]
    if (kind !== ROWS && kind !== LARGE_OBJECTS) throw incomplete(`a block has the kind ${kind}`)
    const dumpId = readInteger(token, 1, token.length - 1)
    if (this.#seen.has(dumpId)) throw incomplete(`the data of entry ${dumpId} comes twice`)
    this.#seen.add(dumpId)
    this.#isWithinLargeObjects = kind === LARGE_OBJECTS
    this.#state = this.#isWithinLargeObjects ? 'large object' : 'piece'
  }
}

/** A byte of its sign, then its bytes, the lowest first. */
function readInteger(bytes: Uint8Array, at: number, length: number): number {
  let value = 0
  for (let index = length - 1; index > 0; index--) {
    value = value * 256 + (bytes[at + index] as number)
  }
  return bytes[at] === 0 ? value : -value
}

function incomplete(because: string): Failure {
  return new Failure('TM2005', {
    message: 'the archive that pg_dump wrote is not whole',
    because,
    fix: 'run the dump again; when it stays like that, try --format plain, and report it',
  })
}
