/**
 * Brings event indexes of segments that the target has, and snapshots of names. They are derived,
 * so what is damaged stays where it is, and nothing waits for them.
 */
import { segmentKey } from '../archive/wal-file-name.ts'
import { isFailure } from '../base/failure.ts'
import { findEdges } from '../events/find-breaks.ts'
import { parseEventsKey } from '../events/index-keys.ts'
import { parseNamesSnapshot } from '../events/names-snapshot.ts'
import { markCrossingBreaks } from '../events/store-derived.ts'
import { proveIndex } from '../events/store-index.ts'
import { clusterPrefix } from '../repository/keys.ts'
import { compareListings } from './compare-listings.ts'
import { runLimited } from './run-limited.ts'
import type { SyncState } from './sync-state.ts'

const OBJECTS_AT_ONCE = 4

export async function bringDerived(state: SyncState): Promise<void> {
  const { cluster } = state
  for (const folder of ['events', 'names']) {
    const missing = listMissing(state, `${clusterPrefix(cluster)}${folder}/`)
    await runLimited(missing, OBJECTS_AT_ONCE, async (key) => {
      state.signal.throwIfAborted()
      const bytes = await findWhole(state, key)
      if (bytes === undefined || !(await isWanted(state, key))) return
      await markBreaks(state, key, bytes)
      await state.target.write(key, bytes)
      state.counts.bytes += bytes.length
    })
  }
}

async function* listMissing({ source, target }: SyncState, prefix: string): AsyncGenerator<string> {
  for await (const object of compareListings(source.list(prefix), target.list(prefix))) {
    if (object.source !== undefined && object.target === undefined) yield object.key
  }
}

function systemOf(key: string): string {
  return /\/(?:events|names)\/(\d+)\//.exec(key)?.[1] ?? ''
}

/** An index without its segment would be nobody's. */
async function isWanted({ target, cluster }: SyncState, key: string): Promise<boolean> {
  const name = parseEventsKey(key)
  if (name === undefined) return true
  return (await target.size(segmentKey(cluster, systemOf(key), name))) !== undefined
}

/** Beside what the target has: the source may lack the neighbour. */
async function markBreaks(state: SyncState, key: string, bytes: Uint8Array): Promise<void> {
  const name = parseEventsKey(key)
  if (name === undefined) return
  const archive = { cluster: state.cluster, systemIdentifier: systemOf(key) }
  const edges = findEdges(proveIndex(key, name, archive, bytes))
  await markCrossingBreaks(state.target, archive, name, edges)
}

/** Undefined: gone by now, damaged, or nothing that the format knows. */
async function findWhole(
  { source, cluster }: SyncState,
  key: string,
): Promise<Uint8Array | undefined> {
  try {
    const bytes = await source.read(key)
    if (bytes === undefined) return undefined
    const name = parseEventsKey(key)
    if (name === undefined) parseNamesSnapshot(key, bytes)
    else proveIndex(key, name, { cluster, systemIdentifier: systemOf(key) }, bytes)
    return bytes
  } catch (error) {
    if (isFailure(error, 'TM1601') || error instanceof SyntaxError) return undefined
    throw error
  }
}
