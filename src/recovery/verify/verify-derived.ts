/**
 * Event indexes and snapshots of names. No restore needs them, and what an index said can be
 * computed again, so damage here is a note and no finding.
 */
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
  const indexes = damaged.filter((key) => parseEventsKey(key) !== undefined)
  if (indexes.length > 0) {
    const which = indexes.length === 1 ? indexes[0] : `${indexes.length} event indexes`
    notes.push(
      `damaged, and of no concern to a restore: ${which}; compute again: ${REBUILD} ${cluster}`,
    )
  }
  for (const key of damaged.filter((one) => parseEventsKey(one) === undefined)) {
    notes.push(`damaged, and of no concern to a restore: ${key}; it may be removed`)
  }
}

const REBUILD = 'tidemark wal index --rebuild'

async function isWhole(state: VerifyState, key: string): Promise<boolean> {
  const { storage, cluster } = state
  try {
    const bytes = await storage.read(key)
    // It has expired since it was listed.
    if (bytes === undefined) return true
    const name = parseEventsKey(key)
    const systemIdentifier = /\/(?:events|names)\/(\d+)\//.exec(key)?.[1] ?? ''
    if (name === undefined) parseNamesSnapshot(key, bytes)
    else proveIndex(key, name, { cluster, systemIdentifier }, bytes)
    countObject(state, key, bytes.length)
    return true
  } catch (error) {
    if (isFailure(error, 'TM1601') || error instanceof SyntaxError) return false
    throw error
  }
}
