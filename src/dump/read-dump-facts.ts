/**
 * Reads what a decision about dumps that expire is made from.
 *
 * Invariant: holds are listed before records, and packs last. A writer publishes its record before
 * it drops its hold, so one of the two is seen; a pack is written under a hold.
 */
import { type Lsn, parseLsn } from '../postgres/lsn.ts'
import { type CondemnedSet, listCondemnedSets } from '../repository/condemned-sets.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import { isDeadWriter, listHolds } from '../repository/holds.ts'
import {
  clusterPrefix,
  dumpKey,
  dumpPackKey,
  parseDumpKey,
  parseDumpMarkKey,
  parseDumpPackKey,
} from '../repository/keys.ts'
import { readDumpMarks } from '../repository/marks.ts'
import { listDumpPacks, listDumps } from '../repository/read-dumps.ts'
import type { Storage } from '../storage/storage.ts'
import { latestMoment } from './latest-moment.ts'
import type { DumpFacts, ListedDump } from './plan-dump-expiration.ts'

export interface DumpFactsOptions {
  readonly storage: Storage
  readonly cluster: string
  /** The condemned set of this very expiry. */
  readonly ownSet?: string
}

export async function readDumpFacts(options: DumpFactsOptions): Promise<DumpFacts> {
  const { storage, cluster } = options
  const { holds, unreadable: unreadableHolds } = await listHolds(storage, cluster)
  const { dumps, unreadable } = await listDumps(storage, cluster)
  const sets = await readSets(options)
  const { pins, keys } = await readDumpMarks(storage, cluster)
  const sizes = await listDumpPacks(storage, cluster)
  return {
    dumps: dumps.map((record) => describe(record, pins.get(record.id) ?? false, sizes)),
    unreadableRecords: unreadable.map(({ key }) => key),
    holds,
    unreadableHolds,
    ...sets,
    packs: [...sizes].map(([id, sizeBytes]) => ({ id, key: dumpPackKey(cluster, id), sizeBytes })),
    marks: keys.map(({ key, id }) => ({ key, dumpId: id })),
  }
}

function describe(
  record: DumpRecord,
  isPinned: boolean,
  sizes: ReadonlyMap<string, number>,
): ListedDump {
  const databases = record.databases.map(({ name }) => name)
  return {
    id: record.id,
    key: dumpKey(record.cluster, record.id),
    kind: kindOfDump(record),
    databases,
    atMs: latestMoment(record),
    startedMs: Date.parse(record.startedAt),
    systemIdentifier: record.server.systemIdentifier,
    lsn: latestLsn(record),
    isPinned,
    isIncomplete: record.packs.some(({ id, bytes }) => sizes.get(id) !== bytes),
    packs: record.packs.map(({ id }) => id),
  }
}

function latestLsn({ databases }: DumpRecord): Lsn | undefined {
  const positions = databases.map(({ lsn }) => parseLsn(lsn)).filter((lsn) => lsn !== undefined)
  return positions.reduce<Lsn | undefined>((latest, lsn) => {
    return latest === undefined || lsn > latest ? lsn : latest
  }, undefined)
}

/** Dumps of one kind take each other's place, in whatever format they are. */
export function kindOfDump({ databases, selection, globals }: DumpRecord): string {
  const names = databases.map(({ name }) => name).sort()
  return JSON.stringify([names, selection, globals !== undefined])
}

/** A set of a dead writer binds nobody. One that names backups too is left to their expiry. */
async function readSets({ storage, cluster, ownSet }: DumpFactsOptions) {
  const { sets } = await listCondemnedSets(storage, cluster)
  const others = sets.filter(({ id }) => id !== ownSet)
  const dead = others.filter((set) => set.isLeft === true || isDeadWriter(set))
  const alive = others.filter((set) => !dead.includes(set))
  const prefix = clusterPrefix(cluster)
  return {
    condemnedElsewhere: new Set(alive.flatMap(({ keys }) => keys)),
    takenOver: dead.filter((set) => isOfDumps(set, prefix)).map(({ id }) => id),
  }
}

function isOfDumps({ backups, packs, keys, repacked = [] }: CondemnedSet, prefix: string): boolean {
  if (backups.length + packs.length + repacked.length > 0 || keys.length === 0) return false
  return keys.every((key) => key.startsWith(prefix) && isDumpObject(key))
}

function isDumpObject(key: string): boolean {
  return (parseDumpKey(key) ?? parseDumpPackKey(key) ?? parseDumpMarkKey(key)) !== undefined
}
