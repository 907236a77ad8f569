/**
 * Brings what was flushed of segments that are not complete: of each segment the tail that
 * reaches furthest, as a piece, where the target has neither the segment nor as much of it
 * (docs/design/tails.md, section 6).
 *
 * Invariant: nothing that the target has is removed but shorter copies that a sync has written of
 * the same tail, and only behind the longer one.
 */
import { type ReadTail, readTailsOf } from '../archive/read-tail.ts'
import { listTails, type TailPlace } from '../archive/tail-keys.ts'
import { parseWalFileName, segmentKey } from '../archive/wal-file-name.ts'
import { settleTail } from '../archive/write-tail.ts'
import type { SystemIdentity } from '../repository/system-identity.ts'
import type { SyncChoice } from './plan-sync.ts'
import { addProblem, leaveForNextTime, type SyncState } from './sync-state.ts'

export async function bringTails(
  state: SyncState,
  { systemIdentifier, walSegmentSizeBytes }: SystemIdentity,
  wantsWal: SyncChoice['wantsWal'],
): Promise<void> {
  const { source, cluster } = state
  const place = { cluster, systemIdentifier, walSegmentSizeBytes }
  const listed = await listTails(source, cluster, systemIdentifier)
  for (const segment of new Set(listed.map((one) => one.segment))) {
    state.signal.throwIfAborted()
    const file = parseWalFileName(segment)
    const [first] = listed.filter((one) => one.segment === segment)
    const key = first?.parts[0]?.key
    if (file === undefined || key === undefined) continue
    const named = { kind: 'wal', key, systemIdentifier, file, hash16: undefined } as const
    if (wantsWal({ ...named, folder: 'partial' })) await bringTail(state, place, segment)
  }
}

async function bringTail(state: SyncState, place: TailPlace, segment: string): Promise<void> {
  const { source, target, cluster } = state
  const { systemIdentifier } = place
  if ((await target.size(segmentKey(cluster, systemIdentifier, segment))) !== undefined) return
  const found = await readTailsOf(source, place, segment)
  for (const { failure, keys } of found) {
    if (failure !== undefined) addProblem(state, 'source', keys[0] ?? segment, failure)
  }
  const furthest = furthestOf(found)
  const there = await readTailsOf(target, place, segment)
  if (furthest?.head === undefined) return
  if (furthest.bytes.length <= (furthestOf(there)?.bytes.length ?? 0)) return
  const [condemned] = furthest.keys.filter((key) => state.condemned.hasKey(key))
  if (condemned !== undefined) {
    leaveForNextTime(state, condemned)
    return
  }
  const { head, bytes } = furthest
  const written = await settleTail({ storage: target, cluster, systemIdentifier }, head, bytes)
  state.counts.others++
  state.counts.bytes += bytes.length
  const older = there.find(({ opening }) => opening === head.opening)?.keys ?? []
  const covered = older.filter((key) => key.endsWith('.piece') && !written.includes(key))
  if (covered.length > 0) await target.removeMany(covered)
}

function furthestOf(tails: readonly ReadTail[]): ReadTail | undefined {
  return tails.toSorted((a, b) => b.bytes.length - a.bytes.length)[0]
}
