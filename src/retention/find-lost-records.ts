/**
 * Backups whose records were lost, and not expired: a copy of the record lies in a pack that no
 * record names, and neither a hold nor a condemned set names the backup.
 */
import { isFailure } from '../base/failure.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { attemptOfPack, backupKey, holdKey, packKey } from '../repository/keys.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import { openPack } from '../repository/pack-reader.ts'
import type { Storage } from '../storage/storage.ts'
import type { ExpirationFacts } from './facts.ts'
import { PackSet } from './pack-table.ts'

/** Opens packs that no record names and no hold keeps: there are few. */
export async function addLostRecords(
  storage: Storage,
  facts: ExpirationFacts,
): Promise<ExpirationFacts> {
  const named = new PackSet()
  for (const { packs } of facts.backups) named.addAll(packs)
  const attempts = new Set(facts.holds.map(({ attemptId }) => attemptId))
  const keys = new Set(facts.holds.flatMap((hold) => hold.keys ?? []))
  const lost = new Set<string>()
  for (const { number, id } of facts.packs.stored()) {
    if (named.has(number) || attempts.has(attemptOfPack(id))) continue
    if (keys.has(packKey(facts.cluster, id))) continue
    for (const backup of await listRecords(storage, facts.cluster, id)) {
      if (!isKnown(facts, backup) && !(await hasCome(storage, facts.cluster, backup))) {
        lost.add(backup)
      }
    }
  }
  return { ...facts, lostRecords: [...lost] }
}

function isKnown({ backups, expiredBefore, condemnedElsewhere }: ExpirationFacts, id: string) {
  if (expiredBefore.has(id) || condemnedElsewhere.has(id)) return true
  return backups.some((backup) => backup.id === id)
}

/** It began after holds were listed, or ended after records were. */
async function hasCome(storage: Storage, cluster: string, backupId: string): Promise<boolean> {
  if ((await storage.size(holdKey(cluster, backupId))) !== undefined) return true
  return (await storage.size(backupKey(cluster, backupId))) !== undefined
}

/** Ids of the backups whose records lie in the pack; what cannot be read holds none. */
async function listRecords(storage: Storage, cluster: string, packId: string): Promise<string[]> {
  try {
    const pack = await openPack(storage, cluster, packId)
    const ids: string[] = []
    for (const [ordinal, { kind }] of pack.frames.entries()) {
      if (kind !== FRAME_KINDS.record || !pack.holdsFrame(ordinal)) continue
      const raw = await pack.readFrame(ordinal)
      ids.push((JSON.parse(Buffer.from(raw).toString('utf8')) as BackupRecord).id)
    }
    return ids
  } catch (error) {
    if (isFailure(error, 'TM1601') || isFailure(error, 'TM1602')) return []
    throw error
  }
}
