/**
 * Snapshots of the catalogue: which file node is which relation, at a moment
 * (docs/design/event-index.md, section 6).
 *
 * Invariant: each name in a snapshot was true at some moment between its two LSNs.
 */
import { isFailure } from '../base/failure.ts'
import { formatLsn, type Lsn, parseLsn, type Timeline } from '../postgres/lsn.ts'
import { damagedObject } from '../repository/envelope.ts'
import { decodeSmallObject, encodeSmallObject } from '../repository/small-object.ts'
import type { Storage } from '../storage/storage.ts'
import { type NamesPlace, namesKey, namesPrefix, parseNamesKey } from './index-keys.ts'
import type { IndexedArchive, IndexFailure } from './store-index.ts'

export interface CatalogueNames {
  readonly timeline: Timeline
  /** Where the WAL was before the first and behind the last catalogue was read. */
  readonly firstLsn: Lsn
  readonly lastLsn: Lsn
  /** The server's clock, ISO 8601. */
  readonly at: string
  readonly databases: readonly NamedDatabase[]
}

export interface NamedDatabase {
  readonly oid: number
  readonly name: string
  /** Where relations lie that name no tablespace. */
  readonly tablespace: number
  /** False: it could not be asked; it has a name and nothing more. */
  readonly isRead: boolean
  readonly schemas: readonly (readonly [oid: number, name: string])[]
  readonly relations: readonly NamedRelation[]
}

export type NamedRelation = readonly [
  node: number,
  /** 0: the database's own. */
  tablespace: number,
  schemaOid: number,
  name: string,
  kind: string,
  oid: number,
  /** Estimates of pg_class; -1: unknown. */
  rows: number,
  pages: number,
]

interface StoredNames extends Omit<CatalogueNames, 'firstLsn' | 'lastLsn'> {
  readonly firstLsn: string
  readonly lastLsn: string
}

/**
 * Does a snapshot say more than the one before? Estimates count only when they are far off:
 * they change with every ANALYZE.
 */
export function isWorthWriting(names: CatalogueNames, before: CatalogueNames | undefined): boolean {
  if (before === undefined || names.timeline !== before.timeline) return true
  const old = new Map(before.databases.map((database) => [database.oid, database]))
  if (old.size !== names.databases.length) return true
  return names.databases.some((database) => {
    const other = old.get(database.oid)
    if (other === undefined) return true
    // What could not be asked now says nothing against what is known.
    return database.isRead ? differs(database, other) : database.name !== other.name
  })
}

function differs(database: NamedDatabase, other: NamedDatabase): boolean {
  const { name, schemas, relations } = database
  if (name !== other.name || JSON.stringify(schemas) !== JSON.stringify(other.schemas)) return true
  if (relations.length !== other.relations.length) return true
  return relations.some((relation, n) => {
    const [node, tablespace, schema, relationName, kind, oid, rows] = relation
    const was = other.relations[n]
    if (was === undefined) return true
    const isSame =
      was[0] === node &&
      was[1] === tablespace &&
      was[2] === schema &&
      was[3] === relationName &&
      was[4] === kind &&
      was[5] === oid
    return !isSame || isFarOff(rows, was[6])
  })
}

function isFarOff(rows: number, before: number): boolean {
  const [less, more] = rows < before ? [rows, before] : [before, rows]
  return more >= 1000 && more > 2 * Math.max(less, 0)
}

/** Written to every storage; resolves with those that failed. */
export async function writeNamesSnapshot(
  storages: readonly Storage[],
  archive: IndexedArchive,
  names: CatalogueNames,
): Promise<readonly IndexFailure[]> {
  const { firstLsn, lastLsn, ...rest } = names
  const stored: StoredNames = {
    ...rest,
    firstLsn: formatLsn(firstLsn),
    lastLsn: formatLsn(lastLsn),
  }
  const bytes = encodeSmallObject('NAMS', stored)
  const place = { timeline: names.timeline, lsn: firstLsn }
  const key = namesKey(archive.cluster, archive.systemIdentifier, place)
  const results = await Promise.allSettled(
    storages.map(async (storage) => await storage.write(key, bytes)),
  )
  return results.flatMap((result, n): IndexFailure[] => {
    if (result.status === 'fulfilled') return []
    if (!isFailure(result.reason)) throw result.reason
    return [{ url: (storages[n] as Storage).url, failure: result.reason }]
  })
}

export interface ListedNames extends NamesPlace {
  readonly key: string
  readonly sizeBytes: number
}

/** By timeline, then by LSN. */
export async function listNamesSnapshots(
  storage: Storage,
  { cluster, systemIdentifier }: IndexedArchive,
): Promise<ListedNames[]> {
  const found: ListedNames[] = []
  for await (const { key, sizeBytes } of storage.list(namesPrefix(cluster, systemIdentifier))) {
    const place = parseNamesKey(key)
    if (place !== undefined) found.push({ ...place, key, sizeBytes })
  }
  return found
}

/** Undefined when it is not there; TM1601 when it is damaged. */
export async function findNamesSnapshot(
  storage: Storage,
  key: string,
): Promise<CatalogueNames | undefined> {
  const bytes = await storage.read(key)
  return bytes === undefined ? undefined : parseNamesSnapshot(key, bytes)
}

/** TM1601 when it is damaged. */
export function parseNamesSnapshot(key: string, bytes: Uint8Array): CatalogueNames {
  const stored = decodeSmallObject(key, 'NAMS', bytes) as unknown as StoredNames
  const { firstLsn, lastLsn, ...rest } = stored
  const [first, last] = [parseLsn(firstLsn), parseLsn(lastLsn)]
  if (first === undefined || last === undefined) throw damagedObject(key, 'it has no LSN')
  return { ...rest, firstLsn: first, lastLsn: last }
}
