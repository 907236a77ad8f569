/**
 * Brings one backup: its own WAL, its packs, its record last.
 *
 * Invariant: a record is created only when, in this run, all that it names was seen in the
 * target or written there, and made durable (docs/design/sync.md, section 3).
 */
import { extendLocks } from '../backup/extend-locks.ts'
import { now } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { decodeEnvelope, missingObject } from '../repository/envelope.ts'
import { backupKey, labelsKey, packKey, pinKey } from '../repository/keys.ts'
import type { Storage } from '../storage/storage.ts'
import { type BroughtPack, bringPack } from './bring-pack.ts'
import { bringWal } from './bring-wal.ts'
import { isDamage } from './damage.ts'
import { ownHistory, ownPack, ownSegments, type PlannedPack, type WalPlan } from './plan-sync.ts'
import { bringMarks, create, keepDamaged, requireHold } from './put-record.ts'
import { runLimited } from './run-limited.ts'
import { addProblem, leaveForNextTime, mayReplace, type SyncState } from './sync-state.ts'

const PACKS_AT_ONCE = 4

export interface BackupWork {
  readonly packs: ReadonlyMap<string, PlannedPack>
  readonly wal: WalPlan
  /** Histories that the source has. */
  readonly histories: ReadonlySet<string>
  /** Packs that this run has settled. */
  readonly settled: Map<string, SettledPack>
  /** Own packs of the records that the target lists. */
  readonly ownPacks: Set<string>
  readonly isReplacement: boolean
}

/** A failure: why it is not there. `bare`: without the copy of a record. */
export type SettledPack = Failure | 'there' | 'bare'

export async function bringBackup(
  state: SyncState,
  record: BackupRecord,
  work: BackupWork,
): Promise<void> {
  const key = backupKey(state.cluster, record.id)
  try {
    if (state.condemned.hasBackup(record.id)) throw leaveForNextTime(state, key)
    await bringOwnWal(state, record, work)
    // The pack with the copy of the record last: it says that the rest is there.
    const own = ownPack(record)
    const others = record.packs.map(({ id }) => id).filter((id) => id !== own)
    await bringPacks(state, others, work)
    requirePacks(state, others, work)
    if (own !== undefined) {
      work.ownPacks.add(own)
      if (work.settled.get(own) === 'bare') work.settled.delete(own)
      await bringPacks(state, [own], work)
      requirePacks(state, [own], work)
    }
    const marks = [pinKey(state.cluster, record.id), labelsKey(state.cluster, record.id)]
    if (!work.isReplacement) await bringMarks(state, marks)
    await publish(state, record, work.isReplacement)
  } catch (error) {
    if (!(error instanceof KeptBackError) && !isFailure(error, 'TM1934')) throw error
    keepBack(state, record, error.message)
  }
}

/** Ends the work on one backup, and nothing else. */
class KeptBackError extends Error {}

function keepBack(state: SyncState, { id }: BackupRecord, because: string): void {
  const { keptBack, names, cluster } = state
  keptBack.push({ backupId: id, because })
  const failure = new Failure('TM1931', {
    message: `backup ${id} was not brought to ${names.target}`,
    because,
    fix: `mend what is named, then run sync again; or: tidemark verify ${cluster}`,
  })
  addProblem(state, 'source', backupKey(cluster, id), failure)
}

async function bringOwnWal(
  state: SyncState,
  record: BackupRecord,
  { wal, histories }: BackupWork,
): Promise<void> {
  const own = ownSegments(record)
  if (own.length === 0) throw new KeptBackError('its record names no WAL that could be found')
  const missing = own.flatMap((key) => wal.own.get(key) ?? [])
  // Another backup may have brought them, or tried to.
  for (const { key } of missing) wal.own.delete(key)
  await bringWal(state, missing, record.sizes.walSegmentSizeBytes)
  const history = ownHistory(record)
  const needed = histories.has(history) ? [...own, history] : own
  for (const key of needed) {
    // What is there may have been condemned before our hold was.
    if (state.condemned.hasKey(key)) throw leaveForNextTime(state, key)
    if (state.present.has(key)) continue
    throw new KeptBackError(`${state.names.target} lacks its WAL: ${key} could not be brought`)
  }
}

/** Each once, whatever the number of backups that name it. */
export async function bringPacks(
  state: SyncState,
  ids: readonly string[],
  { packs, settled, ownPacks }: Pick<BackupWork, 'packs' | 'settled' | 'ownPacks'>,
): Promise<void> {
  const due = ids.filter((id) => !settled.has(id))
  await runLimited(due, PACKS_AT_ONCE, async (id) => {
    state.signal.throwIfAborted()
    const { task = 'absent', bytes = 0 } = packs.get(id) ?? {}
    const keepsRecord = ownPacks.has(id)
    const outcome = await settle(state, id, task, keepsRecord)
    settled.set(id, outcome === 'there' && !keepsRecord ? 'bare' : outcome)
    if (task === 'copy' || task === 'complete') state.progress.advance(bytes)
  })
}

async function settle(
  state: SyncState,
  packId: string,
  task: PlannedPack['task'],
  keepsRecord: boolean,
): Promise<Failure | 'there'> {
  const { cluster, source, target } = state
  const key = packKey(cluster, packId)
  if (state.condemned.hasKey(key)) return leaveForNextTime(state, key)
  if (task === 'there') return 'there'
  if (task === 'absent') {
    const failure = missingObject(key, 'a backup of it')
    addProblem(state, 'source', key, failure)
    return failure
  }
  try {
    const request = { source, target, cluster, packId, complete: true, prove: false, keepsRecord }
    const brought = await bringPack({ ...request, mayReplace: mayReplace(state, key) })
    if (brought.outcome === 'busy') return leaveForNextTime(state, key)
    countPack(state, key, brought)
    return 'there'
  } catch (error) {
    if (!isDamage(error) && !isFailure(error, 'TM1933')) throw error
    addProblem(state, 'source', key, error)
    return error
  }
}

export function countPack(
  { counts, healed }: SyncState,
  key: string,
  { outcome, bytes, healed: frames }: BroughtPack,
): void {
  counts.bytes += bytes
  if (outcome === 'copied' || outcome === 'completed') counts.packs++
  if (outcome === 'healed') healed.push({ key, frames, was: 'damaged' })
}

function requirePacks(
  { cluster }: SyncState,
  ids: readonly string[],
  { settled }: BackupWork,
): void {
  for (const id of ids) {
    const outcome = settled.get(id)
    if (outcome === 'there' || outcome === 'bare') continue
    throw new KeptBackError(outcome?.message ?? `${packKey(cluster, id)} was not brought`)
  }
}

/** The source's bytes as they are, proved once more. */
async function publish(
  state: SyncState,
  record: BackupRecord,
  isReplacement: boolean,
): Promise<void> {
  const { source, target, cluster, counts, healed } = state
  const key = backupKey(cluster, record.id)
  const bytes = await readRecord(source, key)
  await target.confirmDurable(namedKeys(state, record))
  await lockPacks(state, record)
  await requireHold(state)
  if (!isReplacement) {
    if (await create(state, key, bytes)) {
      await requireHold(state, key)
      counts.backups.push(record.id)
      counts.bytes += bytes.length
    }
    return
  }
  if (!mayReplace(state, key)) throw leaveForNextTime(state, key)
  await keepDamaged(target, key)
  await target.write(key, bytes)
  healed.push({ key, frames: undefined, was: 'damaged' })
}

/** What lay there before may be near the end of its lock. Each pack once in a run. */
async function lockPacks(state: SyncState, record: BackupRecord): Promise<void> {
  const { target, cluster, lockedPacks, notes } = state
  if (target.locks === undefined) return
  const packs = record.packs.filter(({ id }) => !lockedPacks.has(id))
  const at = now()
  const request = { cluster, packs, written: new Set<string>(), base: undefined, at, beganAt: at }
  const extended = await extendLocks([target], { ...request, progress: SILENT })
  for (const { id } of packs) lockedPacks.add(id)
  notes.push(...extended.notes)
}

async function readRecord(source: Storage, key: string): Promise<Uint8Array> {
  try {
    const bytes = await source.read(key)
    if (bytes === undefined) throw new KeptBackError('its record went away while it was brought')
    decodeEnvelope(key, 'RECD', bytes)
    return bytes
  } catch (error) {
    if (isDamage(error)) throw new KeptBackError(error.message, { cause: error })
    throw error
  }
}

/** What was seen may be another run's that has not made it durable yet. */
function namedKeys({ cluster }: SyncState, record: BackupRecord): string[] {
  const packs = record.packs.map(({ id }) => packKey(cluster, id))
  return [...packs, ...ownSegments(record), ownHistory(record)]
}
