/**
 * Brings WAL objects: proved by both hashes, stored by the rules of the archive
 * (docs/design/wal-archive.md, section 1), so that a name with other content is quarantined
 * and never overwritten, and a damaged one is replaced after its bytes were kept.
 */
import {
  quarantineWal,
  type StoreOutcome,
  storeWal,
  type WalToStore,
} from '../archive/store-wal.ts'
import type { WalObject } from '../archive/wal-object.ts'
import { isFailure } from '../base/failure.ts'
import { isDamage } from './damage.ts'
import { isSegment, type PlannedWal } from './plan-sync.ts'
import { decodeNamedWal } from './prove-object.ts'
import { runLimited } from './run-limited.ts'
import { addProblem, leaveForNextTime, type SyncState } from './sync-state.ts'

/** Raw bytes in memory at once; an object more begins when it is below that. */
const BYTES_AT_ONCE = 128 * 1024 * 1024
const OBJECTS_AT_ONCE = 4

/** `segmentBytes`: what an object may have raw. */
export async function bringWal(
  state: SyncState,
  objects: Iterable<PlannedWal> | AsyncIterable<PlannedWal>,
  segmentBytes: number,
): Promise<void> {
  const width = Math.floor(BYTES_AT_ONCE / Math.max(1, segmentBytes))
  await runLimited(objects, Math.min(OBJECTS_AT_ONCE, width), async (wal) => {
    state.signal.throwIfAborted()
    const outcome = await bringOne(state, wal)
    if (outcome === 'replaced') {
      state.healed.push({ key: wal.key, frames: undefined, was: 'damaged' })
    }
    if (outcome === 'stored') countWal(state, wal)
    state.progress.advance(wal.bytes)
  })
}

function countWal({ counts }: SyncState, wal: PlannedWal): void {
  if (isSegment(wal)) counts.segments++
  else counts.others++
}

/** Undefined: it did not come over, and the reason is among the problems. */
export async function bringOne(
  state: SyncState,
  wal: PlannedWal,
): Promise<StoreOutcome | undefined> {
  if (state.condemned.hasKey(wal.key)) {
    leaveForNextTime(state, wal.key)
    return undefined
  }
  const whole = await readWhole(state, wal)
  if (whole === undefined) return undefined
  try {
    const outcome = await store(state, wal, whole)
    state.present.add(wal.key)
    if (outcome !== 'found') state.counts.bytes += whole.stored.length
    return outcome
  } catch (error) {
    if (!isFailure(error, 'TM1402') && !isDamage(error)) throw error
    addProblem(state, 'target', wal.key, error)
    return undefined
  }
}

interface WholeWal {
  readonly stored: Uint8Array
  readonly object: WalObject
}

async function readWhole(state: SyncState, wal: PlannedWal): Promise<WholeWal | undefined> {
  try {
    const stored = await state.source.read(wal.key)
    // The expiry of the source may take WAL that no backup of ours needs.
    if (stored === undefined) return undefined
    return { stored, object: decodeNamedWal(wal, stored) }
  } catch (error) {
    if (!isDamage(error)) throw error
    addProblem(state, 'source', wal.key, error)
    return undefined
  }
}

async function store(
  { target, cluster }: SyncState,
  wal: PlannedWal,
  { stored, object }: WholeWal,
): Promise<StoreOutcome> {
  const toStore: WalToStore = {
    cluster,
    systemIdentifier: wal.systemIdentifier,
    file: wal.file,
    contentHash: object.contentHash,
    hash16: wal.hash16,
    bytes: () => stored,
  }
  if (wal.folder !== 'quarantine') return await storeWal(target, toStore)
  await quarantineWal(target, toStore)
  return wal.was === 'missing' ? 'stored' : 'replaced'
}
