/**
 * The record of a dump: what it is, where its bytes lie (docs/design/dumps.md, section 1).
 *
 * Invariant: what parses names for every file its chunk lists, and every pack that it needs.
 */
import type { FrameReference } from './backup-record.ts'
import { damagedObject } from './envelope.ts'
import { judgeDumpRecord } from './judge-dump-record.ts'
import { dumpKey } from './keys.ts'
import { decodeSmallObject, encodeSmallObject } from './small-object.ts'

/** What pg_dump writes. */
export type ToolFormat = 'plain' | 'custom' | 'directory' | 'tar'

/** `copy`: rows of one table or query, as COPY writes them. */
export type DumpFormat = ToolFormat | 'copy'

export interface DumpRecord {
  readonly id: string
  readonly cluster: string
  /** ISO 8601, of the process that wrote it. */
  readonly startedAt: string
  readonly finishedAt: string
  readonly server: DumpedServer
  /** What `pg_dump --version` says of itself: `17.6`; of COPY the server's. */
  readonly toolVersion: string
  readonly format: DumpFormat
  /** Options of the selection as they were handed to the tool, without the connection. */
  readonly selection: readonly string[]
  /** Number of the file of globals in `files`. */
  readonly globals?: number
  readonly databases: readonly DumpedDatabase[]
  /** Of the format `copy`, and of no other. */
  readonly copy?: DumpedCopy
  readonly files: readonly DumpedFile[]
  readonly packs: readonly DumpedPack[]
  /** The dump whose chunks were looked for. */
  readonly base?: string
  readonly sizes: DumpSizes
  readonly labels: Readonly<Record<string, string>>
}

export interface DumpedServer {
  /** Decimal. */
  readonly systemIdentifier: string
  /** `server_version`. */
  readonly version: string
  readonly major: number
}

export interface DumpedDatabase {
  readonly name: string
  readonly oid: number
  /** As PostgreSQL names it: `UTF8`. */
  readonly encoding: string
  /** `X/X`: the server's WAL when the snapshot was taken; of a standby what it had replayed. */
  readonly lsn: string
  /** ISO 8601, by the server's clock. */
  readonly at: string
  /** Numbers of its files in the record's `files`. */
  readonly files: readonly number[]
  /** Frames of kind 9; none where nothing lists the objects (plain). */
  readonly objectLists: readonly FrameReference[]
  readonly objects: number
}

export type CopyFormat = 'csv' | 'text' | 'binary'

/** All that reading the file again needs: nothing of it is left to defaults. */
export interface DumpedCopy {
  /** As the server has counted them when all were sent. */
  readonly rows: number
  /** What the rows are of; none: of a query alone. */
  readonly table?: { readonly schema: string; readonly name: string }
  /** In their order in the file. */
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly format: CopyFormat
  /** As PostgreSQL names it. */
  readonly encoding: string
  readonly header: boolean
  /** Not of binary. */
  readonly delimiter?: string
  readonly null?: string
  /** Of csv. */
  readonly quote?: string
  readonly escape?: string
}

export interface DumpedFile {
  /** `globals.sql`, `1.dump`, `1/toc.dat`. */
  readonly name: string
  readonly bytes: number
  /** In hex, of all its bytes. */
  readonly sha256: string
  /** Frames of kind 8, in order; none of an empty file. */
  readonly chunkLists: readonly FrameReference[]
}

export interface DumpedPack {
  readonly id: string
  readonly bytes: number
}

export interface DumpSizes {
  /** Of all files. */
  readonly rawBytes: number
  /** Of the packs of its own attempt. */
  readonly storedBytes: number
  readonly chunks: number
  /** Of these, found in the base or earlier in this dump. */
  readonly reusedChunks: number
  /** Raw bytes of those. */
  readonly reusedBytes: number
}

/** Its fields stand in `dump` of the small object: they have a `format` of their own. */
export function encodeDumpRecord(record: DumpRecord): Uint8Array {
  return encodeSmallObject('DUMP', { dump: record })
}

/** TM1601 naming the key where the object is damaged, or is not the record of that dump. */
export function decodeDumpRecord(key: string, bytes: Uint8Array): DumpRecord {
  const { dump } = decodeSmallObject(key, 'DUMP', bytes)
  const because = judgeDumpRecord(dump)
  if (because !== undefined) throw damagedObject(key, because)
  const record = dump as DumpRecord
  if (key === dumpKey(record.cluster, record.id)) return record
  throw damagedObject(key, `it is the record of dump ${record.id} of ${record.cluster}`)
}
