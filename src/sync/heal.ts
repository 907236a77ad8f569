/**
 * Proves what the target holds, and mends what does not hold by what the source has.
 *
 * Invariant: what is looked at before the hold only says where to look again: each object is
 * judged anew, under the hold, before it is replaced.
 */
import { isHashOf, peekContentHash, WAL_HEADER_BYTES } from '../archive/wal-object.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { damagedObject } from '../repository/envelope.ts'
import { clusterPrefix, packKey, packPrefix, parsePackKey } from '../repository/keys.ts'
import type { Storage } from '../storage/storage.ts'
import { countPack } from './bring-backup.ts'
import { bringPack } from './bring-pack.ts'
import { bringOne } from './bring-wal.ts'
import { type ComparedObject, compareListings } from './compare-listings.ts'
import { isDamage } from './damage.ts'
import { type NamedWal, parseObjectKey } from './object-key.ts'
import { decodeNamedWal, findDamage } from './prove-object.ts'
import { runLimited } from './run-limited.ts'
import { addProblem, leaveForNextTime, mayReplace, type SyncState } from './sync-state.ts'

const OBJECTS_AT_ONCE = 4

type Proving = Pick<SyncState, 'source' | 'target' | 'cluster' | 'progress' | 'signal'>

/**
 * Keys of WAL objects and of `packs` that both sides have and that do not hold in the target,
 * or differ. Everything of the target that the source has too is read.
 */
export async function findDamagedObjects(
  proving: Proving,
  packs: ReadonlySet<string>,
): Promise<string[]> {
  const { source, target, cluster, progress, signal } = proving
  const found: string[] = []
  progress.phase('proving what is there')
  const prove = async ({ key, target: there = 0 }: ComparedObject): Promise<void> => {
    signal.throwIfAborted()
    if (!(await isSame(source, target, cluster, key))) found.push(key)
    progress.advance(there)
  }
  const compare = (prefix: string): AsyncIterable<ComparedObject> => {
    return compareListings(source.list(prefix), target.list(prefix))
  }
  const isBoth = ({ source: a, target: b }: ComparedObject): boolean => {
    return a !== undefined && b !== undefined
  }
  const isNamed = (object: ComparedObject): boolean => {
    return isBoth(object) && packs.has(parsePackKey(object.key) ?? '')
  }
  await runLimited(only(compare(packPrefix(cluster)), isNamed), OBJECTS_AT_ONCE, prove)
  const wal = `${clusterPrefix(cluster)}wal/`
  await runLimited(only(compare(wal), isBoth), OBJECTS_AT_ONCE, prove)
  return found
}

async function* only<T>(items: AsyncIterable<T>, isWanted: (item: T) => boolean) {
  for await (const item of items) if (isWanted(item)) yield item
}

/** Keys of no format, and bytes that were kept as damaged, are nobody's business. */
async function isSame(
  source: Storage,
  target: Storage,
  cluster: string,
  key: string,
): Promise<boolean> {
  const named = parseObjectKey(cluster, key)
  if (named === undefined) return true
  if (named.kind === 'wal') return await isSameWal(source, target, named)
  return (await findDamage(target, cluster, key)) === undefined
}

/** Of the source the header is enough: what differs is read again, in full. */
async function isSameWal(source: Storage, target: Storage, named: NamedWal): Promise<boolean> {
  const { key } = named
  try {
    const bytes = await target.read(key)
    if (bytes === undefined) return true
    const { content } = decodeNamedWal(named, bytes)
    const header = await source.readRange(key, 0, WAL_HEADER_BYTES)
    return header === undefined || isHashOf(content, peekContentHash(header) ?? '')
  } catch (error) {
    if (isDamage(error)) return false
    throw error
  }
}

export interface HealedPacks {
  /** Own packs of the records that the target lists. */
  readonly ownPacks: ReadonlySet<string>
  /** Frames that the target has dropped are wanted too: somebody has named the pack. */
  readonly complete: boolean
}

/** Records and identities are mended elsewhere: they are proved in every run. */
export async function healObjects(
  state: SyncState,
  keys: readonly string[],
  packs: HealedPacks,
): Promise<void> {
  await runLimited(keys, OBJECTS_AT_ONCE, async (key) => {
    state.signal.throwIfAborted()
    const named = parseObjectKey(state.cluster, key)
    if (named?.kind === 'pack') await healPack(state, named.packId, packs)
    if (named?.kind === 'wal') await healWal(state, named)
  })
}

async function healWal(state: SyncState, named: NamedWal): Promise<void> {
  const there = await state.target.size(named.key)
  const was = there === undefined ? 'missing' : 'other length'
  const outcome = await bringOne(state, { ...named, bytes: 0, was })
  if (outcome === undefined || outcome === 'found') return
  const how = outcome === 'stored' ? 'missing' : 'damaged'
  state.healed.push({ key: named.key, frames: undefined, was: how })
}

async function healPack(
  state: SyncState,
  packId: string,
  { ownPacks, complete }: HealedPacks,
): Promise<void> {
  const { source, target, cluster } = state
  const key = packKey(cluster, packId)
  if (state.condemned.hasKey(key)) {
    leaveForNextTime(state, key)
    return
  }
  try {
    const keepsRecord = ownPacks.has(packId)
    const request = { source, target, cluster, packId, complete, prove: true, keepsRecord }
    const brought = await bringPack({ ...request, mayReplace: mayReplace(state, key) })
    if (brought.outcome === 'busy') {
      leaveForNextTime(state, key)
      return
    }
    if (brought.outcome === 'copied') {
      state.counts.bytes += brought.bytes
      state.healed.push({ key, frames: undefined, was: 'missing' })
    } else countPack(state, key, brought)
    const { unhealed } = brought
    if (unhealed.length > 0) addProblem(state, 'target', key, notHealed(state, key, unhealed))
  } catch (error) {
    if (!isDamage(error) && !isFailure(error, 'TM1933')) throw error
    addProblem(state, 'source', key, error)
  }
}

function notHealed({ names }: SyncState, key: string, frames: readonly number[]): Failure {
  const failure = damagedObject(
    key,
    `${frames.length} of its frames (${frames.slice(0, 5).join(', ')}) are whole in neither ` +
      `repository, ${names.source} nor ${names.target}`,
  )
  return new Failure('TM1601', {
    message: failure.message,
    ...(failure.because === undefined ? {} : { because: failure.because }),
    fix: 'what it costs: tidemark verify; the next backup stores anew what is still in the cluster',
    details: { key, frames },
  })
}
