/**
 * Reads backup records. Order is by lineage and time of the server, never by name.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { parseLsn } from '../postgres/lsn.ts'
import { readProved } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupRecord, FileListPieceReference, NamedPack } from './backup-record.ts'
import { damagedObject, decodeEnvelope } from './envelope.ts'
import { backupKey, backupPrefix, isBackupId, parseBackupKey } from './keys.ts'

export interface BackupList {
  /** Oldest first, by the server's stop time, then by stop LSN. */
  readonly backups: readonly BackupRecord[]
  /** Records that are there and cannot be read. */
  readonly damaged: readonly { readonly backupId: string; readonly failure: Failure }[]
}

/** An object store answers one request in tens of milliseconds, and sixteen in as many. */
const READ_AT_ONCE = 16

/**
 * All backups of a cluster name, whatever their system identifier. Requests: one listing,
 * and one read for each record.
 */
export async function listBackups(storage: Storage, cluster: string): Promise<BackupList> {
  const backupIds: string[] = []
  for await (const { key } of storage.list(backupPrefix(cluster))) {
    const backupId = parseBackupKey(key)
    if (backupId !== undefined) backupIds.push(backupId)
  }
  const sharing = new PartSharing()
  const found = new Array<BackupRecord | undefined>(backupIds.length)
  const damaged: { backupId: string; failure: Failure }[] = []
  const remaining = backupIds.entries()
  const readOn = async (): Promise<void> => {
    for (const [number, backupId] of remaining) {
      try {
        const record = await findBackup(storage, cluster, backupId)
        if (record !== undefined) found[number] = sharing.share(record)
      } catch (error) {
        if (!isFailure(error, 'TM1601')) throw error
        damaged.push({ backupId, failure: error })
      }
    }
  }
  await Promise.all(Array.from({ length: READ_AT_ONCE }, readOn))
  damaged.sort((a, b) => (a.backupId < b.backupId ? -1 : 1))
  const backups = found.filter((record) => record !== undefined)
  return { backups: backups.sort(byStop), damaged }
}

/**
 * Neighbours name almost the same packs and pieces of the file list: what is equal is kept
 * once, so that hundreds of records take little more memory than what they differ in.
 */
class PartSharing {
  readonly #packs = new Map<string, NamedPack>()
  readonly #pieces = new Map<string, Map<number, FileListPieceReference>>()

  share(record: BackupRecord): BackupRecord {
    const packs = record.packs.map((pack) => this.#sharePack(pack))
    const pieces = record.files.pieces.map((piece) => this.#sharePiece(piece))
    return { ...record, packs, files: { ...record.files, pieces } }
  }

  #sharePack(pack: NamedPack): NamedPack {
    const known = this.#packs.get(pack.id)
    if (known !== undefined && isSame(known, pack)) return known
    this.#packs.set(pack.id, pack)
    return pack
  }

  #sharePiece(piece: FileListPieceReference): FileListPieceReference {
    let ofPack = this.#pieces.get(piece.pack)
    if (ofPack === undefined) {
      ofPack = new Map()
      this.#pieces.set(piece.pack, ofPack)
    }
    const known = ofPack.get(piece.frame)
    if (known !== undefined && isSame(known, piece)) return known
    ofPack.set(piece.frame, piece)
    return piece
  }
}

/** Every field, those of later versions too. */
function isSame(one: object, other: object): boolean {
  const left = one as Record<string, unknown>
  const right = other as Record<string, unknown>
  let fields = 0
  for (const name in right) {
    if (left[name] !== right[name]) return false
    fields++
  }
  for (const _ in left) fields--
  return fields === 0
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
