/**
 * Brings one dump into the target of a sync: its packs, its marks, its record last.
 *
 * Invariant: a record is created only when, in this run, every pack that it names was seen in the
 * target with its size, or written there with every frame proved, and made durable.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { type DumpedPack, type DumpRecord, encodeDumpRecord } from '../repository/dump-record.ts'
import { damagedObject } from '../repository/envelope.ts'
import { dumpKey, dumpLabelsKey, dumpPackKey, dumpPinKey } from '../repository/keys.ts'
import { countPack } from '../sync/bring-backup.ts'
import { bringPack } from '../sync/bring-pack.ts'
import { isDamage } from '../sync/damage.ts'
import { bringMarks, create, keepDamaged, requireHold } from '../sync/put-record.ts'
import { runLimited } from '../sync/run-limited.ts'
import { addProblem, leaveForNextTime, mayReplace, type SyncState } from '../sync/sync-state.ts'
import { extendDumpLocks } from './extend-dump-locks.ts'

const PACKS_AT_ONCE = 4

/** False where it was kept back; why is said. `sizes`: packs of the target, seen under the hold. */
export async function bringDump(
  state: SyncState,
  record: DumpRecord,
  sizes: Map<string, number>,
  isReplacement: boolean,
): Promise<boolean> {
  const { cluster } = state
  const key = dumpKey(cluster, record.id)
  try {
    if (state.condemned.hasKey(key)) throw leaveForNextTime(state, key)
    const failed = await bringDumpPacks(state, record.packs, sizes, { prove: false })
    if (failed !== undefined) throw failed
    await bringMarks(state, [dumpPinKey(cluster, record.id), dumpLabelsKey(cluster, record.id)])
    return await publish(state, record, isReplacement)
  } catch (error) {
    if (!isFailure(error, 'TM1934') && !isDamage(error) && !isFailure(error, 'TM1933')) throw error
    keepBack(state, record, error)
    return false
  }
}

function keepBack(state: SyncState, { id }: DumpRecord, { message }: Failure): void {
  const { keptBack, names, cluster } = state
  keptBack.push({ backupId: id, because: message })
  const failure = new Failure('TM1931', {
    message: `dump ${id} was not brought to ${names.target}`,
    because: message,
    fix: `mend what is named, then run sync again; or: tidemark verify ${cluster}`,
  })
  addProblem(state, 'source', dumpKey(cluster, id), failure)
}

/** Each once in a run. Returns why one of them is not there, the first of all. */
export async function bringDumpPacks(
  state: SyncState,
  packs: readonly DumpedPack[],
  sizes: Map<string, number>,
  { prove }: { readonly prove: boolean },
): Promise<Failure | undefined> {
  let failed: Failure | undefined
  await runLimited(packs, PACKS_AT_ONCE, async (pack) => {
    state.signal.throwIfAborted()
    const failure = await bringOne(state, pack, sizes, prove)
    failed ??= failure
  })
  return failed
}

async function bringOne(
  state: SyncState,
  { id, bytes }: DumpedPack,
  sizes: Map<string, number>,
  prove: boolean,
): Promise<Failure | undefined> {
  const { source, target, cluster, progress } = state
  const key = dumpPackKey(cluster, id)
  // What is there may have been condemned before our hold was.
  if (state.condemned.hasKey(key)) return leaveForNextTime(state, key)
  if (sizes.get(id) === bytes && !prove) return undefined
  const wasThere = sizes.has(id)
  try {
    const brought = await bringPack({
      source,
      target,
      cluster,
      packId: id,
      keyOf: dumpPackKey,
      complete: false,
      prove: wasThere,
      keepsRecord: true,
      mayReplace: mayReplace(state, key),
    })
    if (brought.outcome === 'busy') return leaveForNextTime(state, key)
    countPack(state, key, brought)
    progress.advance(bytes)
    const written = await target.size(key)
    if (brought.unhealed.length > 0 || written !== bytes) {
      throw damagedObject(
        key,
        `neither ${state.names.source} nor ${state.names.target} has it whole`,
      )
    }
    sizes.set(id, written)
    return undefined
  } catch (error) {
    if (!isDamage(error) && !isFailure(error, 'TM1933')) throw error
    addProblem(state, 'source', key, error)
    return error
  }
}

async function publish(
  state: SyncState,
  record: DumpRecord,
  isReplacement: boolean,
): Promise<boolean> {
  const { target, cluster, counts, healed } = state
  const key = dumpKey(cluster, record.id)
  const bytes = encodeDumpRecord(record)
  // What was seen may be another run's that has not made it durable yet.
  await target.confirmDurable(record.packs.map(({ id }) => dumpPackKey(cluster, id)))
  await requireHold(state)
  if (isReplacement) {
    if (!mayReplace(state, key)) throw leaveForNextTime(state, key)
    await keepDamaged(target, key)
    await target.write(key, bytes)
    healed.push({ key, frames: undefined, was: 'damaged' })
  } else {
    if (!(await create(state, key, bytes))) return false
    await requireHold(state, key)
    counts.bytes += bytes.length
  }
  state.notes.push(...(await extendDumpLocks(target, record)))
  return true
}
