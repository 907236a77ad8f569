/**
 * Reads what a decision about expiry is made from.
 *
 * Invariant: holds are listed before records. A writer publishes its record before it drops its
 * hold, so one of the two is seen. Condemned sets of others, pins, packs and WAL come after.
 */
import { parseGapKey } from '../archive/gap-record.ts'
import { parseSegmentKey } from '../archive/list-segments.ts'
import { parseTailName } from '../archive/tail-keys.ts'
import { parseBreakKey } from '../archive/break-mark.ts'
import { findArchivedHistory } from '../archive/find-history.ts'
import { findReservation, parseTimelineName } from '../archive/reservations.ts'
import { walPrefix } from '../archive/wal-file-name.ts'
import type { WalPlace } from '../archive/writer-record.ts'
import { isFailure } from '../base/failure.ts'
import { parseHistoryFileName } from '../postgres/history-file.ts'
import { type Lsn, parseLsn, previousSegmentNumber, segmentNumber } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { listCondemnedSets } from '../repository/condemned-sets.ts'
import { isDeadWriter, listHolds } from '../repository/holds.ts'
import {
  backupPrefix,
  clusterPrefix,
  packPrefix,
  parseBackupKey,
  parsePackKey,
} from '../repository/keys.ts'
import { type Marks, readMarks } from '../repository/marks.ts'
import { readBackup } from '../repository/read-backups.ts'
import { findSystemIdentity } from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupFacts, ExpirationFacts, OtherWal, SystemFacts, TimelineFacts } from './facts.ts'
import { PackSet, PackTable } from './pack-table.ts'
import { numberOfSegment } from './plan-expiration.ts'

export interface FactsOptions {
  readonly storage: Storage
  readonly cluster: string
  /** The condemned set of this very expiry. */
  readonly ownSet?: string
}

export async function readFacts(options: FactsOptions): Promise<ExpirationFacts> {
  const { storage, cluster } = options
  const { holds, unreadable } = await listHolds(storage, cluster)
  const packs = new PackTable()
  const records = await readRecords(storage, cluster, packs)
  const sets = await readSets(options)
  const marks = await readMarks(storage, cluster)
  for await (const { key, sizeBytes } of storage.list(packPrefix(cluster))) {
    const id = parsePackKey(key)
    if (id !== undefined) packs.addStored(id, sizeBytes)
  }
  const stored = new PackSet()
  for (const { number } of packs.stored()) stored.add(number)
  const systems = await readSystems(storage, cluster)
  return {
    cluster,
    backups: records.backups.map((backup) => ({
      ...withPin(backup, marks),
      isIncomplete: !backup.packs.isWithin(stored) || !hasOwnWal(backup, systems),
    })),
    damagedRecords: records.damaged,
    holds,
    unreadableHolds: unreadable,
    ...sets,
    lostRecords: [],
    systems,
    packs,
    marks: marks.keys.map(({ key, id }) => ({ key, backupId: id })),
  }
}

/** Every segment that makes it consistent, under its own timeline. */
function hasOwnWal(backup: BackupFacts, systems: readonly SystemFacts[]): boolean {
  const { systemIdentifier, timeline, firstSegment, lastSegment } = backup
  const system = systems.find((one) => one.systemIdentifier === systemIdentifier)
  const listed = system?.timelines.find((one) => one.timeline === timeline)?.segments ?? []
  const at = listed.indexOf(firstSegment)
  // They ascend, and each is there once.
  return at >= 0 && listed[at + lastSegment - firstSegment] === lastSegment
}

/** A set of a dead writer binds nobody; what it names without a record has expired. */
async function readSets({ storage, cluster, ownSet }: FactsOptions) {
  const { sets } = await listCondemnedSets(storage, cluster)
  const own = sets.filter(({ id }) => id === ownSet)
  const others = sets.filter(({ id }) => id !== ownSet)
  const dead = others.filter((set) => set.isLeft === true || isDeadWriter(set))
  const alive = others.filter((set) => !dead.includes(set))
  return {
    condemnedElsewhere: new Set(alive.flatMap(({ backups }) => backups)),
    expiredBefore: new Set([...dead, ...own].flatMap(({ backups }) => backups)),
    takenOver: dead.map(({ id }) => id),
  }
}

export function withPin(backup: BackupFacts, { pins }: Marks): BackupFacts {
  return { ...backup, isPinned: pins.get(backup.id) ?? backup.isPinned }
}

/** Records read at once: each is a request to an object store. */
const READ_AT_ONCE = 8

async function readRecords(storage: Storage, cluster: string, packs: PackTable) {
  const ids: string[] = []
  for await (const { key } of storage.list(backupPrefix(cluster))) {
    const id = parseBackupKey(key)
    if (id !== undefined) ids.push(id)
  }
  const backups: BackupFacts[] = []
  const damaged: string[] = []
  const waiting = ids.values()
  const read = async (): Promise<void> => {
    for (const id of waiting) {
      const found = await findRecord(storage, cluster, id)
      if (found === 'damaged') damaged.push(id)
      else if (found !== 'gone') backups.push(describeRecord(found, packs))
    }
  }
  await Promise.all(Array.from({ length: READ_AT_ONCE }, read))
  return { backups: backups.sort((a, b) => (a.id < b.id ? -1 : 1)), damaged }
}

async function findRecord(
  storage: Storage,
  cluster: string,
  id: string,
): Promise<BackupRecord | 'damaged' | 'gone'> {
  try {
    return await readBackup(storage, cluster, id)
  } catch (error) {
    if (isFailure(error, 'TM1601')) return 'damaged'
    if (isFailure(error, 'TM1505')) return 'gone'
    throw error
  }
}

export function describeRecord(record: BackupRecord, table: PackTable): BackupFacts {
  const { startLsn, stopLsn, minRecoveryLsn, sizes } = record
  const size = sizes.walSegmentSizeBytes
  const [start, stop, minimum] = [startLsn, stopLsn, minRecoveryLsn ?? '0/0'].map(
    (text) => parseLsn(text) ?? 0n,
  ) as [Lsn, Lsn, Lsn]
  const consistentAt = minimum > stop ? minimum : stop
  const packs = new PackSet()
  for (const { id } of record.packs) packs.add(table.numberOf(id))
  const byName = numberOfSegment(record.walLast, size) ?? 0
  return {
    id: record.id,
    systemIdentifier: record.systemIdentifier,
    timeline: record.timeline,
    stoppedAtMs: Date.parse(record.stoppedAt),
    firstSegment: Number(segmentNumber(start, size)),
    lastSegment: Math.max(Number(previousSegmentNumber(consistentAt, size)), byName),
    consistentAt,
    isPinned: record.pinned,
    packs,
  }
}

async function readSystems(storage: Storage, cluster: string): Promise<SystemFacts[]> {
  const found = new Map<string, CollectedSystem>()
  const systemOf = async (id: string): Promise<CollectedSystem> => {
    const known = found.get(id)
    if (known !== undefined) return known
    const created = await newSystem(storage, cluster, id)
    found.set(id, created)
    return created
  }
  const prefix = clusterPrefix(cluster)
  for await (const { key } of storage.list(`${prefix}systems/`)) {
    const id = /\/systems\/(\d{1,20})\.json$/.exec(key)?.[1]
    if (id !== undefined) await systemOf(id)
  }
  for await (const { key, sizeBytes } of storage.list(`${prefix}wal/`)) {
    const id = key.slice(prefix.length + 4, key.indexOf('/', prefix.length + 4))
    const system = found.get(id) ?? (await systemOf(id))
    collect(system, key, sizeBytes, walPrefix(cluster, id).length)
  }
  const systems: SystemFacts[] = []
  for (const system of found.values()) systems.push(await summarize(storage, cluster, system))
  return systems
}

interface CollectedSystem {
  readonly systemIdentifier: string
  readonly createdAtMs: number | undefined
  readonly walSegmentSizeBytes: number
  readonly timelines: Map<number, { hasHistory: boolean; segments: number[]; sizes: number[] }>
  readonly others: OtherWal[]
}

/** Without its identity nothing of a system is touched, so that any segment size will do. */
const ANY_SEGMENT_BYTES = 16 * 1024 * 1024

async function newSystem(storage: Storage, cluster: string, id: string): Promise<CollectedSystem> {
  const identity = await findIdentity(storage, cluster, id)
  const createdAtMs = identity === undefined ? Number.NaN : Date.parse(identity.createdAt)
  return {
    systemIdentifier: id,
    createdAtMs: Number.isNaN(createdAtMs) ? undefined : createdAtMs,
    walSegmentSizeBytes: identity?.walSegmentSizeBytes ?? ANY_SEGMENT_BYTES,
    timelines: new Map(),
    others: [],
  }
}

async function findIdentity(storage: Storage, cluster: string, id: string) {
  try {
    return await findSystemIdentity(storage, cluster, id)
  } catch (error) {
    if (!isFailure(error, 'TM1601')) throw error
    return undefined
  }
}

function collect(system: CollectedSystem, key: string, sizeBytes: number, skip: number): void {
  const size = system.walSegmentSizeBytes
  const name = parseSegmentKey(key)
  const segment = name === undefined ? undefined : numberOfSegment(name, size)
  if (name !== undefined && segment !== undefined) {
    const timeline = timelineOf(system, Number.parseInt(name.slice(0, 8), 16))
    timeline.segments.push(segment)
    timeline.sizes.push(sizeBytes)
    return
  }
  const path = key.slice(skip)
  const ofHistory = parseHistoryFileName(path)
  if (ofHistory !== undefined) timelineOf(system, ofHistory).hasHistory = true
  system.others.push({ key, sizeBytes, ...describeOther(path, size) })
}

function timelineOf(system: CollectedSystem, timeline: number) {
  const known = system.timelines.get(timeline)
  if (known !== undefined) return known
  const created = { hasHistory: false, segments: [], sizes: [] }
  system.timelines.set(timeline, created)
  return created
}

/** `path`: the key below the prefix of the system's WAL. */
function describeOther(path: string, size: number): Pick<OtherWal, 'kind' | 'segment'> {
  const tail = path.startsWith('tails/') ? parseTailName(path.slice(6)) : undefined
  if (tail !== undefined) return { kind: 'tail', segment: numberOfSegment(tail.segment, size) }
  const numbered = /^(writers|reserved)\/[0-9A-F]{8}\.(?:writer|reserved)$/.exec(path)?.[1]
  if (numbered !== undefined) {
    return { kind: numbered === 'writers' ? 'writer' : 'reservation', segment: undefined }
  }
  if (parseGapKey(`/${path}`) !== undefined) return { kind: 'gap', segment: undefined }
  const mark = parseBreakKey(`/${path}`)
  if (mark !== undefined) return { kind: 'break', segment: Number(segmentNumber(mark.lsn, size)) }
  const [, folder, name = ''] = /^(?:(labels|partial|quarantine)\/)?([^/]+)$/.exec(path) ?? []
  const segment = numberOfSegment(name.slice(0, 24), size)
  if (folder === undefined) {
    const isHistory = parseHistoryFileName(path) !== undefined
    return { kind: isHistory ? 'history' : 'stranger', segment: undefined }
  }
  if (folder === 'labels') return { kind: 'label', segment }
  return { kind: folder === 'partial' ? 'partial' : 'quarantine', segment }
}

/** A listing is in the order of keys, so that the segments of a timeline ascend. */
async function summarize(
  storage: Storage,
  cluster: string,
  system: CollectedSystem,
): Promise<SystemFacts> {
  const { systemIdentifier, createdAtMs, walSegmentSizeBytes } = system
  const others = await nameBackups(storage, { cluster, systemIdentifier }, system.others)
  const timelines: TimelineFacts[] = []
  for (const [timeline, found] of [...system.timelines].sort(([a], [b]) => a - b)) {
    const { segments, sizes, hasHistory } = found
    const history = hasHistory
      ? await readHistory(storage, cluster, systemIdentifier, timeline)
      : 'none'
    timelines.push({ timeline, history, segments, sizes, lastMomentMs: undefined })
  }
  return { systemIdentifier, createdAtMs, walSegmentSizeBytes, timelines, others }
}

/** Reservations are few, and each tells which backup was restored. */
async function nameBackups(
  storage: Storage,
  place: WalPlace,
  others: readonly OtherWal[],
): Promise<OtherWal[]> {
  const named: OtherWal[] = []
  for (const other of others) {
    const name = other.key.slice(other.key.lastIndexOf('/') + 1)
    const timeline = other.kind === 'reservation' ? parseTimelineName(name) : undefined
    if (timeline === undefined) named.push(other)
    else {
      const found = await findReservation(storage, place, timeline)
      named.push({ ...other, backupId: typeof found === 'object' ? found.backup : undefined })
    }
  }
  return named
}

async function readHistory(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  timeline: number,
): Promise<TimelineFacts['history']> {
  try {
    return (await findArchivedHistory(storage, cluster, systemIdentifier, timeline)) ?? 'none'
  } catch (error) {
    if (isFailure(error, 'TM1601') || isFailure(error, 'TM1410')) return 'unreadable'
    throw error
  }
}
