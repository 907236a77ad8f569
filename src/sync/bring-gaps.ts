/**
 * Brings gap records: what the receiver found to be missing for ever is true of every
 * repository, and few. Each is proved on the way.
 */
import { gapPrefix, parseGap, writeGap } from '../archive/gap-record.ts'
import { isDamage } from './damage.ts'
import { addProblem, type SyncState } from './sync-state.ts'

export async function bringGaps(state: SyncState, systemIdentifier: string): Promise<void> {
  const { source, target, cluster } = state
  for await (const { key, sizeBytes } of source.list(gapPrefix(cluster, systemIdentifier))) {
    state.signal.throwIfAborted()
    if ((await target.size(key)) !== undefined) continue
    try {
      const bytes = await source.read(key)
      if (bytes === undefined) continue
      await writeGap(target, cluster, parseGap(key, bytes))
      state.counts.others++
      state.counts.bytes += sizeBytes
    } catch (error) {
      if (!isDamage(error)) throw error
      addProblem(state, 'source', key, error)
    }
  }
}
