/**
 * Pins and labels that a person gives to a backup that is there already: small objects beside
 * its record, which never changes (docs/design/repository-format.md, section 11).
 *
 * Invariant: a pin that cannot be read pins. A pin is only acknowledged when no expiry has
 * condemned its backup: it is written, and then condemned sets are listed, as holds are.
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupRecord } from './backup-record.ts'
import { readCondemned } from './condemned-sets.ts'
import { backupKey, labelsKey, labelsPrefix, parseMarkKey, pinKey, pinPrefix } from './keys.ts'
import { decodeSmallObject, encodeSmallObject } from './small-object.ts'

export interface Marks {
  /** By backup id. */
  readonly pins: ReadonlyMap<string, boolean>
  /** By backup id; null takes a label away that the record has. */
  readonly labels: ReadonlyMap<string, LabelChanges>
  readonly keys: readonly { readonly key: string; readonly backupId: string }[]
  /** Keys. */
  readonly unreadable: readonly string[]
}

export type LabelChanges = Readonly<Record<string, string | null>>

export async function readMarks(storage: Storage, cluster: string): Promise<Marks> {
  const pins = new Map<string, boolean>()
  const labels = new Map<string, LabelChanges>()
  const keys: { key: string; backupId: string }[] = []
  const unreadable: string[] = []
  for (const prefix of [pinPrefix(cluster), labelsPrefix(cluster)]) {
    for await (const { key } of storage.list(prefix)) {
      const backupId = parseMarkKey(key)
      if (backupId === undefined) continue
      keys.push({ key, backupId })
      try {
        const mark = await readMark(storage, key)
        if (mark?.pinned !== undefined) pins.set(backupId, mark.pinned)
        if (mark?.labels !== undefined) labels.set(backupId, mark.labels)
      } catch (error) {
        if (!isFailure(error, 'TM1601')) throw error
        unreadable.push(key)
        if (prefix === pinPrefix(cluster)) pins.set(backupId, true)
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
  const now: Record<string, string> = { ...record.labels }
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) delete now[key]
    else now[key] = value
  }
  return { ...record, pinned, labels: now }
}

/** TM1904 when the backup is expiring. */
export async function pinBackup(storage: Storage, record: BackupRecord): Promise<void> {
  const { cluster, id } = record
  const key = pinKey(cluster, id)
  await storage.write(key, encodeMark({ pinned: true }))
  const condemned = await readCondemned(storage, cluster)
  const isThere = (await storage.size(backupKey(cluster, id))) !== undefined
  if (isThere && !condemned.hasBackup(id)) return
  if (!isThere) await storage.remove(key)
  throw new Failure('TM1904', {
    message: `the backup ${id} cannot be pinned in ${storage.url}`,
    because: isThere ? 'an expiry is removing it, or has just been stopped' : 'it has just expired',
    fix: isThere
      ? `run tidemark expire ${cluster} --apply, then look whether it is there: tidemark list`
      : `pin another one: tidemark list ${cluster}`,
    details: { backup: id },
  })
}

export async function unpinBackup(storage: Storage, record: BackupRecord): Promise<void> {
  const key = pinKey(record.cluster, record.id)
  if (record.pinned) await storage.write(key, encodeMark({ pinned: false }))
  else await storage.remove(key)
}

/** Adds to what was changed before. Of two that write at once the later one counts. */
export async function labelBackup(
  storage: Storage,
  record: BackupRecord,
  changes: LabelChanges,
): Promise<void> {
  const key = labelsKey(record.cluster, record.id)
  const before = (await readMark(storage, key))?.labels ?? {}
  await storage.write(key, encodeMark({ labels: { ...before, ...changes } }))
}

function encodeMark(mark: StoredMark): Uint8Array {
  return encodeSmallObject('MARK', mark)
}
