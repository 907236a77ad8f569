/**
 * Reads backup records. Order is by lineage and time of the server, never by name.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { parseLsn } from '../postgres/lsn.ts'
import { readProved } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupRecord } from './backup-record.ts'
import { damagedObject, decodeEnvelope } from './envelope.ts'
import { backupKey, backupPrefix, isBackupId, parseBackupKey } from './keys.ts'

export interface BackupList {
  /** Oldest first, by the server's stop time, then by stop LSN. */
  readonly backups: readonly BackupRecord[]
  /** Records that are there and cannot be read. */
  readonly damaged: readonly { readonly backupId: string; readonly failure: Failure }[]
}

/** All backups of a cluster name, whatever their system identifier. */
export async function listBackups(storage: Storage, cluster: string): Promise<BackupList> {
  const backups: BackupRecord[] = []
  const damaged: { backupId: string; failure: Failure }[] = []
  for await (const { key } of storage.list(backupPrefix(cluster))) {
    const backupId = parseBackupKey(key)
    if (backupId === undefined) continue
    try {
      const record = await findBackup(storage, cluster, backupId)
      if (record !== undefined) backups.push(record)
    } catch (error) {
      if (!isFailure(error, 'TM1601')) throw error
      damaged.push({ backupId, failure: error })
    }
  }
  return { backups: backups.sort(byStop), damaged }
}

/** One backup; TM1505 when there is none of that id. */
export async function readBackup(
  storage: Storage,
  cluster: string,
  backupId: string,
): Promise<BackupRecord> {
  const record = await findBackup(storage, cluster, backupId)
  if (record !== undefined) return record
  throw new Failure('TM1505', {
    message: `there is no backup ${backupId} of ${cluster}`,
    because: `${storage.url} holds no record of that id`,
    fix: `tidemark list ${cluster}`,
  })
}

async function findBackup(
  storage: Storage,
  cluster: string,
  backupId: string,
): Promise<BackupRecord | undefined> {
  if (!isBackupId(backupId)) return undefined
  const key = backupKey(cluster, backupId)
  return await readProved(storage, key, (bytes) => {
    const record = parseBackupRecord(key, decodeEnvelope(key, 'RECD', bytes))
    if (record.id === backupId && record.cluster === cluster) return record
    throw damagedObject(key, `it is the record of backup ${record.id} of ${record.cluster}`)
  })
}

/** The hash of the envelope holds, so only a foreign or newer writer can make this fail. */
function parseBackupRecord(key: string, raw: Uint8Array): BackupRecord {
  let record: BackupRecord
  try {
    record = JSON.parse(Buffer.from(raw).toString('utf8')) as BackupRecord
  } catch (cause) {
    throw damagedObject(key, 'its content is not JSON', cause)
  }
  if (record.format !== 1) {
    throw new Failure('TM1504', {
      message: `the backup record ${key} has format ${record.format}`,
      because: 'this version of Tidemark reads format 1',
      fix: 'use the version of Tidemark that wrote it, or a later one',
    })
  }
  if (parseLsn(record.startLsn) === undefined || parseLsn(record.stopLsn) === undefined) {
    throw damagedObject(key, 'its LSNs cannot be read')
  }
  return record
}

function byStop(a: BackupRecord, b: BackupRecord): number {
  if (a.stoppedAt !== b.stoppedAt) return a.stoppedAt < b.stoppedAt ? -1 : 1
  const left = parseLsn(a.stopLsn) ?? 0n
  const right = parseLsn(b.stopLsn) ?? 0n
  return left < right ? -1 : left > right ? 1 : 0
}
