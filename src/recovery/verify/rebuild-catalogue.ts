/**
 * Writes backup records again from their copies in the packs, where a record is missing or
 * damaged. A record that can be read is never touched.
 *
 * Order: the damaged bytes are kept beside it, then the record is replaced; a crash in
 * between leaves the damaged record, and the next run does the same again.
 */
import { isFailure } from '../../base/failure.ts'
import { decodeEnvelope, encodeEnvelope } from '../../repository/envelope.ts'
import { backupKey, holdKey, isBackupId } from '../../repository/keys.ts'
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

/** Holds are respected: a backup under way publishes its record itself. */
export async function rebuildCatalogue(
  storage: Storage,
  cluster: string,
  signal: AbortSignal,
): Promise<RebuiltRecord[]> {
  const rebuilt: RebuiltRecord[] = []
  for (const pack of (await listPacks(storage, cluster)).keys()) {
    signal.throwIfAborted()
    const reader = await tryOpen(storage, cluster, pack)
    for (const [ordinal, { kind }] of (reader?.frames ?? []).entries()) {
      if (reader === undefined || kind !== FRAME_KINDS.record) continue
      const raw = await tryRead(reader, ordinal)
      const record = raw === undefined ? undefined : await rebuild(storage, cluster, raw)
      if (record !== undefined) rebuilt.push(record)
    }
  }
  return rebuilt
}

async function rebuild(
  storage: Storage,
  cluster: string,
  raw: Uint8Array,
): Promise<RebuiltRecord | undefined> {
  const { id, cluster: named } = JSON.parse(Buffer.from(raw).toString('utf8')) as {
    id: string
    cluster: string
  }
  if (!isBackupId(id) || named !== cluster) return undefined
  const key = backupKey(cluster, id)
  const stored = await readPerhapsDamaged(storage, key)
  if (stored === undefined) {
    if ((await storage.size(holdKey(cluster, id))) !== undefined) return undefined
    await storage.write(key, encodeEnvelope('RECD', raw), { createOnly: true })
    return { backupId: id, key, was: 'missing' }
  }
  if (isSound(key, stored)) return undefined
  await storage.write(`${key}.damaged`, stored.bytes)
  await storage.write(key, encodeEnvelope('RECD', raw))
  return { backupId: id, key, was: 'damaged' }
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
