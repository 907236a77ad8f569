/**
 * Head and table of contents of the archives that pg_dump writes: custom format, and the
 * `toc.dat` of directories and tar files. Bytes in, entries out, as they come.
 *
 * Invariant: what does not fit to the byte is refused (TM2005); a table of contents is given
 * whole or not at all. What lies behind it is not looked at.
 *
 * PostgreSQL: ReadHead(), ReadToc(), ReadInt(), ReadStr() and ReadOffset() of
 * bin/pg_dump/pg_backup_archiver.c; _ReadExtraToc() of pg_backup_custom.c (an offset),
 * pg_backup_directory.c and pg_backup_tar.c (a file name).
 *
 * | head | |
 * |---|---|
 * | 5 | `PGDMP` |
 * | 3 | version: 1, minor, revision |
 * | 2 | bytes of an integer, bytes of an offset |
 * | 1 | format: 1 custom, 3 tar and directory |
 * | 1, or an integer before 1.15 | compression |
 * | 7 integers | begun at: second, minute, hour, day, month from 0, year from 1900, summer time |
 * | 3 strings | database, version of the server, version of pg_dump |
 *
 * An integer is a byte of its sign and then its bytes, lowest first; a string is its length
 * (-1: none) and its bytes.
 */
import { Failure } from '../base/failure.ts'
import { decodeServerText } from './server-text.ts'

export type ArchiveFormat = 'custom' | 'tar' | 'directory'

export type ArchiveCompression = 'none' | 'gzip' | 'lz4' | 'zstd'

/** `none`: ENCODING and the like. */
export type ArchiveSection = 'none' | 'pre-data' | 'data' | 'post-data'

export interface ArchiveHead {
  /** `1.16`. */
  readonly version: string
  readonly compression: ArchiveCompression
  /** By the clock and zone of who wrote it, `2026-11-21T14:03:11`. */
  readonly begunAt: string
  readonly database: string
  readonly serverVersion: string
  readonly toolVersion: string
}

export interface ArchiveEntry {
  readonly dumpId: number
  /** It has data in the archive. */
  readonly hasData: boolean
  /** OIDs of its catalogue and of its row there; 0 where it has none. */
  readonly catalogueOid: number
  readonly oid: number
  /** PostgreSQL's tag: the name, and for some kinds more than that. */
  readonly name: string
  readonly kind: string
  readonly section: ArchiveSection
  /** Empty where it lies in none. */
  readonly schema: string
  readonly tablespace: string
  readonly owner: string
  readonly dependencies: readonly number[]
  /** Of directories and tar files, where it has data. */
  readonly fileName?: string
  /** SQL that makes it; only where it was asked for. */
  readonly definition?: string
}

export interface ArchiveToc {
  readonly head: ArchiveHead
  /** PostgreSQL's name of the encoding of all texts: `UTF8`. */
  readonly encoding: string
  /** All of them, in the archive's order. */
  readonly entries: readonly ArchiveEntry[]
}

export interface TocReaderOptions {
  readonly format: ArchiveFormat
  readonly withDefinitions?: boolean
}

const OLDEST_MINOR = 12
const NEWEST_MINOR = 16

/** Kinds that make nothing: `pg_restore --list` leaves them out. */
const SETTINGS_OF_ARCHIVE: ReadonlySet<string> = new Set(['ENCODING', 'STDSTRINGS', 'SEARCHPATH'])

export function makesAnObject({ kind }: ArchiveEntry): boolean {
  return !SETTINGS_OF_ARCHIVE.has(kind)
}

/** Takes an archive's first bytes in pieces of any size. */
export class ArchiveTocReader {
  readonly #options: TocReaderOptions
  #rest: Buffer = Buffer.alloc(0)
  #head: RawHead | undefined
  #remaining: number | undefined
  readonly #entries: RawEntry[] = []
  readonly #dumpIds = new Set<number>()

  constructor(options: TocReaderOptions) {
    this.#options = options
  }

  get isComplete(): boolean {
    return this.#remaining === 0
  }

  /** What was pushed with the end of the table and lies behind it. */
  get rest(): Uint8Array {
    return this.#rest
  }

  /** Bytes of an integer in this archive. */
  get intBytes(): number {
    return this.#head?.intBytes ?? 4
  }

  /** Returns whether all of the table is there; what comes behind it is let go. */
  push(bytes: Uint8Array): boolean {
    if (this.isComplete) return true
    const had = this.#rest.length > 0
    this.#rest = had ? Buffer.concat([this.#rest, bytes]) : Buffer.from(bytes)
    while (!this.isComplete) {
      const cursor = new Cursor(this.#rest)
      if (!this.#advance(cursor)) return false
      this.#rest = this.#rest.subarray(cursor.at)
    }
    return true
  }

  /** TM2005 when bytes are missing. */
  finish(): ArchiveToc {
    if (this.#head === undefined || !this.isComplete) {
      throw unreadable('it ends before its table of contents does')
    }
    const encoding = findEncoding(this.#entries)
    const decode = (text: string): string => decodeServerText(Buffer.from(text, 'latin1'), encoding)
    return {
      head: finishHead(this.#head, decode),
      encoding,
      entries: this.#entries.map((raw) => finishEntry(raw, decode, this.#options)),
    }
  }

  /** One step: the head, the number of entries, an entry. False: bytes are missing. */
  #advance(cursor: Cursor): boolean {
    try {
      if (this.#head === undefined) this.#head = readHead(cursor, this.#options.format)
      else if (this.#remaining === undefined) this.#remaining = readCount(cursor, this.#head)
      else this.#takeEntry(readEntry(cursor, this.#head, this.#options))
      return true
    } catch (error) {
      if (error === MORE) return false
      throw error
    }
  }

  #takeEntry(entry: RawEntry): void {
    if (this.#dumpIds.has(entry.dumpId)) throw unreadable(`entry ${entry.dumpId} comes twice`)
    this.#dumpIds.add(entry.dumpId)
    this.#entries.push(entry)
    this.#remaining = (this.#remaining as number) - 1
  }
}

/** Thrown by a cursor at the end of what is there. */
const MORE = Symbol('more bytes are needed')

class Cursor {
  at = 0
  readonly #bytes: Buffer
  intBytes = 4

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  take(length: number): Buffer {
    if (this.at + length > this.#bytes.length) throw MORE
    this.at += length
    return this.#bytes.subarray(this.at - length, this.at)
  }

  byte(): number {
    return this.take(1)[0] as number
  }

  int(): number {
    const sign = this.byte()
    if (sign > 1) throw unreadable(`a sign is ${sign}`)
    const bytes = this.take(this.intBytes)
    const value = bytes.readUIntLE(0, Math.min(this.intBytes, 6))
    if (bytes.subarray(6).some((byte) => byte !== 0)) throw unreadable('an integer is too large')
    return sign === 0 ? value : -value
  }

  /** Bytes as latin1, whatever they mean; undefined: none. */
  text(): string | undefined {
    const length = this.int()
    if (length === -1) return undefined
    if (length < 0 || length > MAX_TEXT_BYTES) throw unreadable(`a text has ${length} bytes`)
    return this.take(length).toString('latin1')
  }

  wanted(what: string): string {
    const text = this.text()
    if (text === undefined) throw unreadable(`${what} is missing`)
    return text
  }
}

/** PostgreSQL's MaxAllocSize: no definition is longer. */
const MAX_TEXT_BYTES = 0x3fffffff

interface RawHead {
  readonly minor: number
  readonly intBytes: number
  readonly offsetBytes: number
  readonly compression: ArchiveCompression
  readonly begunAt: string
  readonly database: string
  readonly serverVersion: string
  readonly toolVersion: string
}

const FORMAT_BYTES: Readonly<Record<ArchiveFormat, number>> = { custom: 1, tar: 3, directory: 3 }

function readHead(cursor: Cursor, format: ArchiveFormat): RawHead {
  const magic = cursor.take(5).toString('latin1')
  if (magic !== 'PGDMP') throw unreadable('it does not begin with PGDMP')
  const [major, minor, revision] = [cursor.byte(), cursor.byte(), cursor.byte()]
  if (major !== 1 || minor < OLDEST_MINOR || minor > NEWEST_MINOR) {
    throw unreadable(
      `it has version ${major}.${minor}-${revision}; ` +
        `1.${OLDEST_MINOR} to 1.${NEWEST_MINOR} are understood`,
    )
  }
  const [intBytes, offsetBytes] = [cursor.byte(), cursor.byte()]
  if (![4, 8].includes(intBytes) || ![4, 8].includes(offsetBytes)) {
    throw unreadable(`its integers have ${intBytes} bytes and its offsets ${offsetBytes}`)
  }
  cursor.intBytes = intBytes
  const found = cursor.byte()
  if (found !== FORMAT_BYTES[format]) throw unreadable(`its format is ${found}, not ${format}`)
  return {
    minor,
    intBytes,
    offsetBytes,
    compression: readCompression(cursor, minor),
    begunAt: readDate(cursor),
    database: cursor.wanted('the name of the database'),
    serverVersion: cursor.wanted("the server's version"),
    toolVersion: cursor.wanted('the version of pg_dump'),
  }
}

const COMPRESSIONS: readonly ArchiveCompression[] = ['none', 'gzip', 'lz4', 'zstd']

/** The algorithm since 1.15; before that the level of gzip. */
function readCompression(cursor: Cursor, minor: number): ArchiveCompression {
  if (minor < 15) return cursor.int() === 0 ? 'none' : 'gzip'
  const number = cursor.byte()
  const algorithm = COMPRESSIONS[number]
  if (algorithm === undefined) throw unreadable(`its compression is ${number}`)
  return algorithm
}

function readDate(cursor: Cursor): string {
  const [second = 0, minute = 0, hour = 0, day = 0, month = 0, year = 0] = Array.from(
    { length: 7 },
    () => cursor.int(),
  )
  const isDate =
    isWithin(second, 0, 61) &&
    isWithin(minute, 0, 59) &&
    isWithin(hour, 0, 23) &&
    isWithin(day, 1, 31) &&
    isWithin(month, 0, 11) &&
    isWithin(year, 90, 8099)
  if (!isDate) throw unreadable('its time of creation is none')
  const two = (number: number): string => String(number).padStart(2, '0')
  const date = `${year + 1900}-${two(month + 1)}-${two(day)}`
  return `${date}T${two(hour)}:${two(minute)}:${two(second)}`
}

function isWithin(value: number, least: number, most: number): boolean {
  return value >= least && value <= most
}

function readCount(cursor: Cursor, { intBytes }: RawHead): number {
  cursor.intBytes = intBytes
  const count = cursor.int()
  // ENCODING, STDSTRINGS and SEARCHPATH are always there.
  if (count < 1) throw unreadable(`it says that it has ${count} entries`)
  return count
}

/** Texts as latin1 of their bytes: what they mean is known when ENCODING has come. */
type RawEntry = Required<ArchiveEntry>

const SECTIONS: readonly (ArchiveSection | undefined)[] = [
  undefined,
  'none',
  'pre-data',
  'data',
  'post-data',
]

/** One entry, its fields in the order of WriteToc(). */
function readEntry(cursor: Cursor, head: RawHead, options: TocReaderOptions): RawEntry {
  cursor.intBytes = head.intBytes
  const dumpId = cursor.int()
  if (dumpId <= 0) throw unreadable(`an entry has the number ${dumpId}`)
  const hasData = readFlag(cursor.int(), dumpId)
  const catalogueOid = readNumber(cursor.wanted('an OID'))
  const oid = readNumber(cursor.wanted('an OID'))
  const name = cursor.wanted(`the name of entry ${dumpId}`)
  const kind = cursor.wanted(`the kind of entry ${dumpId}`)
  const section = SECTIONS[cursor.int()]
  if (section === undefined) throw unreadable(`entry ${dumpId} is in no known section`)
  const definition = cursor.text() ?? ''
  cursor.text() // what drops it
  cursor.text() // its COPY
  const schema = cursor.text() ?? ''
  const tablespace = cursor.text() ?? ''
  if (head.minor >= 14) cursor.text() // table access method
  if (head.minor >= 16) cursor.int() // relkind
  const owner = cursor.text() ?? ''
  // Whether the table has OIDs as a column: no server since 12 has such.
  if (cursor.text() === 'true') throw unreadable(`entry ${dumpId} is a table WITH OIDS`)
  const dependencies: number[] = []
  for (let text = cursor.text(); text !== undefined; text = cursor.text()) {
    dependencies.push(readNumber(text))
  }
  const fileName = options.format === 'custom' ? readOffset(cursor, head) : (cursor.text() ?? '')
  const needed = options.withDefinitions === true || kind === 'ENCODING'
  return {
    ...{ dumpId, hasData, catalogueOid, oid, name, kind, section, schema, tablespace, owner },
    ...{ dependencies, fileName, definition: needed ? definition : '' },
  }
}

function readFlag(value: number, dumpId: number): boolean {
  if (value === 0 || value === 1) return value === 1
  throw unreadable(`entry ${dumpId} says ${value} of its data`)
}

function readNumber(text: string): number {
  const number = /^\d{1,10}$/.test(text) ? Number(text) : -1
  if (number >= 0 && number <= 0xffffffff) return number
  throw unreadable('an OID or the number of an entry is none')
}

/** State (1 not set, 2 set, 3 no data) and place; on a pipe no place is ever set. */
function readOffset(cursor: Cursor, { offsetBytes }: RawHead): '' {
  const state = cursor.byte()
  if (!isWithin(state, 1, 3)) throw unreadable(`a place of data has the state ${state}`)
  cursor.take(offsetBytes)
  return ''
}

/** The first entry is `SET client_encoding = 'UTF8';`, whatever was selected. */
function findEncoding(entries: readonly RawEntry[]): string {
  const definition = entries.find(({ kind }) => kind === 'ENCODING')?.definition ?? ''
  const encoding = /^SET client_encoding = '([A-Za-z0-9_]+)';\s*$/.exec(definition)?.[1]
  if (encoding === undefined) throw unreadable('it does not say the encoding of its texts')
  return encoding
}

type Decode = (latin1: string) => string

function finishHead(raw: RawHead, decode: Decode): ArchiveHead {
  const { minor, compression, begunAt } = raw
  return {
    version: `1.${minor}`,
    compression,
    begunAt,
    database: decode(raw.database),
    serverVersion: decode(raw.serverVersion),
    toolVersion: decode(raw.toolVersion),
  }
}

function finishEntry(raw: RawEntry, decode: Decode, options: TocReaderOptions): ArchiveEntry {
  const { fileName, definition, ...entry } = raw
  return {
    ...entry,
    name: decode(raw.name),
    schema: decode(raw.schema),
    tablespace: decode(raw.tablespace),
    owner: decode(raw.owner),
    ...(fileName === '' ? {} : { fileName }),
    ...(options.withDefinitions === true ? { definition: decode(definition) } : {}),
  }
}

function unreadable(because: string): Failure {
  return new Failure('TM2005', {
    message: "an archive's table of contents cannot be read",
    because,
    fix: 'use pg_dump of a PostgreSQL that this Tidemark knows, or dump with --format plain',
  })
}
