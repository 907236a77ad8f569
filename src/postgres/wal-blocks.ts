/**
 * What lies behind the header of a WAL record: references to blocks with images and data,
 * the origin, the top-level xid, the main data. PostgreSQL: access/xlogrecord.h,
 * DecodeXLogRecord.
 *
 * | size | header of a block reference |
 * |---|---|
 * | 1 | id, 0–32, growing |
 * | 1 | fork (low four bits), 0x10 image, 0x20 data, 0x40 made anew, 0x80 relation as before |
 * | 2 | length of the data |
 * | 2 + 2 + 1 | with an image: its length, offset of the hole, bimg_info |
 * | 2 | with an image that is compressed and has a hole: length of the hole |
 * | 4 + 4 + 4 | unless as before: tablespace, database, relation file number |
 * | 4 | block number |
 *
 * Other headers: 252 and the top-level xid (4); 253 and the origin (2); 254 and the length of
 * the main data (4); 255 and the same in one byte, always last. Then come, in the order of
 * the headers, of each block the image and the data, and then the main data.
 *
 * Pure. Invariant: what is handed out lies within the record, and all of the record is
 * accounted for; a record that does not add up is refused as a whole.
 */
import { walRecordFormat } from './versions.ts'
import type { WalRecord } from './wal-reader.ts'
import { RECORD_HEADER_BYTES } from './wal-record.ts'

const BLOCK_ID_MAX = 32
const BLOCKS_MAX = BLOCK_ID_MAX + 1
const ID_TOP_LEVEL_XID = 252
const ID_ORIGIN = 253
const ID_DATA_LONG = 254
const ID_DATA_SHORT = 255
const FORK_MASK = 0x0f
const HAS_IMAGE = 0x10
const HAS_DATA = 0x20
const WILL_INIT = 0x40
const SAME_RELATION = 0x80
const IMAGE_HAS_HOLE = 0x01
const PAGE_BYTES = 8192

/** By number; PostgreSQL's MAX_FORKNUM is 3. */
export const FORKS = ['main', 'fsm', 'vm', 'init'] as const

/** Byte of a record's header where xl_info lies. */
const INFO_AT = 16

/**
 * A record taken apart in place. Made once and used for record after record: nothing is
 * allocated, and arrays hold as many blocks as `blocks` says. Offsets count from the start
 * of `bytes`, which is what the record was read from.
 */
export class RecordParts {
  bytes: Uint8Array = new Uint8Array(0)
  /** Offset of the record's header. */
  start = 0
  totalLength = 0
  xid = 0
  info = 0
  resourceManager = 0
  major = 0
  blocks = 0
  readonly ids: Uint8Array = new Uint8Array(BLOCKS_MAX)
  readonly forks: Uint8Array = new Uint8Array(BLOCKS_MAX)
  /** fork_flags as they are, with the fork. */
  readonly flags: Uint8Array = new Uint8Array(BLOCKS_MAX)
  readonly tablespaces: Uint32Array = new Uint32Array(BLOCKS_MAX)
  readonly databases: Uint32Array = new Uint32Array(BLOCKS_MAX)
  readonly relations: Uint32Array = new Uint32Array(BLOCKS_MAX)
  readonly blockNumbers: Uint32Array = new Uint32Array(BLOCKS_MAX)
  readonly imageFlags: Uint8Array = new Uint8Array(BLOCKS_MAX)
  readonly imageOffsets: Uint32Array = new Uint32Array(BLOCKS_MAX)
  readonly imageLengths: Uint16Array = new Uint16Array(BLOCKS_MAX)
  readonly holeOffsets: Uint16Array = new Uint16Array(BLOCKS_MAX)
  readonly holeLengths: Uint16Array = new Uint16Array(BLOCKS_MAX)
  readonly dataOffsets: Uint32Array = new Uint32Array(BLOCKS_MAX)
  readonly dataLengths: Uint16Array = new Uint16Array(BLOCKS_MAX)
  mainOffset = 0
  mainLength = 0
  /** Replication origin; 0 for none. */
  origin = 0
  /** Of a subtransaction's first record where the server says it; 0 for none. */
  topLevelXid = 0

  /** False: its headers do not add up. */
  read(record: WalRecord): boolean {
    return this.readAt(record.bytes, 0, record.totalLength, record.major)
  }

  readAt(bytes: Uint8Array, start: number, totalLength: number, major: number): boolean {
    this.bytes = bytes
    this.start = start
    this.totalLength = totalLength
    this.xid = readU32(bytes, start + 4)
    this.info = bytes[start + INFO_AT] as number
    this.resourceManager = bytes[start + INFO_AT + 1] as number
    this.major = major
    this.blocks = 0
    this.mainLength = 0
    this.origin = 0
    this.topLevelXid = 0
    const headersEnd = this.#readHeaders(start + totalLength)
    return headersEnd >= 0 && this.#placeData(headersEnd)
  }

  /** The image of block n is a whole page that replay puts in place. */
  isImageApplied(n: number): boolean {
    const bit = walRecordFormat(this.major).imageApplyBit
    return this.hasImage(n) && ((this.imageFlags[n] as number) & bit) !== 0
  }

  hasImage(n: number): boolean {
    return ((this.flags[n] as number) & HAS_IMAGE) !== 0
  }

  /** Replay makes the page anew. */
  willInit(n: number): boolean {
    return ((this.flags[n] as number) & WILL_INIT) !== 0
  }

  /** Index of the reference with this id, or -1. */
  blockWithId(id: number): number {
    for (let n = 0; n < this.blocks; n++) if (this.ids[n] === id) return n
    return -1
  }

  mainU8(at: number): number {
    return this.bytes[this.mainOffset + at] as number
  }

  mainU16(at: number): number {
    return readU16(this.bytes, this.mainOffset + at)
  }

  mainU32(at: number): number {
    return readU32(this.bytes, this.mainOffset + at)
  }

  /** Where the headers end; -1: they do not add up. */
  #readHeaders(end: number): number {
    const { bytes } = this
    let at = this.start + RECORD_HEADER_BYTES
    let behind = 0
    let lastId = -1
    // DecodeXLogRecord: headers are read while more is left than data are announced.
    while (end - at > behind) {
      const id = bytes[at] as number
      if (id <= BLOCK_ID_MAX) {
        if (id <= lastId) return -1
        lastId = id
        at = this.#readBlockHeader(at, end)
        if (at < 0) return -1
        const n = this.blocks - 1
        behind += (this.imageLengths[n] as number) + (this.dataLengths[n] as number)
        continue
      }
      const length = this.#otherHeaderBytes(id)
      if (length === 0 || at + length > end) return -1
      if (id === ID_ORIGIN) this.origin = readU16(bytes, at + 1)
      else if (id === ID_TOP_LEVEL_XID) this.topLevelXid = readU32(bytes, at + 1)
      else {
        this.mainLength = id === ID_DATA_SHORT ? (bytes[at + 1] as number) : readU32(bytes, at + 1)
        at += length
        return end - at === behind + this.mainLength ? at : -1
      }
      at += length
    }
    return end - at === behind ? at : -1
  }

  /** Where the header ends; -1: it is none. */
  #readBlockHeader(start: number, end: number): number {
    const { bytes, blocks: n } = this
    if (start + 4 > end) return -1
    const flags = bytes[start + 1] as number
    const dataLength = readU16(bytes, start + 2)
    if ((flags & FORK_MASK) >= FORKS.length) return -1
    if ((flags & HAS_DATA) === 0 ? dataLength !== 0 : dataLength === 0) return -1
    this.ids[n] = bytes[start] as number
    this.flags[n] = flags
    this.forks[n] = flags & FORK_MASK
    this.dataLengths[n] = dataLength
    this.imageLengths[n] = 0
    let at = start + 4
    if ((flags & HAS_IMAGE) !== 0) at = this.#readImageHeader(at, end)
    if (at < 0) return -1
    const isSame = (flags & SAME_RELATION) !== 0
    if ((isSame && n === 0) || at + (isSame ? 4 : 16) > end) return -1
    this.tablespaces[n] = isSame ? (this.tablespaces[n - 1] as number) : readU32(bytes, at)
    this.databases[n] = isSame ? (this.databases[n - 1] as number) : readU32(bytes, at + 4)
    this.relations[n] = isSame ? (this.relations[n - 1] as number) : readU32(bytes, at + 8)
    if (!isSame) at += 12
    this.blockNumbers[n] = readU32(bytes, at)
    this.blocks = n + 1
    return at + 4
  }

  #readImageHeader(at: number, end: number): number {
    const { bytes, blocks: n } = this
    if (at + 5 > end) return -1
    const length = readU16(bytes, at)
    const imageFlags = bytes[at + 4] as number
    const hasHole = (imageFlags & IMAGE_HAS_HOLE) !== 0
    const isCompressed = (imageFlags & walRecordFormat(this.major).imageCompressedBits) !== 0
    if (hasHole && isCompressed && at + 7 > end) return -1
    const holeLength = !hasHole ? 0 : isCompressed ? readU16(bytes, at + 5) : PAGE_BYTES - length
    const holeOffset = readU16(bytes, at + 2)
    // Cross-checks of DecodeXLogRecord: a hole is one, and what is stored is less than a page.
    if (hasHole ? holeOffset === 0 || holeLength === 0 : holeOffset !== 0) return -1
    if (hasHole || isCompressed ? length >= PAGE_BYTES : length !== PAGE_BYTES) return -1
    this.imageFlags[n] = imageFlags
    this.imageLengths[n] = length
    this.holeOffsets[n] = holeOffset
    this.holeLengths[n] = holeLength
    return at + (hasHole && isCompressed ? 7 : 5)
  }

  /** Length of the header with its id; 0: there is no such id in this version. */
  #otherHeaderBytes(id: number): number {
    if (id === ID_DATA_SHORT) return 2
    if (id === ID_ORIGIN) return 3
    if (id === ID_DATA_LONG) return 5
    return id === ID_TOP_LEVEL_XID && walRecordFormat(this.major).hasTopLevelXid ? 5 : 0
  }

  #placeData(headersEnd: number): boolean {
    let at = headersEnd
    for (let n = 0; n < this.blocks; n++) {
      this.imageOffsets[n] = at
      at += this.imageLengths[n] as number
      this.dataOffsets[n] = at
      at += this.dataLengths[n] as number
    }
    this.mainOffset = at
    return true
  }
}

export interface BlockReference {
  readonly id: number
  readonly fork: (typeof FORKS)[number]
  readonly tablespace: number
  readonly database: number
  readonly relation: number
  readonly block: number
  readonly hasImage: boolean
  /** False also where the image is there for a consistency check only. */
  readonly isImageApplied: boolean
  readonly willInit: boolean
  readonly dataLength: number
}

/**
 * The blocks that a record refers to, as objects; undefined when its headers do not add up.
 * Where every record is looked at, RecordParts is made for it.
 */
export function blocksOf(record: WalRecord): BlockReference[] | undefined {
  if (!SCRATCH.read(record)) return undefined
  const parts = SCRATCH
  return Array.from({ length: parts.blocks }, (_, n) => ({
    id: parts.ids[n] as number,
    fork: FORKS[parts.forks[n] as number] as (typeof FORKS)[number],
    tablespace: parts.tablespaces[n] as number,
    database: parts.databases[n] as number,
    relation: parts.relations[n] as number,
    block: parts.blockNumbers[n] as number,
    hasImage: parts.hasImage(n),
    isImageApplied: parts.isImageApplied(n),
    willInit: parts.willInit(n),
    dataLength: parts.dataLengths[n] as number,
  }))
}

const SCRATCH = new RecordParts()

/**
 * The main data of a record whose checksum holds; undefined when its headers do not add
 * up. A record without main data has an empty one.
 */
export function mainDataOf(record: WalRecord): Buffer | undefined {
  if (!SCRATCH.read(record)) return undefined
  return record.bytes.subarray(SCRATCH.mainOffset, SCRATCH.mainOffset + SCRATCH.mainLength)
}

function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
}

function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  )
}
