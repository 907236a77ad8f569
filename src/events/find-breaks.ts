/** Which records of a segment end the window, or are said with it. Pure. */
import type { WalBreak } from '../archive/break-mark.ts'
import { lsnAt } from './build-index.ts'
import type { SegmentIndex } from './segment-index.ts'

/**
 * All changes to wal_level=minimal, since a backup may have begun between two of them. Of
 * full_page_writes=off one is enough. The first segment of all begins anew with initdb.
 */
export function findBreaks({ header, events }: SegmentIndex): WalBreak[] {
  const { timeline, segmentStart, walSegmentSizeBytes } = header
  const found: WalBreak[] = []
  for (const { offset, content } of events.others) {
    const at = { timeline, lsn: lsnAt(header, offset) }
    if (content.kind === 'parameters' && content.walLevel === 'minimal') {
      found.push({ ...at, kind: 'minimal' })
    }
    if (content.kind === 'checkpoint' && content.isFirst) {
      if (segmentStart > BigInt(walSegmentSizeBytes)) found.push({ ...at, kind: 'reset' })
    }
    if (content.kind === 'full-page-writes' && !content.on) {
      if (!found.some(({ kind }) => kind === 'fpw-off')) found.push({ ...at, kind: 'fpw-off' })
    }
  }
  return found
}
