/**
 * The small objects, proved in every run: the repository's identity, those of the servers,
 * backup records and holds.
 */
import { Failure, isFailure } from '../../base/failure.ts'
import { damagedObject, decodeEnvelope, missingObject } from '../../repository/envelope.ts'
import { backupKey, packKey, REPOSITORY_KEY } from '../../repository/keys.ts'
import type { BackupList } from '../../repository/read-backups.ts'
import { openRepository } from '../../repository/repository.ts'
import {
  findSystemIdentity,
  type SystemIdentity,
  systemKey,
} from '../../repository/system-identity.ts'
import { openPack } from '../../repository/pack-reader.ts'
import type { Storage } from '../../storage/storage.ts'
import { isDamage } from './prove-pack.ts'
import { holdsRecord } from './rebuild-catalogue.ts'
import { missesRecord } from './verify-packs.ts'
import { addFailure, countObject, type VerifyState } from './verify-state.ts'

/**
 * No hash covers it, so that it must be exactly what was written in form; TM1503 and TM1504
 * are no findings: nothing can be looked at.
 */
export async function verifyRepositoryIdentity(state: VerifyState): Promise<void> {
  const { storage } = state
  try {
    const { isEncrypted } = await openRepository(storage)
    const bytes = (await storage.read(REPOSITORY_KEY)) ?? new Uint8Array(0)
    const fields = { format: isOne, repositoryId: /^[0-9a-f]{32}$/, createdAt: ISO_TIME }
    const members = isEncrypted ? { ...fields, encryption: isOne } : fields
    const problem = judgeForm(bytes, members)
    if (problem !== undefined) throw damagedObject(REPOSITORY_KEY, problem)
    countObject(state, REPOSITORY_KEY, bytes.length)
  } catch (error) {
    if (!isFailure(error, 'TM1601')) throw error
    addFailure(state, REPOSITORY_KEY, error)
  }
}

const ISO_TIME = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z)?$/
const isOne = /^1$/

/** Pure: the members in their order, and nothing besides. */
export function judgeForm(
  bytes: Uint8Array,
  fields: Readonly<Record<string, RegExp>>,
): string | undefined {
  const text = Buffer.from(bytes).toString('utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return 'it is not JSON'
  }
  if (typeof value !== 'object' || value === null) return 'it is not a JSON object'
  const members = Object.entries(value)
  const known = Object.keys(fields)
  if (members.map(([name]) => name).join() !== known.join()) return `its members are not ${known}`
  for (const [name, content] of members) {
    if (!fields[name]?.test(String(content))) return `its ${name} cannot be ${String(content)}`
    if (name.endsWith('At') && content !== '' && Number.isNaN(Date.parse(String(content)))) {
      return `its ${name} is no time`
    }
  }
  return text.replace(/\n$/, '') === JSON.stringify(value) ? undefined : 'it has bytes besides'
}

/** The servers whose WAL can be looked at. */
export async function verifySystems(state: VerifyState): Promise<SystemIdentity[]> {
  const { storage, cluster, inventory, backups, chosen, isOneBackup } = state
  const known = isOneBackup
    ? []
    : inventory.identities.map((key) => /(\d+)\.json$/.exec(key)?.[1] as string)
  const withWal = isOneBackup ? [] : inventory.systems
  const needed = [...withWal, ...chosen.map((one) => one.systemIdentifier)]
  const identities: SystemIdentity[] = []
  for (const system of new Set([...known, ...needed])) {
    const key = systemKey(cluster, system)
    try {
      const identity = await findSystemIdentity(storage, cluster, system)
      if (identity === undefined) throw missingObject(key, `the WAL archive of server ${system}`)
      await requireSound(state, key, identity)
      identities.push(identity)
      countObject(state, key, inventory.sizes.get(key) ?? 0)
    } catch (error) {
      if (!isDamage(error)) throw error
      const own = backups.filter((backup) => backup.systemIdentifier === system)
      const finding = addFailure(state, key, mendIdentity(error, own[0]?.server.major))
      for (const { id } of own) finding.backups.add(id)
    }
  }
  return identities
}

async function requireSound(
  { storage, backups }: VerifyState,
  key: string,
  identity: SystemIdentity,
): Promise<void> {
  const bytes = (await storage.read(key)) ?? new Uint8Array(0)
  const fields = {
    systemIdentifier: /^\d{1,20}$/,
    major: /^\d{2,3}$/,
    walSegmentSizeBytes: /^\d{7,10}$/,
    createdAt: ISO_TIME,
  }
  const problem = judgeForm(bytes, fields)
  if (problem !== undefined) throw damagedObject(key, problem)
  for (const { systemIdentifier, server, sizes, id } of backups) {
    if (systemIdentifier !== identity.systemIdentifier) continue
    const { major, walSegmentSizeBytes } = identity
    if (server.major === major && sizes.walSegmentSizeBytes === walSegmentSizeBytes) continue
    throw damagedObject(
      key,
      `it says PostgreSQL ${major} with segments of ${walSegmentSizeBytes} bytes, backup ${id} ` +
        `PostgreSQL ${server.major} with ${sizes.walSegmentSizeBytes}`,
    )
  }
}

/** What is damaged is removed first; the next backup writes it anew. */
function mendIdentity(failure: Failure, major: number | undefined): Failure {
  const server = major === undefined ? 'the server' : `the server (PostgreSQL ${major})`
  return new Failure(failure.code, {
    message: failure.message,
    ...(failure.because === undefined ? {} : { because: failure.because }),
    fix: `remove the object if it is there, then introduce ${server} again: tidemark init, or tidemark backup`,
    cause: failure,
  })
}

/** The readable ones were proved by reading them. */
export async function verifyRecords(state: VerifyState, { damaged }: BackupList): Promise<void> {
  const { cluster, inventory, memory, chosen, wantedBackup } = state
  for (const { id } of chosen) {
    const key = backupKey(cluster, id)
    const size = inventory.sizes.get(key)
    if (size !== undefined) countObject(state, key, size)
  }
  for (const { backupId, failure } of damaged) {
    if (wantedBackup !== undefined && wantedBackup !== backupId) continue
    const key = backupKey(cluster, backupId)
    const finding = addFailure(state, key, rebuildable(failure, cluster))
    finding.backups.add(backupId)
  }
  if (wantedBackup !== undefined) return
  const present = new Set(inventory.records)
  for (const [id, { recordPack }] of memory.backups) {
    if (present.has(backupKey(cluster, id))) continue
    if (await isMissed(state, id, recordPack)) missesRecord(state, id, packKey(cluster, recordPack))
    else memory.backups.delete(id)
  }
}

/** Expiry takes the copy of the record out of its pack, so a copy that is there is witness. */
async function isMissed(
  { storage, cluster, inventory, condemned }: VerifyState,
  backupId: string,
  recordPack: string,
): Promise<boolean> {
  if (!inventory.packs.has(recordPack) || condemned.hasBackup(backupId)) return false
  try {
    return await holdsRecord(await openPack(storage, cluster, recordPack), backupId)
  } catch (error) {
    if (!isDamage(error)) throw error
    return true
  }
}

function rebuildable(failure: Failure, cluster: string): Failure {
  return new Failure(failure.code, {
    message: failure.message,
    ...(failure.because === undefined ? {} : { because: failure.because }),
    fix: `write it again from the packs: tidemark verify ${cluster} --rebuild-catalogue`,
    cause: failure,
  })
}

export async function verifyHolds(state: VerifyState): Promise<void> {
  const { storage, inventory, isOneBackup } = state
  if (isOneBackup) return
  for (const key of inventory.holds) await verifyHold(state, storage, key)
}

/** One that is gone by now belonged to a backup that has ended. */
async function verifyHold(state: VerifyState, storage: Storage, key: string): Promise<void> {
  try {
    const bytes = await storage.read(key)
    if (bytes === undefined) return
    JSON.parse(Buffer.from(decodeEnvelope(key, 'HOLD', bytes)).toString('utf8'))
    countObject(state, key, bytes.length)
  } catch (error) {
    if (!isDamage(error)) throw error
    addFailure(
      state,
      key,
      new Failure('TM1601', {
        message: error.message,
        ...(error.because === undefined ? {} : { because: error.because }),
        fix: 'no backup needs it; once no backup is under way, remove the object',
        cause: error,
      }),
    )
  }
}
