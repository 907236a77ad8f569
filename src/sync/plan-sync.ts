/** What a sync has to do, from what both sides hold. Pure. */
import { segmentKey, walPrefix } from '../archive/wal-file-name.ts'
import { formatSegmentName, formatTimeline, parseSegmentName } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { parsePackKey } from '../repository/keys.ts'
import type { ComparedObject } from './compare-listings.ts'
import { type NamedWal, parseObjectKey } from './object-key.ts'

/** Records of one side, as they were read. */
export interface RecordSide {
  readonly records: readonly BackupRecord[]
  /** Ids of records that are there and damaged. */
  readonly damaged: readonly string[]
}

/** What the target's retention would keep of both sides. */
export interface SyncChoice {
  wantsBackup(record: BackupRecord): boolean
  wantsWal(wal: NamedWal): boolean
}

export const EVERYTHING: SyncChoice = { wantsBackup: () => true, wantsWal: () => true }

/**
 * The records that the target lacks or has damaged, the oldest first: the pack that holds the
 * copy of a record is then brought with it, before a later backup that shares the pack.
 */
export function planBackups(
  source: RecordSide,
  target: RecordSide,
  choice: SyncChoice,
): readonly BackupRecord[] {
  const there = new Set(target.records.map(({ id }) => id))
  const damaged = new Set(target.damaged)
  return source.records
    .filter((record) => !there.has(record.id))
    .filter((record) => damaged.has(record.id) || choice.wantsBackup(record))
}

/** The pack that holds the copy of the record: the record cannot state its size. */
export function ownPack({ packs }: BackupRecord): string | undefined {
  return packs.find(({ bytes }) => bytes === undefined)?.id
}

/** Keys of the segments that the backup needs to be consistent. */
export function ownSegments(record: BackupRecord): string[] {
  const { cluster, systemIdentifier, walFirst, walLast, timeline } = record
  const size = record.sizes.walSegmentSizeBytes
  const first = parseSegmentName(walFirst, size)
  const last = parseSegmentName(walLast, size)
  if (first === undefined || last === undefined) return []
  const keys: string[] = []
  for (let segment = first.segment; segment <= last.segment; segment += 1n) {
    const name = formatSegmentName(timeline, segment, size)
    keys.push(segmentKey(cluster, systemIdentifier, name))
  }
  return keys
}

export function ownHistory({ cluster, systemIdentifier, timeline }: BackupRecord): string {
  return `${walPrefix(cluster, systemIdentifier)}${formatTimeline(timeline)}.history`
}

/** `there`, `copy`, `complete` (to be opened and compared), or `absent`: neither has enough. */
export type PackTask = 'there' | 'copy' | 'complete' | 'absent'

export interface NamedPackState {
  /** Size that the records state, where one does. */
  readonly bytes: number | undefined
  /** A record that is to be brought names it. */
  readonly forCopy: boolean
}

/** Packs that count: of records to be brought, and of those that the target has. */
export function namePacks(
  copy: readonly BackupRecord[],
  targetRecords: readonly BackupRecord[],
): Map<string, NamedPackState> {
  const named = new Map<string, NamedPackState>()
  const add = (records: readonly BackupRecord[], forCopy: boolean): void => {
    for (const { packs } of records) {
      for (const { id, bytes } of packs) {
        const known = named.get(id)
        named.set(id, {
          bytes: known?.bytes ?? bytes,
          forCopy: forCopy || known?.forCopy === true,
        })
      }
    }
  }
  add(copy, true)
  add(targetRecords, false)
  return named
}

/**
 * A pack that has the length of its records is whole. One of another length may be sparse,
 * in the target because its own expiry found frames dead: those are wanted again only for a
 * record that is brought.
 */
export function judgePack(
  { bytes, forCopy }: NamedPackState,
  source: number | undefined,
  target: number | undefined,
): PackTask {
  if (target === undefined) return source === undefined ? 'absent' : 'copy'
  if (!forCopy || target === bytes) return 'there'
  return source === undefined ? 'absent' : 'complete'
}

export interface PlannedPack {
  readonly task: PackTask
  /** Of the source's pack. */
  readonly bytes: number
}

export async function planPacks(
  named: ReadonlyMap<string, NamedPackState>,
  listing: AsyncIterable<ComparedObject>,
): Promise<Map<string, PlannedPack>> {
  const planned = new Map<string, PlannedPack>()
  for await (const { key, source, target } of listing) {
    const id = parsePackKey(key)
    const state = id === undefined ? undefined : named.get(id)
    if (id === undefined || state === undefined) continue
    planned.set(id, { task: judgePack(state, source, target), bytes: source ?? 0 })
  }
  return planned
}

export interface PlannedWal extends NamedWal {
  readonly bytes: number
  readonly was: 'missing' | 'other length'
}

export interface WalPlan {
  readonly histories: readonly PlannedWal[]
  /** Of the keys that were asked for, the segments that the target lacks, by key. */
  readonly own: Map<string, PlannedWal>
  /** Of the keys that were asked for, and of all histories, those that the target has. */
  readonly present: ReadonlySet<string>
  /** All that is to be brought. */
  readonly segments: number
  readonly others: number
  readonly bytes: number
}

/**
 * `required`: keys whose presence in the target counts. The other segments are only counted:
 * of an archive of years they are brought as the listings tell of them.
 */
export async function planWal(
  cluster: string,
  required: ReadonlySet<string>,
  choice: SyncChoice,
  listing: AsyncIterable<ComparedObject>,
): Promise<WalPlan> {
  const histories: PlannedWal[] = []
  const own = new Map<string, PlannedWal>()
  const present = new Set<string>()
  let [segments, others, bytes] = [0, 0, 0]
  for await (const object of listing) {
    const { key } = object
    const counts = required.has(key) || key.endsWith('.history')
    if (counts && isThere(object)) present.add(key)
    const wal = findDueWal(cluster, object, counts ? EVERYTHING : choice)
    if (wal === undefined) continue
    bytes += wal.bytes
    if (isSegment(wal)) segments++
    else others++
    if (isHistory(wal)) histories.push(wal)
    else if (required.has(key)) own.set(key, wal)
  }
  return { histories, own, present, segments, others, bytes }
}

function isThere({ source, target }: ComparedObject): boolean {
  return target !== undefined && (source === undefined || source === target)
}

/** Undefined where nothing is to be done. */
export function findDueWal(
  cluster: string,
  object: ComparedObject,
  choice: SyncChoice,
): PlannedWal | undefined {
  const { key, source, target } = object
  if (source === undefined || isThere(object)) return undefined
  const named = parseObjectKey(cluster, key)
  if (named?.kind !== 'wal' || !choice.wantsWal(named)) return undefined
  return { ...named, bytes: source, was: target === undefined ? 'missing' : 'other length' }
}

export function isSegment({ file, folder }: NamedWal): boolean {
  return file.kind === 'segment' && folder === undefined
}

function isHistory({ file, folder }: NamedWal): boolean {
  return file.kind === 'history' && folder === undefined
}
