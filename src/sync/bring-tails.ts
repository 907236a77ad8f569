/**
 * Brings what was flushed of segments that are not complete: of each segment the tail that
 * reaches furthest, as a piece, where the target has neither the segment nor as much of it
 * (docs/design/tails.md, section 6).
 *
 * Invariant: nothing that the target has is removed but shorter copies of the same tail, behind the
 * longer one, and tails whose segment is whole there and agrees.
 */
import { findWalFile } from '../archive/fetch-wal.ts'
import { type ReadTail, readTailsOf } from '../archive/read-tail.ts'
import { judgeSuperseded } from '../archive/superseded-tail.ts'
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
  await removeSuperseded(state, place)
}

/** Those that earlier syncs have brought, once their segment is there and says the same. */
async function removeSuperseded({ target, cluster }: SyncState, place: TailPlace): Promise<void> {
  const { systemIdentifier } = place
  const listed = await listTails(target, cluster, systemIdentifier)
  const settled = listed.filter(({ parts }) => parts.every(({ piece }) => piece !== undefined))
  for (const segment of new Set(settled.map((one) => one.segment))) {
    if ((await target.size(segmentKey(cluster, systemIdentifier, segment))) === undefined) continue
    const request = { storages: [target], cluster, systemIdentifier, name: segment }
    const whole = (await findWalFile({ ...request, holes: 'absent' }))?.content
    if (whole === undefined) continue
    const tails = await readTailsOf(target, place, segment)
    const gone = tails.filter(({ opening, ...tail }) => {
      const isSettled = settled.some((one) => one.segment === segment && one.opening === opening)
      return isSettled && judgeSuperseded(place, { opening, ...tail }, whole) === undefined
    })
    if (gone.length > 0) await target.removeMany(gone.flatMap(({ keys }) => keys))
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
  const damaged = there.filter(({ failure }) => failure !== undefined)
  for (const key of damaged.flatMap(({ keys }) => keys)) {
    if (written.includes(key)) state.healed.push({ key, frames: undefined, was: 'damaged' })
  }
  state.counts.others++
  state.counts.bytes += bytes.length
  const older = there.find(({ opening }) => opening === head.opening)?.keys ?? []
  const covered = older.filter((key) => key.endsWith('.piece') && !written.includes(key))
  if (covered.length > 0) await target.removeMany(covered)
}

function furthestOf(tails: readonly ReadTail[]): ReadTail | undefined {
  return tails.toSorted((a, b) => b.bytes.length - a.bytes.length)[0]
}
