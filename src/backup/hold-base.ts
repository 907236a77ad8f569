/**
 * Takes the holds of a backup, one in each target, and makes sure of the backup that it compares
 * with: what an expiry is about to remove, or has removed since it was chosen, is not used.
 *
 * Invariant: when this returns the hold of every target that is compared in names the base.
 */
import { isFailure } from '../base/failure.ts'
import { type Lsn, formatSegmentName, segmentNumber } from '../postgres/lsn.ts'
import type { Condemned } from '../repository/condemned-sets.ts'
import {
  type Hold,
  readHolder,
  removeHold,
  replaceHold,
  type TakenHold,
  takeHold,
} from '../repository/holds.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupContext } from './backup-context.ts'
import { type FoundBase, findBase } from './find-base.ts'

export interface HeldBase extends FoundBase {
  /** By the number of the target. */
  readonly holds: ReadonlyMap<number, Hold>
  /** What the set of a target names counts as not there in that target. */
  readonly condemned: ReadonlyMap<number, Condemned>
}

/** A target that is not required and cannot be held is dropped. */
export async function holdBase(context: BackupContext): Promise<HeldBase> {
  const taken = new Map<number, TakenHold>()
  try {
    return await takeHolds(context, taken)
  } catch (error) {
    await giveBack(context, taken)
    throw error
  }
}

async function takeHolds(context: BackupContext, taken: Map<number, TakenHold>): Promise<HeldBase> {
  const { targets, notes } = context
  const lost = new Map<number, Set<string>>()
  let { base, comparedIn }: FoundBase = context
  for (;;) {
    const found = { base, comparedIn }
    await targets.group.gather(async (storage, target) => {
      const hold = describeHold(context, found, target)
      taken.set(target, await takeOrKeep(storage, context, hold, taken.get(target)))
    })
    const hasLost = [...taken].filter(([target, one]) => {
      return one.lost.length > 0 && !targets.group.isDropped(target)
    })
    if (hasLost.length === 0) break
    for (const [target, { lost: ids }] of hasLost) {
      lost.set(target, new Set([...(lost.get(target) ?? []), ...ids]))
      notes.push(`nothing is compared with backup ${ids.join(', ')}, which is expiring`)
    }
    ;({ base, comparedIn } = await findBase(context, lost))
  }
  const holds = new Map([...taken].map(([target, { hold }]) => [target, hold]))
  const condemned = new Map([...taken].map(([target, one]) => [target, one.condemned]))
  const unreadable = [...condemned.values()].flatMap((one) => one.unreadable)
  notes.push(...unreadable.map(describeUnreadable))
  return { base, comparedIn, holds, condemned }
}

/** The first one is created; then it is replaced where what it needs has changed. */
async function takeOrKeep(
  storage: Storage,
  { options }: BackupContext,
  hold: Hold,
  before: TakenHold | undefined,
): Promise<TakenHold> {
  if (before === undefined) return await takeHold(storage, options.cluster, hold)
  if (before.hold.needs.join() === hold.needs.join()) return before
  return await replaceHold(storage, options.cluster, hold)
}

async function giveBack(
  { targets, options }: BackupContext,
  taken: ReadonlyMap<number, TakenHold>,
): Promise<void> {
  for (const [target, { hold }] of taken) {
    try {
      await removeHold(targets.group.storageOf(target), options.cluster, hold.id)
    } catch (error) {
      if (!isFailure(error)) throw error
    }
  }
}

function describeUnreadable(key: string): string {
  return (
    `everything is stored anew, since ${key} cannot be read: ` +
    'nobody knows what an expiry is removing'
  )
}

/**
 * WAL is held from the last redo location on, since the backup's start is not yet known and
 * lies behind it.
 */
function describeHold(
  context: BackupContext,
  { base, comparedIn }: FoundBase,
  target: number,
): Hold {
  const { control } = context
  const redo: Lsn = control.checkpoint.redoLsn
  const segment = segmentNumber(redo, control.walSegmentSizeBytes)
  const first = formatSegmentName(control.checkpoint.timeline, segment, control.walSegmentSizeBytes)
  return {
    id: context.backupId,
    purpose: 'backup',
    attemptId: context.attemptId,
    ...readHolder(),
    startedAt: context.beganAt.toISOString(),
    needs: base === undefined || !comparedIn.includes(target) ? [] : [base.backup.id],
    wal: { systemIdentifier: String(control.systemIdentifier), first },
  }
}
