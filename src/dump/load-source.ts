/**
 * Where a load gets its dump from: the repository, files, or a server that is being dumped.
 *
 * Invariant: whatever gives bytes ends only when they were proved to be whole, and throws
 * otherwise.
 */
import type { Failure } from '../base/failure.ts'
import type { DumpObject } from '../repository/dump-objects.ts'
import type { DumpFormat, DumpRecord } from '../repository/dump-record.ts'
import type { Storage } from '../storage/storage.ts'
import { dumpDamaged, type FailedLoad } from './load-failures.ts'
import { type OpenArchive, openArchive } from './open-archive.ts'
import { readDumpFile, readDumpObjects } from './read-dump.ts'

export interface LoadSource {
  /** For people: `dump 20261122-0900`, `/backup/shop.dump`. */
  readonly label: string
  /** The same for --json. */
  readonly json: Readonly<Record<string, unknown>>
  readonly format: DumpFormat
  /** Of pg_dump that wrote it: `17.6`. */
  readonly toolVersion: string
  readonly database: SourceDatabase
  readonly server: {
    /** Undefined: nobody knows. */
    readonly systemIdentifier: string | undefined
    readonly major: number
  }
  /** A plain script with CREATE DATABASE and \connect in it. */
  readonly createsItself: boolean
  readonly holdsOnlyRows: boolean
  /** Of all files; undefined: not known before. */
  readonly bytes: number | undefined
  /** Not of a plain one. */
  objects(): AsyncIterable<DumpObject>
  /** Not of a plain one. */
  openArchive(seeks: boolean): Promise<OpenArchive>
  /** Of a plain one. */
  script(): AsyncIterable<Uint8Array>
  /** Reading it has failed while it was loaded. */
  stopped(load: FailedLoad, cause: Failure): Failure
}

export interface SourceDatabase {
  readonly name: string
  /** Undefined: nobody knows. */
  readonly oid: number | undefined
  /** As PostgreSQL names it. */
  readonly encoding: string
}

export function dumpSource(
  storage: Storage,
  record: DumpRecord,
  databaseNumber: number,
): LoadSource {
  const database = record.databases[databaseNumber]
  if (database === undefined) throw new Error(`dump ${record.id} has no database ${databaseNumber}`)
  const files = database.files.map((number) => {
    const file = record.files[number]
    if (file === undefined) throw new Error(`dump ${record.id} has no file ${number}`)
    const { name, bytes } = file
    return { name, bytes, read: () => readDumpFile(storage, record, number) }
  })
  const [first] = files
  if (first === undefined) throw new Error(`no file of database ${database.name}`)
  return {
    label: `dump ${record.id}`,
    json: { dump: record.id, cluster: record.cluster },
    format: record.format,
    toolVersion: record.toolVersion,
    database,
    server: record.server,
    createsItself: record.format === 'plain' && record.selection.includes('--create'),
    holdsOnlyRows: holdsOnlyRows(record),
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    objects: () => readDumpObjects(storage, record, databaseNumber),
    openArchive: async (seeks) => await openArchive({ format: record.format, files, seeks }),
    script: () => first.read(),
    stopped: dumpDamaged,
  }
}

function holdsOnlyRows({ selection }: DumpRecord): boolean {
  const sections = selection.filter((option) => option.startsWith('--section='))
  return selection.includes('--data-only') || sections.join() === '--section=data'
}
