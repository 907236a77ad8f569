/**
 * Synthetic WAL segments for tests: valid page headers, and records that a test writes.
 * PostgreSQL: XLogPageHeaderData, AdvanceXLInsertBuffer, CopyXLogRecordToWAL.
 */
import { crc32c } from '../../src/postgres/crc32c.ts'
import { formatSegmentName } from '../../src/postgres/lsn.ts'

export const MB = 1024 * 1024
export const PAGE = 8192
export const MAGIC_15 = 0xd110

export interface SegmentSpecification {
  readonly systemIdentifier?: bigint
  readonly timeline?: number
  /** Timeline in the page headers, when it is not the name's. */
  readonly headerTimeline?: number
  readonly segment?: bigint
  readonly sizeBytes?: number
  /** One byte in the last page, so that segments differ. */
  readonly mark?: number
  readonly magic?: number
}

export const SYSTEM = 7_400_000_000_000_000_001n

/** A segment with a valid header on every page and no record. */
export function buildSegment(specification: SegmentSpecification = {}): Buffer {
  const { timeline = 1, segment = 1n, sizeBytes = MB, magic = MAGIC_15 } = specification
  const bytes = Buffer.alloc(sizeBytes)
  for (let offset = 0; offset < sizeBytes; offset += PAGE) {
    bytes.writeUInt16LE(magic, offset)
    bytes.writeUInt16LE(offset === 0 ? 2 : 0, offset + 2)
    bytes.writeUInt32LE(specification.headerTimeline ?? timeline, offset + 4)
    bytes.writeBigUInt64LE(segment * BigInt(sizeBytes) + BigInt(offset), offset + 8)
  }
  bytes.writeBigUInt64LE(specification.systemIdentifier ?? SYSTEM, 24)
  bytes.writeUInt32LE(sizeBytes, 32)
  bytes.writeUInt32LE(PAGE, 36)
  bytes.writeUInt8(specification.mark ?? 0, sizeBytes - 1)
  return bytes
}

export function segmentName(specification: SegmentSpecification = {}): string {
  const { timeline = 1, segment = 1n, sizeBytes = MB } = specification
  return formatSegmentName(timeline, segment, sizeBytes)
}

export interface RecordSpecification {
  readonly xid?: number
  readonly info: number
  readonly resourceManager: number
  readonly mainData: Uint8Array
}

/** The bytes of one WAL record without block references (XLogRecordAssemble). */
export function buildRecord(specification: RecordSpecification, previous: bigint): Buffer {
  const { mainData } = specification
  const long = mainData.length > 255
  const head = Buffer.alloc(mainData.length === 0 ? 0 : long ? 5 : 2)
  if (long) {
    head.writeUInt8(254, 0)
    head.writeUInt32LE(mainData.length, 1)
  } else if (mainData.length > 0) {
    head.writeUInt8(255, 0)
    head.writeUInt8(mainData.length, 1)
  }
  const body = Buffer.concat([head, mainData])
  const header = Buffer.alloc(24)
  header.writeUInt32LE(24 + body.length, 0)
  header.writeUInt32LE(specification.xid ?? 0, 4)
  header.writeBigUInt64LE(previous, 8)
  header.writeUInt8(specification.info, 16)
  header.writeUInt8(specification.resourceManager, 17)
  header.writeUInt32LE(crc32c(header.subarray(0, 20), crc32c(body)), 20)
  return Buffer.concat([header, body])
}
