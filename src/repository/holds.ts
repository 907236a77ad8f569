/**
 * Holds: what a writer (and a restore) writes first, so that no expiry takes away what it
 * needs, and so that the next run on the same host can clean up after a dead one.
 *
 * Invariant: a hold is written before anything that it protects is looked at, and condemned
 * sets are listed after it was written: takeHold() keeps that order. Packs of an attempt are
 * removed only while its hold is there, its writer is proved dead, and no record of that
 * backup exists.
 */
import { hostname } from 'node:os'
import { isFailure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import {
  formatProcessIdentity,
  judgeLiveness,
  type Liveness,
  lookUpStartTicks,
  parseProcessIdentity,
  readProcessIdentity,
} from '../storage/process-identity.ts'
import type { Storage } from '../storage/storage.ts'
import { type Condemned, readCondemned, writeCondemnedSet } from './condemned-sets.ts'
import { damagedObject, decodeEnvelope, encodeEnvelope } from './envelope.ts'
import {
  attemptPrefix,
  backupKey,
  dumpAttemptPrefix,
  dumpKey,
  dumpPackKey,
  holdKey,
  holdPrefix,
  isBackupId,
  packKey,
  parseDumpPackKey,
  parsePackKey,
} from './keys.ts'

const PURPOSES = ['backup', 'dump', 'restore', 'sync', 'rewrite'] as const

export type HoldPurpose = (typeof PURPOSES)[number]

export interface Hold {
  /** Of a backup or a dump its own id; of others one of the same form (makeBackupId). */
  readonly id: string
  readonly purpose: HoldPurpose
  /** Packs of this attempt are held; of a backup, and of a dump among the packs of dumps. */
  readonly attemptId?: string
  /** For people. */
  readonly host: string
  /** formatProcessIdentity() of the writer: tells a reused process id apart. */
  readonly writer: string
  readonly startedAt: string
  /** Backups that must stay as they are: record, packs, and WAL from their start to their stop. */
  readonly needs: readonly string[]
  /** WAL from here on, on every timeline; a backup's that names none holds all WAL. */
  readonly wal?: HeldWal
  /** Further objects that must stay, each by its key. */
  readonly keys?: readonly string[]
}

export interface HeldWal {
  readonly systemIdentifier: string
  /** Name of a segment; its timeline does not matter. */
  readonly first: string
}

export interface HoldList {
  readonly holds: readonly Hold[]
  /** Keys of holds that cannot be read: nobody knows what they protect. */
  readonly unreadable: readonly string[]
}

/** What a writer knows of condemned sets after its hold was written. */
export interface TakenHold {
  readonly hold: Hold
  /** What it names counts as not there. */
  readonly condemned: Condemned
  /** Of the backups that the hold needs, those that are gone or condemned: not to be used. */
  readonly lost: readonly string[]
}

/** The `host` and `writer` of this process. */
export function readHolder(): Pick<Hold, 'host' | 'writer'> {
  return { host: hostname(), writer: formatProcessIdentity(readProcessIdentity()) }
}

/** Writes a hold, then looks at condemned sets, then whether what it needs is there. */
export async function takeHold(storage: Storage, cluster: string, hold: Hold): Promise<TakenHold> {
  await writeHold(storage, cluster, hold)
  try {
    return await lookAround(storage, cluster, hold)
  } catch (error) {
    await removeHold(storage, cluster, hold.id).catch(() => undefined)
    throw error
  }
}

/** Takes a hold of the same id anew, for other needs; the caller has written the first. */
export async function replaceHold(
  storage: Storage,
  cluster: string,
  hold: Hold,
): Promise<TakenHold> {
  await storage.write(holdKey(cluster, hold.id), encodeHold(hold))
  return await lookAround(storage, cluster, hold)
}

/** Sets first: one that is gone by now has had its work done, and then the record is gone. */
async function lookAround(storage: Storage, cluster: string, hold: Hold): Promise<TakenHold> {
  const condemned = await readCondemned(storage, cluster)
  const lost: string[] = []
  for (const id of hold.needs) {
    const isThere = (await storage.size(backupKey(cluster, id))) !== undefined
    if (!isThere || condemned.hasBackup(id)) lost.push(id)
  }
  return { hold, condemned, lost }
}

export async function writeHold(storage: Storage, cluster: string, hold: Hold): Promise<void> {
  await storage.write(holdKey(cluster, hold.id), encodeHold(hold), { createOnly: true })
}

function encodeHold(hold: Hold): Uint8Array {
  return encodeEnvelope('HOLD', Buffer.from(JSON.stringify({ format: 1, ...hold })))
}

export async function removeHold(storage: Storage, cluster: string, id: string): Promise<void> {
  await storage.remove(holdKey(cluster, id))
}

export async function listHolds(storage: Storage, cluster: string): Promise<HoldList> {
  const holds: Hold[] = []
  const unreadable: string[] = []
  for await (const { key } of storage.list(holdPrefix(cluster))) {
    try {
      const bytes = await storage.read(key)
      if (bytes !== undefined) holds.push(parseHold(key, decodeEnvelope(key, 'HOLD', bytes)))
    } catch (error) {
      if (!isFailure(error, 'TM1601')) throw error
      unreadable.push(key)
    }
  }
  return { holds, unreadable }
}

/**
 * Keys that the holds of others name, of one purpose or of any; `unknown` when a hold cannot be
 * read. Who wants to replace an object writes its own hold with the key, then looks here: of
 * two at least one sees the other, and leaves the object alone.
 */
export async function readKeysOfOthers(
  storage: Storage,
  cluster: string,
  ownId: string,
  purpose?: HoldPurpose,
): Promise<ReadonlySet<string> | 'unknown'> {
  return keysOfOthers(await listHolds(storage, cluster), ownId, purpose)
}

/** Pure. */
export function keysOfOthers(
  { holds, unreadable }: HoldList,
  ownId: string,
  purpose?: HoldPurpose,
): ReadonlySet<string> | 'unknown' {
  if (unreadable.length > 0) return 'unknown'
  const others = holds.filter((hold) => {
    return hold.id !== ownId && (purpose === undefined || hold.purpose === purpose)
  })
  return new Set(others.flatMap(({ keys = [] }) => keys))
}

/** The fields `backupId` and `comparedWith` are those of holds without a format. */
interface StoredHold extends Partial<Hold> {
  readonly format?: number
  readonly backupId?: string
  readonly comparedWith?: readonly string[]
}

function parseHold(key: string, raw: Uint8Array): Hold {
  const stored = JSON.parse(Buffer.from(raw).toString('utf8')) as StoredHold
  const { format = 1, backupId = '', comparedWith = [], ...rest } = stored
  const { id = backupId, purpose = 'backup', attemptId, needs = comparedWith } = rest
  const { host = '', writer = '', startedAt = '' } = rest
  if (format !== 1) throw damagedObject(key, `it has format ${format}`)
  if (!PURPOSES.includes(purpose)) throw damagedObject(key, `its purpose '${purpose}' is unknown`)
  const hasAttempt = purpose === 'backup' || purpose === 'dump'
  if (hasAttempt && !/^[0-9a-f]{24}$/.test(attemptId ?? '')) {
    throw damagedObject(key, 'its attempt has no id')
  }
  if (!isBackupId(id) || !key.endsWith(`/${id}.hold`)) {
    throw damagedObject(key, 'it is the hold of another backup')
  }
  return { ...rest, id, purpose, needs, host, writer, startedAt }
}

/** Of a hold or a condemned set: lives its process? */
export function judgeWriter({ writer }: { readonly writer: string }): Liveness {
  const other = parseProcessIdentity(writer)
  if (other === undefined) return 'unknown'
  return judgeLiveness(other, readProcessIdentity(), lookUpStartTicks)
}

export function isDeadWriter(owner: { readonly writer: string }): boolean {
  return judgeWriter(owner) === 'dead'
}

/** Its record may lie in a pack that stays locked, and must not be taken for a lost one. */
async function noteExpired(storage: Storage, cluster: string, { id, startedAt }: Hold) {
  const set = { ...readHolder(), startedAt, isLeft: true, backups: [id], packs: [], keys: [] }
  await writeCondemnedSet(storage, cluster, { id: randomHex(8), ...set })
}

/** Of a pack of the hold's attempt. */
export function attemptPackKey(cluster: string, { purpose }: Hold, packId: string): string {
  return purpose === 'dump' ? dumpPackKey(cluster, packId) : packKey(cluster, packId)
}

function recordKey(cluster: string, { purpose, id }: Hold): string {
  return purpose === 'dump' ? dumpKey(cluster, id) : backupKey(cluster, id)
}

/** What is locked yet is garbage of nobody from then on, which expiry collects. */
async function removeUnlessLocked(storage: Storage, key: string): Promise<boolean> {
  try {
    await storage.remove(key)
    return true
  } catch (error) {
    if (!isFailure(error, 'TM1513')) throw error
    return false
  }
}

/**
 * Removes what a dead attempt left behind, the hold last: a crash in between is cleaned
 * up by the next run. A backup or dump whose record exists keeps its packs; only the hold goes.
 * What others leave is garbage of nobody, which expiry collects. `packs`: only these,
 * where others may put packs of the attempt there again that the caller has not condemned.
 */
export async function removeDeadAttempt(
  storage: Storage,
  cluster: string,
  hold: Hold,
  packs?: readonly string[],
): Promise<number> {
  let removed = 0
  const record = recordKey(cluster, hold)
  if ((await storage.size(record)) !== undefined) {
    // Its writer may have died, or failed, before the record was durable.
    await storage.confirmDurable([record])
  } else if (hold.attemptId !== undefined) {
    const isOurs = await isLeftBehind(storage, cluster, hold)
    const ids = packs ?? (await listAttempt(storage, cluster, hold))
    for (const id of isOurs ? ids : []) {
      if (await removeUnlessLocked(storage, attemptPackKey(cluster, hold, id))) removed++
    }
    // No copy of a dump's record lies in its packs; of a dead writer whoever took the hold knows.
    const mayLookLost = removed < ids.length && hold.purpose !== 'dump'
    if (mayLookLost && (isOurs || !isDeadWriter(hold))) await noteExpired(storage, cluster, hold)
  }
  await storage.remove(holdKey(cluster, hold.id))
  return removed
}

/** Ids of its packs. */
export async function listAttempt(
  storage: Storage,
  cluster: string,
  { attemptId, purpose }: Hold,
): Promise<string[]> {
  const packs: string[] = []
  if (attemptId === undefined) return packs
  const isDump = purpose === 'dump'
  const prefix = (isDump ? dumpAttemptPrefix : attemptPrefix)(cluster, attemptId)
  for await (const { key } of storage.list(prefix)) {
    const id = isDump ? parseDumpPackKey(key) : parsePackKey(key)
    if (id !== undefined) packs.push(id)
  }
  return packs
}

/**
 * Looked at after the record was not there. Where the hold is gone, somebody else has cleaned up
 * before, or gave up a writer that lives (`expire --release`): the record may have been there
 * meanwhile, and later ones may refer to its packs. Expiry, which looks at all records, removes
 * what nobody needs.
 */
async function isLeftBehind(storage: Storage, cluster: string, hold: Hold): Promise<boolean> {
  return (await storage.size(holdKey(cluster, hold.id))) !== undefined
}
