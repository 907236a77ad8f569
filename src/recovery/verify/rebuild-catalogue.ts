/**
 * Writes backup records again from their copies in the packs, where a record is missing or
 * damaged. A record that can be read is never touched.
 *
 * Invariants: a missing record is created only where all packs that it names are. A backup that
 * expired stays so: expiry writes its condemned set before it removes a record, and takes the
 * copy out of its pack before the set goes, so that a copy which is still there after no set was
 * found is that of a record that was lost. A hold comes first, so that no expiry takes the packs
 * for garbage meanwhile.
 *
 * Order: the damaged bytes are kept beside it, then the record is replaced; a crash in
 * between leaves the damaged record, and the next run does the same again.
 */
import { now } from '../../base/clock.ts'
import { isFailure } from '../../base/failure.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import { decodeEnvelope, encodeEnvelope } from '../../repository/envelope.ts'
import { readHolder, removeHold, takeHold } from '../../repository/holds.ts'
import { backupKey, holdKey, isBackupId, makeBackupId, packKey } from '../../repository/keys.ts'
import { FRAME_KINDS } from '../../repository/pack-format.ts'
import { openPack, type PackReader } from '../../repository/pack-reader.ts'
import { listPacks } from '../../repository/write-backup.ts'
import { type PerhapsDamaged, readPerhapsDamaged } from '../../storage/read-damaged.ts'
import type { Storage } from '../../storage/storage.ts'
import { isDamage } from './prove-pack.ts'

export interface RebuiltRecord {
  readonly backupId: string
  readonly key: string
  readonly was: 'missing' | 'damaged'
}

/**
 * Holds are respected: a backup under way publishes its record itself. `onNote` hears of what
 * could not be written again.
 */
export async function rebuildCatalogue(
  storage: Storage,
  cluster: string,
  signal: AbortSignal,
  onNote: (note: string) => void = () => {},
): Promise<RebuiltRecord[]> {
  const rebuilt: RebuiltRecord[] = []
  for (const pack of (await listPacks(storage, cluster)).keys()) {
    signal.throwIfAborted()
    const reader = await tryOpen(storage, cluster, pack)
    for (const [ordinal, { kind }] of (reader?.frames ?? []).entries()) {
      if (kind !== FRAME_KINDS.record || reader?.holdsFrame(ordinal) !== true) continue
      const raw = await tryRead(reader, ordinal)
      const copy = raw === undefined ? undefined : parseCopy(raw)
      if (copy === undefined || copy.cluster !== cluster || !isBackupId(copy.id)) continue
      const record = await rebuild(storage, copy, pack, onNote)
      if (record !== undefined) rebuilt.push(record)
    }
  }
  return rebuilt
}

interface RecordCopy {
  readonly raw: Uint8Array
  readonly id: string
  readonly cluster: string
  readonly packs: readonly string[]
}

function parseCopy(raw: Uint8Array): RecordCopy {
  const { id, cluster, packs } = JSON.parse(Buffer.from(raw).toString('utf8')) as BackupRecord
  return { raw, id, cluster, packs: packs.map((pack) => pack.id) }
}

async function rebuild(
  storage: Storage,
  copy: RecordCopy,
  pack: string,
  onNote: (note: string) => void,
): Promise<RebuiltRecord | undefined> {
  const { id, cluster, raw } = copy
  const key = backupKey(cluster, id)
  const stored = await readPerhapsDamaged(storage, key)
  if (stored === undefined) return await rebuildMissing(storage, copy, pack, onNote)
  if (isSound(key, stored)) return undefined
  await storage.write(`${key}.damaged`, stored.bytes)
  await storage.write(key, encodeEnvelope('RECD', raw))
  return { backupId: id, key, was: 'damaged' }
}

async function rebuildMissing(
  storage: Storage,
  { raw, id, cluster, packs }: RecordCopy,
  pack: string,
  onNote: (note: string) => void,
): Promise<RebuiltRecord | undefined> {
  if ((await storage.size(holdKey(cluster, id))) !== undefined) return undefined
  const key = backupKey(cluster, id)
  const at = now()
  const { hold, condemned } = await takeHold(storage, cluster, {
    id: makeBackupId(at),
    purpose: 'rewrite',
    ...readHolder(),
    startedAt: at.toISOString(),
    needs: [],
    keys: packs.map((each) => packKey(cluster, each)),
  })
  try {
    if (condemned.hasBackup(id) || packs.some((each) => condemned.hasPack(each))) return undefined
    const there = await listPacks(storage, cluster)
    const missing = packs.filter((each) => !there.has(each))
    if (missing.length > 0) {
      onNote(notRebuilt(id, missing.length))
      return undefined
    }
    const reader = await tryOpen(storage, cluster, pack)
    if (reader === undefined || !(await holdsRecord(reader, id))) return undefined
    await storage.write(key, encodeEnvelope('RECD', raw), { createOnly: true })
    return { backupId: id, key, was: 'missing' }
  } finally {
    await removeHold(storage, cluster, hold.id)
  }
}

/** In a repository that was behind there was no such record: another one has what it needs. */
function notRebuilt(id: string, missing: number): string {
  return (
    `the record of backup ${id} is missing and was not written again: ${missing} of the packs ` +
    'that it names are not here (tidemark sync brings it from a repository that has them)'
  )
}

/** True when a copy of the record of that backup lies in the pack. */
export async function holdsRecord(reader: PackReader, backupId: string): Promise<boolean> {
  for (const [ordinal, { kind }] of reader.frames.entries()) {
    if (kind !== FRAME_KINDS.record || !reader.holdsFrame(ordinal)) continue
    const raw = await reader.readFrame(ordinal)
    if (parseCopy(raw).id === backupId) return true
  }
  return false
}

function isSound(key: string, { bytes, damage }: PerhapsDamaged): boolean {
  if (damage !== undefined) return false
  try {
    decodeEnvelope(key, 'RECD', bytes)
    return true
  } catch (error) {
    if (isFailure(error, 'TM1601')) return false
    throw error
  }
}

async function tryOpen(
  storage: Storage,
  cluster: string,
  pack: string,
): Promise<PackReader | undefined> {
  try {
    return await openPack(storage, cluster, pack)
  } catch (error) {
    if (isDamage(error)) return undefined
    throw error
  }
}

async function tryRead(reader: PackReader, ordinal: number): Promise<Uint8Array | undefined> {
  try {
    return await reader.readFrame(ordinal)
  } catch (error) {
    if (isDamage(error)) return undefined
    throw error
  }
}
