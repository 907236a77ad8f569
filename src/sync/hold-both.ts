/**
 * The holds of a sync: in the target what it will name, in the source what it will read
 * (docs/design/sync.md, section 2).
 *
 * Invariant: whatever of the target is relied on was seen after its hold was written.
 */
import { now } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { cleanUpDeadHolds } from '../repository/clean-up.ts'
import type { Condemned } from '../repository/condemned-sets.ts'
import {
  type Hold,
  keysOfOthers,
  listHolds,
  readHolder,
  removeHold,
  takeHold,
} from '../repository/holds.ts'
import { makeBackupId } from '../repository/keys.ts'
import type { Storage } from '../storage/storage.ts'
import type { SyncNames } from './sync-state.ts'

export interface HoldRequest {
  readonly source: Storage
  readonly target: Storage
  readonly names: SyncNames
  readonly cluster: string
  /** Ids of the backups to be brought. */
  readonly backups: readonly string[]
  /** Keys in the target that must stay, or may be replaced. */
  readonly keys: readonly string[]
  /** Keys in the source besides those of the backups. */
  readonly sourceKeys: readonly string[]
}

export interface HeldBoth {
  /** Of the hold in the target. */
  readonly holdId: string
  readonly condemned: Condemned
  readonly heldByOthers: ReadonlySet<string> | 'unknown'
  /** Backups and dumps that are being written to the target. */
  readonly busyBackups: ReadonlySet<string>
  /** Backups that the source is about to lose. */
  readonly lost: ReadonlySet<string>
  readonly notes: readonly string[]
  /** Removes both; what cannot be removed is said, and the next run removes it. */
  release(): Promise<string[]>
}

/** TM1932 when another sync is at work in the target. */
export async function holdBoth(request: HoldRequest): Promise<HeldBoth> {
  const { source, target, cluster, names, backups, keys, sourceKeys } = request
  const notes = await cleanUpDeadHolds(target, cluster)
  const hold = makeHold([], keys)
  const { condemned } = await takeHold(target, cluster, hold)
  const held: { storage: Storage; name: string; id: string }[] = [
    { storage: target, name: names.target, id: hold.id },
  ]
  const release = async (): Promise<string[]> => {
    const failed = await Promise.all(
      held.map(async ({ storage, name, id }) => await dropHold(storage, cluster, name, id)),
    )
    return failed.filter((note) => note !== undefined)
  }
  try {
    const others = await readOthers(request, hold.id)
    const own = makeHold(backups, sourceKeys)
    const lost = await holdSource(source, cluster, own)
    if (lost === undefined) notes.push(notHeld(names.source))
    else held.push({ storage: source, name: names.source, id: own.id })
    return { holdId: hold.id, condemned, ...others, lost: new Set(lost), notes, release }
  } catch (error) {
    await release()
    throw error
  }
}

function makeHold(needs: readonly string[], keys: readonly string[]): Hold {
  const at = now()
  const id = makeBackupId(at)
  const startedAt = at.toISOString()
  return { id, purpose: 'sync', ...readHolder(), startedAt, needs, keys }
}

async function readOthers(
  { target, cluster, names }: HoldRequest,
  ownId: string,
): Promise<Pick<HeldBoth, 'heldByOthers' | 'busyBackups'>> {
  const list = await listHolds(target, cluster)
  const others = list.holds.filter(({ id }) => id !== ownId)
  const sync = others.find(({ purpose }) => purpose === 'sync')
  if (sync !== undefined) throw anotherSync(sync, names.target)
  const writing = others.filter(({ purpose }) => purpose === 'backup' || purpose === 'dump')
  return {
    heldByOthers: keysOfOthers(list, ownId),
    busyBackups: new Set(writing.map(({ id }) => id)),
  }
}

function anotherSync({ id, host, startedAt }: Hold, target: string): Failure {
  return new Failure('TM1932', {
    message: `another sync into ${target} is at work`,
    because: `its hold ${id} is of ${host}, since ${startedAt}`,
    fix: `wait for it; if it is dead, on another machine: tidemark expire --release ${id}`,
    details: { hold: id, host },
  })
}

/** The ids that are lost to an expiry; undefined where the source may not be written to. */
async function holdSource(
  source: Storage,
  cluster: string,
  hold: Hold,
): Promise<readonly string[] | undefined> {
  try {
    await cleanUpDeadHolds(source, cluster)
    return (await takeHold(source, cluster, hold)).lost
  } catch (error) {
    if (isFailure(error, 'TM1501') || isFailure(error, 'TM1506')) return undefined
    throw error
  }
}

function notHeld(source: string): string {
  return (
    `${source} cannot be written to, so that nothing holds there what is read: ` +
    'what an expiry takes meanwhile keeps its backup back'
  )
}

async function dropHold(
  storage: Storage,
  cluster: string,
  name: string,
  id: string,
): Promise<string | undefined> {
  try {
    await removeHold(storage, cluster, id)
    return undefined
  } catch (error) {
    if (!isFailure(error)) throw error
    return `the hold ${id} in ${name} could not be removed, the next run will: ${error.message}`
  }
}
