/**
 * Puts a record into the target of a sync, when all that it names is there.
 *
 * Invariant: what is there already is not overwritten, but for a record that cannot be read, whose
 * bytes are kept; and none stays that was written after our hold was given up.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { decodeEnvelope } from '../repository/envelope.ts'
import { holdKey } from '../repository/keys.ts'
import type { Storage } from '../storage/storage.ts'
import { isDamage } from './damage.ts'
import { addProblem, leaveForNextTime, type SyncState } from './sync-state.ts'

/** Pins and labels before the record: what a person has pinned is never seen without. */
export async function bringMarks(state: SyncState, keys: readonly string[]): Promise<void> {
  for (const key of keys) {
    const bytes = await findMark(state, key)
    if (bytes === undefined) continue
    if (state.condemned.hasKey(key)) throw leaveForNextTime(state, key)
    if (await create(state, key, bytes)) state.counts.others++
  }
}

async function findMark(state: SyncState, key: string): Promise<Uint8Array | undefined> {
  try {
    const bytes = await state.source.read(key)
    if (bytes !== undefined) decodeEnvelope(key, 'MARK', bytes)
    return bytes
  } catch (error) {
    if (!isDamage(error)) throw error
    addProblem(state, 'source', key, error)
    return undefined
  }
}

/**
 * An expiry may have removed what was brought, once the hold was given up. Looked at before the
 * record, so that such a record is not even listed, and after it, as a writer does.
 */
export async function requireHold(
  { target, cluster, names, holdId }: SyncState,
  record?: string,
): Promise<void> {
  if ((await target.size(holdKey(cluster, holdId))) !== undefined) return
  if (record !== undefined) await target.remove(record)
  throw new Failure('TM1935', {
    message: `the hold ${holdId} of this sync in ${names.target} was taken away while it ran`,
    because: 'somebody declared this run dead (tidemark expire --release), and it was not',
    fix: 'run sync again: it brings what is missing',
    details: { hold: holdId },
  })
}

/** Nothing of an object whose seal does not hold is given out, so nothing can be kept of it. */
export async function keepDamaged(target: Storage, key: string): Promise<void> {
  try {
    const damaged = await target.read(key)
    if (damaged !== undefined) await target.write(`${key}.damaged`, damaged)
  } catch (error) {
    if (!isDamage(error)) throw error
  }
}

/** False where the object has appeared meanwhile. */
export async function create(
  { target }: SyncState,
  key: string,
  bytes: Uint8Array,
): Promise<boolean> {
  try {
    await target.write(key, bytes, { createOnly: true })
    return true
  } catch (error) {
    if (isFailure(error, 'TM1502')) return false
    throw error
  }
}
