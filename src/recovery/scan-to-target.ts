/**
 * The archived WAL of a path, shown to a search for a target, in recovery's terms. Reading
 * and its faults are archive/scan-wal.ts.
 */
import type { WalListing } from '../archive/list-wal.ts'
import { type ScanEnd, type ScanWalOptions, scanWal } from '../archive/scan-wal.ts'
import type { Progress } from '../base/progress.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import type { Lsn } from '../postgres/lsn.ts'
import type { WalEvent } from '../postgres/wal-event.ts'
import type { PassedOverListener } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { RecordPlace, WalEnd } from './judge-target.ts'

export interface WalSource {
  readonly storages: readonly Storage[]
  readonly onPassedOver?: PassedOverListener
  readonly cluster: string
  readonly archive: WalListing
  readonly path: TimelineHistory
  readonly progress: Progress
}

export interface RecordVisitor {
  /** True: stop. */
  visit(record: RecordPlace, event: WalEvent | undefined): boolean
}

export interface WalScan {
  readonly end: WalEnd
  /** Names of the segments that were read, in order. */
  readonly segments: readonly string[]
  /** Those of them of which only what was flushed was there. */
  readonly tails: readonly { readonly name: string; readonly endLsn: Lsn }[]
}

export async function scanToTarget(
  source: WalSource,
  start: ScanWalOptions['start'],
  visitor: RecordVisitor,
): Promise<WalScan> {
  const { storages, cluster, archive, path, progress } = source
  const { systemIdentifier, walSegmentSizeBytes } = archive
  const segments: string[] = []
  const tails: { name: string; endLsn: Lsn }[] = []
  const end = await scanWal({
    storages,
    onPassedOver: source.onPassedOver,
    cluster,
    systemIdentifier,
    walSegmentSizeBytes,
    path,
    start,
    visit: (record, event) => visitor.visit(record, event),
    onSegment(name, _bytes, tail) {
      segments.push(name)
      if (tail !== undefined) tails.push({ name, endLsn: tail.endLsn })
      progress.advance(1)
    },
  })
  return { end: walEndOf(end), segments, tails }
}

function walEndOf({ reason, fault }: ScanEnd): WalEnd {
  if (fault !== undefined) {
    const { firstSegment: first, lastSegment: last, failure } = fault
    if (reason === 'hole') return { kind: 'hole', first, last }
    return { kind: 'damage', segment: first, because: `${failure.message}: ${failure.because}` }
  }
  return { kind: reason === 'stopped' ? 'stopped' : 'archive-end' }
}
