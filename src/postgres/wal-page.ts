/**
 * Headers of WAL pages. PostgreSQL: access/xlog_internal.h (XLogPageHeaderData,
 * XLogLongPageHeaderData), XLogReaderValidatePageHeader.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 2 | xlp_magic, one value per major version |
 * | 2 | 2 | xlp_info |
 * | 4 | 4 | xlp_tli, timeline of the page's first record |
 * | 8 | 8 | xlp_pageaddr, LSN of the page |
 * | 16 | 4 | xlp_rem_len, bytes of a record that began on an earlier page |
 * | 24 | 8 | xlp_sysid (long header only, as all below) |
 * | 32 | 4 | xlp_seg_size |
 * | 36 | 4 | xlp_xlog_blcksz |
 */
import { type Lsn, lsn, type Timeline } from './lsn.ts'
import { POSTGRES_VERSIONS } from './versions.ts'

export const WAL_PAGE_BYTES = 8192
export const SHORT_HEADER_BYTES = 24
export const LONG_HEADER_BYTES = 40

const FIRST_IS_CONTRECORD = 0x0001
const LONG_HEADER = 0x0002
const FIRST_IS_OVERWRITE_CONTRECORD = 0x0008
const ALL_FLAGS = 0x000f

const MAJOR_OF_MAGIC: ReadonlyMap<number, number> = new Map(
  POSTGRES_VERSIONS.map((version) => [version.walPageMagic, version.major]),
)

export interface WalPageHeader {
  /** Major version of the server that wrote the page. */
  readonly major: number
  readonly timeline: Timeline
  readonly address: Lsn
  readonly remainingBytes: number
  readonly isContinuation: boolean
  readonly isOverwrittenContinuation: boolean
  /** Where records begin on this page. */
  readonly headerBytes: number
  readonly long: LongHeader | undefined
}

export interface LongHeader {
  readonly systemIdentifier: bigint
  readonly walSegmentSizeBytes: number
  readonly walBlockSizeBytes: number
}

/** Reads the header of the page at `offset`; undefined when there is none. */
export function parseWalPageHeader(bytes: Uint8Array, offset = 0): WalPageHeader | undefined {
  if (offset + LONG_HEADER_BYTES > bytes.length) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, LONG_HEADER_BYTES)
  const major = MAJOR_OF_MAGIC.get(view.getUint16(0, true))
  const info = view.getUint16(2, true)
  if (major === undefined || (info & ~ALL_FLAGS) !== 0) return undefined
  const isLong = (info & LONG_HEADER) !== 0
  return {
    major,
    timeline: view.getUint32(4, true),
    address: lsn(view.getBigUint64(8, true)),
    remainingBytes: view.getUint32(16, true),
    isContinuation: (info & FIRST_IS_CONTRECORD) !== 0,
    isOverwrittenContinuation: (info & FIRST_IS_OVERWRITE_CONTRECORD) !== 0,
    headerBytes: isLong ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES,
    long: isLong ? readLongHeader(view) : undefined,
  }
}

function readLongHeader(view: DataView): LongHeader {
  return {
    systemIdentifier: view.getBigUint64(24, true),
    walSegmentSizeBytes: view.getUint32(32, true),
    walBlockSizeBytes: view.getUint32(36, true),
  }
}

/** PostgreSQL's IsValidWalSegSize: a power of two from 1 MB to 1 GB. */
export function isWalSegmentSize(bytes: number): boolean {
  const inRange = bytes >= 1024 * 1024 && bytes <= 1024 * 1024 * 1024
  return inRange && (bytes & (bytes - 1)) === 0
}
