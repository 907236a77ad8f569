/**
 * Brings the marks of breaks in WAL that the target has. They are derived, so that what is damaged
 * stays where it is, and can be computed there.
 */
import { breakPrefix, parseBreakKey, proveBreak } from '../archive/break-mark.ts'
import { segmentKey } from '../archive/wal-file-name.ts'
import { isFailure } from '../base/failure.ts'
import { formatSegmentName, segmentNumber } from '../postgres/lsn.ts'
import type { SystemIdentity } from '../repository/system-identity.ts'
import type { SyncState } from './sync-state.ts'

export async function bringBreaks(
  state: Pick<SyncState, 'source' | 'target' | 'cluster' | 'signal' | 'counts'>,
  { systemIdentifier, walSegmentSizeBytes: size }: SystemIdentity,
): Promise<void> {
  const { source, target, cluster, signal, counts } = state
  for await (const { key, sizeBytes } of source.list(breakPrefix(cluster, systemIdentifier))) {
    signal.throwIfAborted()
    const mark = parseBreakKey(key)
    if (mark === undefined || (await target.size(key)) !== undefined) continue
    const name = formatSegmentName(mark.timeline, segmentNumber(mark.lsn, size), size)
    if ((await target.size(segmentKey(cluster, systemIdentifier, name))) === undefined) continue
    const bytes = await source.read(key)
    if (bytes === undefined || !isWhole(key, systemIdentifier, bytes)) continue
    await target.write(key, bytes)
    counts.others++
    counts.bytes += sizeBytes
  }
}

function isWhole(key: string, systemIdentifier: string, bytes: Uint8Array): boolean {
  try {
    proveBreak(key, systemIdentifier, bytes)
    return true
  } catch (error) {
    if (isFailure(error, 'TM1601') || error instanceof SyntaxError) return false
    throw error
  }
}
