/**
 * One reading of names, of a backup or of a snapshot, as a table from file nodes to names.
 */
import { type Lsn, parseLsn, type Timeline } from '../../postgres/lsn.ts'
import type { Microseconds } from '../../postgres/wal-event.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import type { DatabaseNames } from '../../repository/relation-names.ts'
import type { RelationNode } from '../folded-event.ts'
import type { CatalogueNames, NamedDatabase } from '../names-snapshot.ts'

export interface SourceName {
  readonly schema: string | undefined
  readonly name: string
  readonly kind: string
  /** Undefined: not known. */
  readonly rows: number | undefined
}

export interface NameSource {
  readonly timeline: Timeline
  /** It was read between these. */
  readonly firstLsn: Lsn
  readonly lastLsn: Lsn
  readonly at: Microseconds
  find(node: RelationNode): SourceName | undefined
  database(oid: number): string | undefined
  schema(database: number, oid: number): string | undefined
}

const DEFAULT_TABLESPACE = 1663
const GLOBAL_TABLESPACE = 1664

type Entry = readonly [tablespace: number, name: SourceName]

/** By database, then by number of the file node; shared relations are of database 0. */
type Table = Map<number, Map<number, Entry[]>>

function add(table: Table, database: number, node: number, entry: Entry): void {
  const [tablespace] = entry
  const owner = tablespace === GLOBAL_TABLESPACE ? 0 : database
  let nodes = table.get(owner)
  if (nodes === undefined) {
    nodes = new Map()
    table.set(owner, nodes)
  }
  const known = nodes.get(node)
  if (known === undefined) nodes.set(node, [entry])
  else known.push(entry)
}

function findIn(table: Table, node: RelationNode): SourceName | undefined {
  const entries = table.get(node.database)?.get(node.number) ?? []
  return entries.find(([tablespace]) => tablespace === node.tablespace)?.[1]
}

export function sourceOfSnapshot(names: CatalogueNames): NameSource {
  const table: Table = new Map()
  const byOid = new Map(names.databases.map((database) => [database.oid, database]))
  for (const database of names.databases) addDatabase(table, database)
  const schemas = new Map(
    names.databases.map(({ oid, schemas: list }) => [oid, new Map(list)] as const),
  )
  return {
    timeline: names.timeline,
    firstLsn: names.firstLsn,
    lastLsn: names.lastLsn,
    at: microseconds(names.at),
    find: (node) => findIn(table, node),
    database: (oid) => byOid.get(oid)?.name,
    schema: (database, oid) => schemas.get(database)?.get(oid),
  }
}

function addDatabase(table: Table, database: NamedDatabase): void {
  const schemas = new Map(database.schemas)
  for (const [node, tablespace, schemaOid, name, kind, , rows] of database.relations) {
    const known = rows < 0 ? undefined : rows
    const entry = { schema: schemas.get(schemaOid), name, kind, rows: known }
    add(table, database.oid, node, [tablespace || database.tablespace, entry])
  }
}

/** A backup does not tell the tablespace of a database: the default one is taken for it. */
export function sourceOfBackup(
  backup: BackupRecord,
  names: readonly DatabaseNames[],
): NameSource | undefined {
  const [firstLsn, lastLsn] = [parseLsn(backup.startLsn), parseLsn(backup.stopLsn)]
  if (firstLsn === undefined || lastLsn === undefined) return undefined
  const table: Table = new Map()
  for (const { oid, relations } of names) {
    for (const [node, tablespace, schema, name, kind] of relations) {
      const entry = { schema, name, kind, rows: undefined }
      add(table, oid, node, [tablespace || DEFAULT_TABLESPACE, entry])
    }
  }
  const databases = new Map(names.map(({ oid, name }) => [oid, name]))
  return {
    timeline: backup.timeline,
    firstLsn,
    lastLsn,
    at: microseconds(backup.startedAt),
    find: (node) => findIn(table, node),
    database: (oid) => databases.get(oid),
    schema: () => undefined,
  }
}

function microseconds(time: string): Microseconds {
  return BigInt(Date.parse(time)) * 1000n
}
