/**
 * Pins and labels that a person gives to a backup or a dump that is there already: small objects
 * beside its record, which never changes (docs/design/repository-format.md, section 11).
 *
 * Invariant: a pin that cannot be read pins. A pin is only acknowledged when no expiry has
 * condemned what it is of: it is written, and then condemned sets are listed, as holds are.
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupRecord } from './backup-record.ts'
import { readCondemned } from './condemned-sets.ts'
import type { DumpRecord } from './dump-record.ts'
import {
  backupKey,
  dumpKey,
  dumpLabelsKey,
  dumpMarkPrefix,
  dumpPinKey,
  labelsKey,
  labelsPrefix,
  parseDumpMarkKey,
  parseMarkKey,
  pinKey,
  pinPrefix,
} from './keys.ts'
import { decodeSmallObject, encodeSmallObject } from './small-object.ts'

export interface Marks {
  /** By id. */
  readonly pins: ReadonlyMap<string, boolean>
  /** By id; null takes a label away that the record has. */
  readonly labels: ReadonlyMap<string, LabelChanges>
  /** `id`: of the backup or the dump. */
  readonly keys: readonly { readonly key: string; readonly id: string }[]
  /** Keys. */
  readonly unreadable: readonly string[]
}

export type LabelChanges = Readonly<Record<string, string | null>>

/** Where marks of one kind lie. */
interface MarkPlace {
  readonly what: 'backup' | 'dump'
  prefixes(cluster: string): readonly string[]
  parse(key: string): string | undefined
  recordKey(cluster: string, id: string): string
  pinKey(cluster: string, id: string): string
  labelsKey(cluster: string, id: string): string
}

const OF_BACKUPS: MarkPlace = {
  what: 'backup',
  prefixes: (cluster) => [pinPrefix(cluster), labelsPrefix(cluster)],
  parse: parseMarkKey,
  recordKey: backupKey,
  pinKey,
  labelsKey,
}

const OF_DUMPS: MarkPlace = {
  what: 'dump',
  prefixes: (cluster) => [dumpMarkPrefix(cluster)],
  parse: parseDumpMarkKey,
  recordKey: dumpKey,
  pinKey: dumpPinKey,
  labelsKey: dumpLabelsKey,
}

/** Those of backups. */
export async function readMarks(storage: Storage, cluster: string): Promise<Marks> {
  return await readAll(storage, cluster, OF_BACKUPS)
}

export async function readDumpMarks(storage: Storage, cluster: string): Promise<Marks> {
  return await readAll(storage, cluster, OF_DUMPS)
}

async function readAll(storage: Storage, cluster: string, place: MarkPlace): Promise<Marks> {
  const pins = new Map<string, boolean>()
  const labels = new Map<string, LabelChanges>()
  const keys: { key: string; id: string }[] = []
  const unreadable: string[] = []
  for (const prefix of place.prefixes(cluster)) {
    for await (const { key } of storage.list(prefix)) {
      const id = place.parse(key)
      if (id === undefined) continue
      keys.push({ key, id })
      try {
        const mark = await readMark(storage, key)
        if (mark?.pinned !== undefined) pins.set(id, mark.pinned)
        if (mark?.labels !== undefined) labels.set(id, mark.labels)
      } catch (error) {
        if (!isFailure(error, 'TM1601')) throw error
        unreadable.push(key)
        if (key === place.pinKey(cluster, id)) pins.set(id, true)
      }
    }
  }
  return { pins, labels, keys, unreadable }
}

interface StoredMark {
  readonly pinned?: boolean
  readonly labels?: LabelChanges
}

async function readMark(storage: Storage, key: string): Promise<StoredMark | undefined> {
  const bytes = await storage.read(key)
  return bytes === undefined ? undefined : decodeSmallObject(key, 'MARK', bytes)
}

/** The record as it counts now: pinned or not, with its present labels. Pure. */
export function applyMarks(record: BackupRecord, { pins, labels }: Marks): BackupRecord {
  const changes = labels.get(record.id)
  const pinned = pins.get(record.id) ?? record.pinned
  if (changes === undefined) return pinned === record.pinned ? record : { ...record, pinned }
  return { ...record, pinned, labels: changeLabels(record.labels, changes) }
}

export interface MarkedDump {
  /** With its present labels. */
  readonly record: DumpRecord
  readonly isPinned: boolean
}

/** Pure. The record of a dump says nothing of a pin. */
export function applyDumpMarks(record: DumpRecord, { pins, labels }: Marks): MarkedDump {
  const changed = changeLabels(record.labels, labels.get(record.id) ?? {})
  return { record: { ...record, labels: changed }, isPinned: pins.get(record.id) ?? false }
}

function changeLabels(
  labels: Readonly<Record<string, string>>,
  changes: LabelChanges,
): Record<string, string> {
  const now: Record<string, string> = { ...labels }
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) delete now[key]
    else now[key] = value
  }
  return now
}

interface Marked {
  readonly cluster: string
  readonly id: string
}

/** TM1904 when the backup is expiring. */
export async function pinBackup(storage: Storage, record: Marked): Promise<void> {
  await pin(storage, record, OF_BACKUPS)
}

/** TM1904 when the dump is expiring. */
export async function pinDump(storage: Storage, record: Marked): Promise<void> {
  await pin(storage, record, OF_DUMPS)
}

async function pin(storage: Storage, { cluster, id }: Marked, place: MarkPlace): Promise<void> {
  const key = place.pinKey(cluster, id)
  const record = place.recordKey(cluster, id)
  await storage.write(key, encodeMark({ pinned: true }))
  const condemned = await readCondemned(storage, cluster)
  const isThere = (await storage.size(record)) !== undefined
  if (isThere && !condemned.hasKey(record)) return
  if (!isThere) await storage.remove(key)
  throw new Failure('TM1904', {
    message: `the ${place.what} ${id} cannot be pinned in ${storage.url}`,
    because: isThere ? 'an expiry is removing it, or has just been stopped' : 'it has just expired',
    fix: isThere
      ? `run tidemark expire ${cluster} --apply, then look whether it is there: tidemark list`
      : `pin another one: tidemark list ${cluster}`,
    details: { [place.what]: id },
  })
}

export async function unpinBackup(storage: Storage, record: BackupRecord): Promise<void> {
  const key = pinKey(record.cluster, record.id)
  if (record.pinned) await storage.write(key, encodeMark({ pinned: false }))
  else await storage.remove(key)
}

export async function unpinDump(storage: Storage, { cluster, id }: Marked): Promise<void> {
  await storage.remove(dumpPinKey(cluster, id))
}

/** Adds to what was changed before. Of two that write at once the later one counts. */
export async function labelBackup(
  storage: Storage,
  { cluster, id }: Marked,
  changes: LabelChanges,
): Promise<void> {
  await changeMark(storage, labelsKey(cluster, id), changes)
}

export async function labelDump(
  storage: Storage,
  { cluster, id }: Marked,
  changes: LabelChanges,
): Promise<void> {
  await changeMark(storage, dumpLabelsKey(cluster, id), changes)
}

async function changeMark(storage: Storage, key: string, changes: LabelChanges): Promise<void> {
  const before = (await readMark(storage, key))?.labels ?? {}
  await storage.write(key, encodeMark({ labels: { ...before, ...changes } }))
}

function encodeMark(mark: StoredMark): Uint8Array {
  return encodeSmallObject('MARK', mark)
}
