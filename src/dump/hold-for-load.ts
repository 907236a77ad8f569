/**
 * The hold of a load: no expiry takes its dump away, nor the packs that it needs, while it runs.
 *
 * Invariant: that nothing is held is said, and keeps no load from being tried: whoever loads may
 * have nothing but read access, or a repository that is full.
 */
import { now } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import { type Hold, readHolder, removeHold, takeHold } from '../repository/holds.ts'
import { dumpKey, dumpPackKey, makeBackupId } from '../repository/keys.ts'
import type { Storage } from '../storage/storage.ts'

export interface LoadHold {
  /** Sentences for the person. */
  readonly notes: readonly string[]
  /** Never fails: a hold that stays is shown by `expire`, and the next run removes it. */
  release(): Promise<void>
}

/**
 * In every repository that lists the dump: any of them may be asked for any part of it. TM1602 when
 * it has expired in all.
 */
export async function holdInAll(
  storages: readonly Storage[],
  record: DumpRecord,
): Promise<LoadHold> {
  const held: LoadHold[] = []
  const release = async (): Promise<void> => {
    for (const hold of held) await hold.release()
  }
  let expired: unknown
  for (const storage of storages) {
    try {
      held.push(await holdForLoad(storage, record))
    } catch (error) {
      if (!isFailure(error, 'TM1602')) {
        await release()
        throw error
      }
      expired ??= error
    }
  }
  if (held.length === 0) throw expired
  return { notes: held.flatMap(({ notes }) => notes), release }
}

/** TM1602: the dump has expired since it was chosen. */
export async function holdForLoad(storage: Storage, record: DumpRecord): Promise<LoadHold> {
  const { cluster, id } = record
  const key = dumpKey(cluster, id)
  const hold = describeHold(record)
  const release = async (): Promise<void> => {
    await removeHold(storage, cluster, hold.id).catch(ignoreFailure)
  }
  try {
    const { condemned } = await takeHold(storage, cluster, hold)
    // After the sets: of one that is gone by now the record is gone, too.
    if ((await storage.size(key)) !== undefined) {
      return { notes: condemned.hasKey(key) ? [beingRemoved(record)] : [], release }
    }
  } catch (error) {
    if (!isFailure(error)) throw error
    return { notes: [notHeld(error)], release }
  }
  await release()
  throw new Failure('TM1602', {
    message: `the dump ${id} has expired since it was chosen`,
    because: 'its record is not there any more',
    fix: `load another one: tidemark list ${cluster}`,
    details: { dump: id },
  })
}

function describeHold({ cluster, id, packs }: DumpRecord): Hold {
  const at = now()
  return {
    id: makeBackupId(at),
    purpose: 'restore',
    ...readHolder(),
    startedAt: at.toISOString(),
    needs: [],
    keys: [dumpKey(cluster, id), ...packs.map((pack) => dumpPackKey(cluster, pack.id))],
  }
}

function ignoreFailure(error: unknown): void {
  if (!isFailure(error)) throw error
}

function notHeld(error: Failure): string {
  return (
    'this load holds nothing in the repository, so that an expiry that runs meanwhile could ' +
    `remove what it needs (the load would fail then, and say so): ${error.message}`
  )
}

function beingRemoved({ id }: DumpRecord): string {
  return `an expiry is removing dump ${id}, or was stopped while it did: this load may fail`
}
