/**
 * Does the beginning of a segment look as if the WAL breaks there? A search for bytes, so that
 * `wal push` can ask it of every segment; whoever hears yes reads the records.
 *
 * Invariant: pure. A yes may be wrong, and a no says nothing of the rest of the segment. A server
 * that archives ends its segment when it stops, so that what it says when it starts again with
 * wal_level=minimal, and what pg_resetwal writes, is at the beginning of the next one.
 */
import { parseWalPageHeader, WAL_PAGE_BYTES } from '../postgres/wal-page.ts'

/** Of a segment: what is worth reading. */
export const BEGINNING_BYTES = 8 * WAL_PAGE_BYTES

const RM_XLOG = 0
const INFO_AT = 16
const PREVIOUS_AT = 8
/** Total length without an xid, as a record begins, and the kind of record. */
const SOUGHT = [
  { length: 54, info: 0x60 }, // XLOG_PARAMETER_CHANGE
  { length: 27, info: 0x80 }, // XLOG_FPW_CHANGE
] as const

export function mayBreak(beginning: Buffer): boolean {
  return beginsAnew(beginning) || SOUGHT.some((sought) => holds(beginning, sought))
}

/** The first record has none before it. */
function beginsAnew(beginning: Buffer): boolean {
  const header = parseWalPageHeader(beginning, 0)
  if (header === undefined || header.isContinuation) return false
  const record = header.headerBytes
  return (
    beginning.readUInt32LE(record) > 0 && beginning.readBigUInt64LE(record + PREVIOUS_AT) === 0n
  )
}

function holds(bytes: Buffer, { length, info }: (typeof SOUGHT)[number]): boolean {
  const begin = Buffer.alloc(8)
  begin.writeUInt32LE(length)
  for (let at = bytes.indexOf(begin); at >= 0; at = bytes.indexOf(begin, at + 1)) {
    if (at % 8 !== 0) continue
    // A page ends within the header: let it be read.
    if ((at % WAL_PAGE_BYTES) + INFO_AT >= WAL_PAGE_BYTES) return true
    const kind = (bytes[at + INFO_AT] ?? 0) & 0xf0
    if (kind === info && bytes[at + INFO_AT + 1] === RM_XLOG) return true
  }
  return false
}
