/**
 * Event indexes, break marks and snapshots of names. No restore needs them, and what is derived
 * from a segment can be computed again, so damage here is a note and no finding.
 */
import { parseBreakKey, proveBreak } from '../../archive/break-mark.ts'
import { isFailure } from '../../base/failure.ts'
import { parseEventsKey } from '../../events/index-keys.ts'
import { parseNamesSnapshot } from '../../events/names-snapshot.ts'
import { proveIndex } from '../../events/store-index.ts'
import { countObject, type VerifyState } from './verify-state.ts'

/** Only where everything is looked at: an incremental run has better uses for its time. */
export async function verifyDerived(state: VerifyState, mode: string): Promise<void> {
  const { inventory, notes, cluster, signal } = state
  if (mode !== 'full') return
  const damaged: string[] = []
  for (const key of inventory.derived) {
    signal.throwIfAborted()
    if (!(await isWhole(state, key))) damaged.push(key)
  }
  const indexes = damaged.filter(isOfSegment)
  if (indexes.length > 0) {
    const which = indexes.length === 1 ? indexes[0] : `${indexes.length} objects derived from WAL`
    notes.push(
      `damaged, and of no concern to a restore: ${which}; compute again: ${REBUILD} ${cluster}`,
    )
  }
  for (const key of damaged.filter((one) => !isOfSegment(one))) {
    notes.push(`damaged, and of no concern to a restore: ${key}; it may be removed`)
  }
}

function isOfSegment(key: string): boolean {
  return parseEventsKey(key) !== undefined || parseBreakKey(key) !== undefined
}

const REBUILD = 'tidemark wal index --rebuild'

async function isWhole(state: VerifyState, key: string): Promise<boolean> {
  const { storage, cluster } = state
  try {
    const bytes = await storage.read(key)
    // It has expired since it was listed.
    if (bytes === undefined) return true
    const name = parseEventsKey(key)
    const systemIdentifier = /\/(?:events|names|wal)\/(\d+)\//.exec(key)?.[1] ?? ''
    if (parseBreakKey(key) !== undefined) proveBreak(key, systemIdentifier, bytes)
    else if (name === undefined) parseNamesSnapshot(key, bytes)
    else proveIndex(key, name, { cluster, systemIdentifier }, bytes)
    countObject(state, key, bytes.length)
    return true
  } catch (error) {
    if (isFailure(error, 'TM1601') || error instanceof SyntaxError) return false
    throw error
  }
}
