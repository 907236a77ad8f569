/**
 * Pages of the visibility map that a heap record changes without naming them: replay clears the
 * bits of the heap page (visibilitymap_clear in heap_redo). PostgreSQL: heapam_xlog.h
 * (XLH_…_ALL_VISIBLE_CLEARED, XLH_LOCK_ALL_FROZEN_CLEARED), visibilitymap.c.
 */
import type { RecordParts } from '../../postgres/wal-blocks.ts'
import type { HeapChange } from '../../postgres/wal-heap.ts'

/** (8192 − 24) bytes with two bits for each heap page. */
const HEAP_PAGES_PER_MAP_PAGE = 32_672

const NONE: readonly number[] = []

export function clearedMapPages(change: HeapChange, record: RecordParts): readonly number[] {
  switch (change.kind) {
    case 'insert':
      return mapPages(record, record.mainU8(2) & 1)
    case 'multi-insert':
      return mapPages(record, record.mainU8(0) & 1)
    case 'delete':
    case 'lock':
    case 'lock-updated':
      return record.mainLength < 8 ? NONE : mapPages(record, record.mainU8(7) & 1)
    case 'update':
      return mapPages(record, record.mainU8(7) & 3)
    default:
      return NONE
  }
}

/** An update names the new row's page, and the old row's where that is another. */
function mapPages(record: RecordParts, flag: number): readonly number[] {
  if (flag === 0) return NONE
  const pages = Array.from({ length: record.blocks }, (_, n) =>
    Math.floor((record.blockNumbers[n] as number) / HEAP_PAGES_PER_MAP_PAGE),
  )
  return pages
}
