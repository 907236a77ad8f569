/**
 * One WAL record, whole in memory: its header, its checksum, and where its main data lie.
 * PostgreSQL: access/xlogrecord.h, ValidXLogRecordHeader, ValidXLogRecord,
 * DecodeXLogRecord.
 *
 * | offset | size | record header |
 * |---|---|---|
 * | 0 | 4 | xl_tot_len, header included |
 * | 4 | 4 | xl_xid |
 * | 8 | 8 | xl_prev, LSN of the record before |
 * | 16 | 1 | xl_info |
 * | 17 | 1 | xl_rmid |
 * | 18 | 2 | padding |
 * | 20 | 4 | xl_crc: CRC-32C of bytes 24… and then of bytes 0–19 |
 *
 * Then come headers of blocks and of the main data, then block images and data, then the
 * main data, which end the record.
 */
import { recordCrc32c } from './record-checksum.ts'

export const RECORD_HEADER_BYTES = 24
const CRC_OFFSET = 20

/** MAXALIGN: records begin at multiples of 8. */
export function alignRecord(length: number): number {
  return Math.ceil(length / 8) * 8
}

/** Resource managers that every supported version has under the same number (rmgrlist.h). */
export const RESOURCE_MANAGER_NAMES = [
  'XLOG',
  'Transaction',
  'Storage',
  'CLOG',
  'Database',
  'Tablespace',
  'MultiXact',
  'RelMap',
  'Standby',
  'Heap2',
  'Heap',
  'Btree',
  'Hash',
  'Gin',
  'Gist',
  'Sequence',
  'SPGist',
  'BRIN',
  'CommitTs',
  'ReplicationOrigin',
  'Generic',
  'LogicalMessage',
] as const

export const RM_XLOG = 0
export const RM_TRANSACTION = 1
export const RM_DATABASE = 4
export const RM_TABLESPACE = 5

/** Extensions may bring their own resource managers from 15 on (rmgr.h). */
const FIRST_CUSTOM_RESOURCE_MANAGER = 128

export function isResourceManager(id: number, major: number): boolean {
  if (id < RESOURCE_MANAGER_NAMES.length) return true
  return major >= 15 && id >= FIRST_CUSTOM_RESOURCE_MANAGER
}

/** The high four bits of xl_info belong to the resource manager (XLR_RMGR_INFO_MASK). */
export function recordOperation(info: number): number {
  return info & 0xf0
}

/** Does the record's checksum hold? `record` is exactly the record. */
export function isRecordIntact(record: Buffer): boolean {
  const body = recordCrc32c(record, RECORD_HEADER_BYTES, record.length)
  return recordCrc32c(record, 0, CRC_OFFSET, body) === record.readUInt32LE(CRC_OFFSET)
}

const BLOCK_ID_MAX = 32
const ID_TOP_LEVEL_XID = 252
const ID_ORIGIN = 253
const ID_DATA_LONG = 254
const ID_DATA_SHORT = 255
const BLOCK_HAS_IMAGE = 0x10
const BLOCK_SAME_RELATION = 0x80
const IMAGE_HAS_HOLE = 0x01
const RELATION_LOCATOR_BYTES = 12

/**
 * The main data of a record whose checksum holds; undefined when its headers do not add
 * up. A record without main data has an empty one.
 */
export function mainDataOf(record: Buffer, major: number): Buffer | undefined {
  let at = RECORD_HEADER_BYTES
  let behind = 0
  while (record.length - at > behind) {
    const header = readPartHeader(record, at, major)
    if (header === undefined) return undefined
    at += header.bytes
    behind += header.dataBytes
    if (header.isMainData) {
      if (record.length - at !== behind) return undefined
      return record.subarray(record.length - header.dataBytes)
    }
  }
  return record.length - at === behind ? record.subarray(record.length) : undefined
}

interface PartHeader {
  readonly bytes: number
  /** What the part has among the data behind the headers. */
  readonly dataBytes: number
  readonly isMainData: boolean
}

function readPartHeader(record: Buffer, at: number, major: number): PartHeader | undefined {
  const id = record[at] as number
  const left = record.length - at
  if (id === ID_DATA_SHORT && left >= 2) {
    return { bytes: 2, dataBytes: record[at + 1] as number, isMainData: true }
  }
  if (id === ID_DATA_LONG && left >= 5) {
    return { bytes: 5, dataBytes: record.readUInt32LE(at + 1), isMainData: true }
  }
  if (id === ID_ORIGIN) return { bytes: 3, dataBytes: 0, isMainData: false }
  if (id === ID_TOP_LEVEL_XID) return { bytes: 5, dataBytes: 0, isMainData: false }
  if (id <= BLOCK_ID_MAX) return readBlockHeader(record, at, major)
  return undefined
}

/** XLogRecordBlockHeader, its image header, relation and block number. */
function readBlockHeader(record: Buffer, at: number, major: number): PartHeader | undefined {
  const left = record.length - at
  if (left < 4) return undefined
  const flags = record[at + 1] as number
  let dataBytes = record.readUInt16LE(at + 2)
  let bytes = 4
  if ((flags & BLOCK_HAS_IMAGE) !== 0) {
    if (left < 9) return undefined
    const imageFlags = record[at + 8] as number
    dataBytes += record.readUInt16LE(at + 4)
    const bothHoles = (imageFlags & IMAGE_HAS_HOLE) !== 0 && isCompressed(imageFlags, major)
    bytes += bothHoles ? 7 : 5
  }
  if ((flags & BLOCK_SAME_RELATION) === 0) bytes += RELATION_LOCATOR_BYTES
  bytes += 4
  return left < bytes ? undefined : { bytes, dataBytes, isMainData: false }
}

/** 15 gave pglz, lz4 and zstd a bit each; before, one bit meant compressed. */
function isCompressed(imageFlags: number, major: number): boolean {
  return (imageFlags & (major >= 15 ? 0x1c : 0x02)) !== 0
}
