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

/** XLOG_SWITCH, and its resource manager. */
export const SWITCH = { info: 0x40, resourceManager: 0, mainData: new Uint8Array(0) }

export interface RecordSpecification {
  readonly xid?: number
  readonly info: number
  readonly resourceManager: number
  readonly mainData: Uint8Array
  /** All that is behind the record's header, in place of what `mainData` makes. */
  readonly body?: Uint8Array
  /** A checksum that does not hold. */
  readonly isDamaged?: boolean
}

/** The bytes of one WAL record (XLogRecordAssemble). */
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
  const body = Buffer.from(specification.body ?? Buffer.concat([head, mainData]))
  const header = Buffer.alloc(24)
  header.writeUInt32LE(24 + body.length, 0)
  header.writeUInt32LE(specification.xid ?? 0, 4)
  header.writeBigUInt64LE(previous, 8)
  header.writeUInt8(specification.info, 16)
  header.writeUInt8(specification.resourceManager, 17)
  const wrong = specification.isDamaged === true ? 1 : 0
  header.writeUInt32LE((crc32c(header.subarray(0, 20), crc32c(body)) ^ wrong) >>> 0, 20)
  return Buffer.concat([header, body])
}

export interface SyntheticWalOptions {
  readonly sizeBytes?: number
  readonly timeline?: number
  readonly firstSegment?: bigint
}

/** Writes records as a server does: across pages and segments, aligned, linked by xl_prev. */
export class SyntheticWal {
  readonly sizeBytes: number
  readonly segments = new Map<bigint, Buffer>()
  timeline: number
  /** Where the next byte goes; never within a page header. */
  position: bigint
  /** Start of the last record; 0 before the first. */
  last = 0n

  constructor(options: SyntheticWalOptions = {}) {
    this.sizeBytes = options.sizeBytes ?? MB
    this.timeline = options.timeline ?? 1
    this.position = (options.firstSegment ?? 1n) * BigInt(this.sizeBytes)
  }

  /** Returns the LSN of the record. */
  append(specification: RecordSpecification): bigint {
    this.#enterPage(0)
    const start = this.position
    this.#write(buildRecord(specification, this.last))
    this.position = ((this.position + 7n) / 8n) * 8n
    this.last = start
    if (specification.info === SWITCH.info && specification.resourceManager === 0) {
      this.#leaveSegment()
    }
    return start
  }

  /** Fills with records until `left` bytes remain of the page. */
  fillPage(left: number): void {
    this.#enterPage(0)
    const room = PAGE - Number(this.position % BigInt(PAGE)) - left
    const mainData = Buffer.alloc(room - 24 - (room - 26 > 255 ? 5 : 2), 0x5a)
    this.append({ info: 0, resourceManager: 21, mainData })
  }

  /** Forgets what was written from `position` on, as a crash does with what was not flushed. */
  cutAt(position: bigint): void {
    const size = BigInt(this.sizeBytes)
    for (const [number, bytes] of [...this.segments]) {
      if (number * size >= position) this.segments.delete(number)
      else if (number === position / size) bytes.fill(0, Number(position % size))
    }
    this.position = position
  }

  /** Begins the page at `position`, marked as replacing a continuation that was lost. */
  overwriteContinuation(): void {
    this.#enterPage(0, 8)
  }

  /** A copy of the segments up to `fork`, to go on with as another timeline. */
  fork(timeline: number): SyntheticWal {
    const copy = new SyntheticWal({ sizeBytes: this.sizeBytes, timeline })
    for (const [number, bytes] of this.segments) copy.segments.set(number, Buffer.from(bytes))
    copy.position = this.position
    copy.last = this.last
    return copy
  }

  #write(bytes: Buffer): void {
    let written = 0
    while (written < bytes.length) {
      if (written > 0) this.#enterPage(bytes.length - written)
      const segment = this.segments.get(this.position / BigInt(this.sizeBytes)) as Buffer
      const offset = Number(this.position % BigInt(this.sizeBytes))
      const length = Math.min(bytes.length - written, PAGE - (offset % PAGE))
      bytes.copy(segment, offset, written, written + length)
      written += length
      this.position += BigInt(length)
    }
  }

  /** At the start of a page: writes its header. */
  #enterPage(remaining: number, flags = 0): void {
    if (this.position % BigInt(PAGE) !== 0n) return
    const number = this.position / BigInt(this.sizeBytes)
    const offset = Number(this.position % BigInt(this.sizeBytes))
    if (!this.segments.has(number)) this.segments.set(number, Buffer.alloc(this.sizeBytes))
    const bytes = this.segments.get(number) as Buffer
    bytes.writeUInt16LE(MAGIC_15, offset)
    // XLP_BKP_REMOVABLE: set outside of backups.
    const removable = (offset / PAGE) % 3 === 0 ? 0 : 4
    const kind = (remaining > 0 ? 1 : 0) | (offset === 0 ? 2 : 0)
    bytes.writeUInt16LE(kind | removable | flags, offset + 2)
    bytes.writeUInt32LE(this.timeline, offset + 4)
    bytes.writeBigUInt64LE(this.position, offset + 8)
    bytes.writeUInt32LE(remaining, offset + 16)
    if (offset === 0) {
      bytes.writeBigUInt64LE(SYSTEM, 24)
      bytes.writeUInt32LE(this.sizeBytes, 32)
      bytes.writeUInt32LE(PAGE, 36)
    }
    this.position += offset === 0 ? 40n : 24n
  }

  /** The pages behind a switch have headers and nothing else (CopyXLogRecordToWAL). */
  #leaveSegment(): void {
    const size = BigInt(this.sizeBytes)
    while (this.position % size !== 0n) {
      const page = ((this.position + BigInt(PAGE) - 1n) / BigInt(PAGE)) * BigInt(PAGE)
      this.position = page
      if (page % size === 0n) return
      this.#enterPage(0)
    }
  }
}
