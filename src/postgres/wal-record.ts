/**
 * One WAL record, whole in memory: its header and its checksum; wal-blocks.ts knows
 * what is behind the header.
 * PostgreSQL: access/xlogrecord.h, ValidXLogRecordHeader, ValidXLogRecord.
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
import { walRecordFormat } from './versions.ts'

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
export const RM_STORAGE = 2
export const RM_DATABASE = 4
export const RM_TABLESPACE = 5
export const RM_RELATION_MAP = 7
export const RM_STANDBY = 8
export const RM_HEAP2 = 9
export const RM_HEAP = 10

/** Of extensions (rmgr.h). */
const FIRST_CUSTOM_RESOURCE_MANAGER = 128

export function isResourceManager(id: number, major: number): boolean {
  if (id < RESOURCE_MANAGER_NAMES.length) return true
  return walRecordFormat(major).hasCustomResourceManagers && id >= FIRST_CUSTOM_RESOURCE_MANAGER
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
