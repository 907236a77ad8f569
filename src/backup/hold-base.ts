/**
 * Takes the hold of a backup, and makes sure of the backup that it compares with: what an
 * expiry is about to remove, or has removed since it was chosen, is not used.
 *
 * Invariant: the hold that is in the repository when this returns names the base.
 */
import { type Lsn, formatSegmentName, segmentNumber } from '../postgres/lsn.ts'
import type { Condemned } from '../repository/condemned-sets.ts'
import { type Hold, readHolder, removeHold, replaceHold, takeHold } from '../repository/holds.ts'
import type { BackupContext } from './backup-context.ts'
import type { ChosenBase } from './choose-base.ts'

export interface HeldBase {
  readonly hold: Hold
  readonly base: ChosenBase | undefined
  /** What it names counts as not there. */
  readonly condemned: Condemned
}

/** `chooseAgain` gives the next best base, without the backups that it is told of. */
export async function holdBase(
  context: BackupContext,
  chooseAgain: (without: ReadonlySet<string>) => Promise<ChosenBase | undefined>,
): Promise<HeldBase> {
  const { options, notes } = context
  const { storage, cluster } = options
  const lost = new Set<string>()
  let base = context.base
  let taken = await takeHold(storage, cluster, describeHold(context, base))
  try {
    while (taken.lost.length > 0) {
      for (const id of taken.lost) lost.add(id)
      notes.push(`nothing is compared with backup ${taken.lost.join(', ')}, which is expiring`)
      base = await chooseAgain(lost)
      taken = await replaceHold(storage, cluster, describeHold(context, base))
    }
  } catch (error) {
    await removeHold(storage, cluster, taken.hold.id).catch(() => undefined)
    throw error
  }
  const { hold, condemned } = taken
  notes.push(...condemned.unreadable.map(describeUnreadable))
  return { hold, base, condemned }
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
function describeHold(context: BackupContext, base: ChosenBase | undefined): Hold {
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
    needs: base === undefined ? [] : [base.backup.id],
    wal: { systemIdentifier: String(control.systemIdentifier), first },
  }
}
