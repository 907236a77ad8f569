/**
 * From the bytes of WAL segments to records, one after the other. PostgreSQL:
 * XLogDecodeNextRecord, XLogReaderValidatePageHeader.
 *
 * The caller gives one segment at a time and asks for records until the reader wants the
 * next one. Does no I/O. A record that lies across pages or segments is put together. Where
 * everything is regular the record kernel walks (wal-walk.ts); what is here says what WAL is.
 *
 * Invariant: a record is handed out only when its page headers, its length, its link to
 * the record before and (unless switched off) its checksum hold.
 */
import { type Lsn, lsn, type Timeline } from './lsn.ts'
import { parseWalPageHeader, WAL_PAGE_BYTES, type WalPageHeader } from './wal-page.ts'
import {
  alignRecord,
  isRecordIntact,
  isResourceManager,
  RECORD_HEADER_BYTES,
  RM_XLOG,
  recordOperation,
} from './wal-record.ts'
import { type RecordBatch, walkRecords } from './wal-walk.ts'

export interface WalReaderOptions {
  readonly walSegmentSizeBytes: number
  readonly systemIdentifier: bigint
  /**
   * `at`: exactly the start of a record (or of a page that begins with one).
   * `from`: anywhere; reading begins with the first record that starts there or later.
   */
  readonly start: { readonly at: Lsn } | { readonly from: Lsn }
  /** May a page be of this timeline? Timelines may never go back in any case. */
  readonly isOnPath?: (timeline: Timeline) => boolean
  /** False: checksums are not computed (the bytes are known to be those of the server). */
  readonly checksums?: boolean
  /** False: every record is read here, without the kernel; they are compared in tests. */
  readonly kernel?: boolean
}

export interface WalRecord {
  readonly lsn: Lsn
  /** First byte after the record, aligned; after a segment switch the next segment. */
  readonly endLsn: Lsn
  readonly previousLsn: Lsn
  readonly totalLength: number
  readonly xid: number
  readonly info: number
  readonly resourceManager: number
  /** Of the page where the record starts. */
  readonly timeline: Timeline
  readonly major: number
  /** The whole record; it and `previousLsn` hold until a reader of this thread goes on. */
  readonly bytes: Buffer
}

export type InvalidReason =
  | 'no-record'
  | 'bad-length'
  | 'bad-resource-manager'
  | 'bad-previous'
  | 'bad-checksum'
  | 'bad-page'
  | 'bad-continuation'
  | 'bad-overwrite'

export type WalReadResult =
  | { readonly kind: 'record'; readonly record: WalRecord }
  | { readonly kind: 'segment-needed'; readonly segment: bigint }
  | {
      readonly kind: 'invalid'
      readonly reason: InvalidReason
      /** Where the record starts that cannot be read. */
      readonly lsn: Lsn
      /** Where in the segment at hand the fault lies. */
      readonly faultLsn: Lsn
      /**
       * A later page of this segment was written: then this is no end of WAL but damage.
       */
      readonly isFollowedByWal: boolean
    }

export interface WalBatchResult {
  readonly kind: 'batch'
  /** At least one record; holds until a reader of this thread goes on. */
  readonly batch: RecordBatch
}

export interface WalReader {
  /** Gives the segment that was asked for. Its bytes must stay until the next one is. */
  give(segment: bigint, bytes: Uint8Array): void
  next(): WalReadResult
  /** As next(), but where many records follow each other they come at once. */
  nextBatch(): WalReadResult | WalBatchResult
  /** Start of the last record that was handed out. */
  lastLsn(): Lsn | undefined
  /** Where the next record starts. */
  position(): Lsn
}

export function createWalReader(options: WalReaderOptions): WalReader {
  return new SegmentWalReader(options)
}

/** XLOG_SWITCH: the rest of its segment holds nothing. */
const XLOG_SWITCH = 0x40
const XLOG_OVERWRITE_CONTRECORD = 0xd0

/** A record of which not all pages were seen yet. */
interface Assembly {
  readonly lsn: Lsn
  readonly timeline: Timeline
  readonly major: number
  readonly totalLength: number
  readonly bytes: Buffer
  got: number
}

class Invalid {
  readonly reason: InvalidReason
  constructor(reason: InvalidReason) {
    this.reason = reason
  }
}

class SegmentWalReader implements WalReader {
  readonly #options: WalReaderOptions
  readonly #size: number
  #segment: bigint
  /** LSN of the segment's first byte. */
  #base: bigint
  #bytes: Buffer | undefined
  /** Of the next record, or of the next page of an assembly; may equal the size. */
  #offset: number
  /** Skip what continues an earlier record, and records before this LSN. */
  #seek: bigint | undefined
  #assembly: Assembly | undefined
  #last: Lsn | undefined
  #page: WalPageHeader | undefined
  #pageOffset = -1
  #latestTimeline: Timeline = 0
  /** The record whose continuation the server has overwritten after a crash. */
  #overwritten: Lsn | undefined
  /** What the kernel walked over, of which #walkedNext is the next to hand out. */
  #walked: { readonly batch: RecordBatch; readonly generation: number } | undefined
  #walkedNext = 0

  constructor(options: WalReaderOptions) {
    this.#options = options
    this.#size = options.walSegmentSizeBytes
    const exact = 'at' in options.start
    const first = 'at' in options.start ? options.start.at : options.start.from
    this.#segment = first / BigInt(this.#size)
    this.#base = this.#segment * BigInt(this.#size)
    const offset = Number(first - this.#base)
    this.#offset = exact ? offset : offset - (offset % WAL_PAGE_BYTES)
    this.#seek = exact ? undefined : first
  }

  lastLsn(): Lsn | undefined {
    return this.#last
  }

  position(): Lsn {
    return this.#assembly?.lsn ?? this.#lsn(this.#offset)
  }

  give(segment: bigint, bytes: Uint8Array): void {
    if (segment !== this.#segment || bytes.length !== this.#size) {
      throw new Error(`segment ${segment} of ${bytes.length} bytes was not asked for`)
    }
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#pageOffset = -1
  }

  next(): WalReadResult {
    try {
      return this.#next()
    } catch (error) {
      return this.#describe(error)
    }
  }

  #describe(error: unknown): WalReadResult {
    if (!(error instanceof Invalid)) throw error
    return {
      kind: 'invalid',
      reason: error.reason,
      lsn: this.position(),
      faultLsn: this.#lsn(this.#offset),
      isFollowedByWal: this.#isFollowedByWal(),
    }
  }

  nextBatch(): WalReadResult | WalBatchResult {
    try {
      const batch = this.#walk()
      if (batch === undefined) return this.#next()
      this.#moveBehind(batch, batch.count - 1)
      return { kind: 'batch', batch }
    } catch (error) {
      return this.#describe(error)
    }
  }

  #next(): WalReadResult {
    const walked = this.#nextWalked()
    return walked === undefined ? this.#readNext() : { kind: 'record', record: walked }
  }

  /** Only what was handed out moves the reader: a batch that is lost is walked over again. */
  #nextWalked(): WalRecord | undefined {
    const { batch, generation } = this.#walked ?? {}
    let found = batch
    if (batch?.generation !== generation || this.#walkedNext >= (batch?.count ?? 0)) {
      found = this.#walk()
      this.#walked =
        found === undefined ? undefined : { batch: found, generation: found.generation }
      this.#walkedNext = 0
    }
    if (found === undefined) return undefined
    const n = this.#walkedNext++
    this.#moveBehind(found, n)
    return found.record(n)
  }

  #moveBehind(batch: RecordBatch, n: number): void {
    this.#last = batch.lsn(n)
    this.#offset = Number(batch.base - this.#base) + batch.end(n)
  }

  /** Records that are regular, as the kernel finds them; undefined: the next one is not. */
  #walk(): RecordBatch | undefined {
    const bytes = this.#bytes
    const isOdd = this.#assembly !== undefined || this.#seek !== undefined
    if (bytes === undefined || isOdd || this.#overwritten !== undefined) return undefined
    if (this.#options.kernel === false) return undefined
    const offset = this.#offset
    if (this.#last === undefined || offset % WAL_PAGE_BYTES === 0) return undefined
    if (offset + bytes.readUInt32LE(offset) > this.#size) return undefined
    const page = this.#pageAt(offset)
    const batch = walkRecords({
      segment: bytes,
      segmentLsn: this.#base,
      offset,
      previous: this.#last,
      timeline: page.timeline,
      major: page.major,
      checksums: this.#options.checksums !== false,
    })
    return batch.count === 0 ? undefined : batch
  }

  #readNext(): WalReadResult {
    for (;;) {
      if (this.#offset === this.#size) this.#leaveSegment()
      if (this.#bytes === undefined) return { kind: 'segment-needed', segment: this.#segment }
      if (this.#seek !== undefined && this.#offset % WAL_PAGE_BYTES === 0) {
        if (!this.#skipContinuation()) continue
      }
      const record = this.#assembly === undefined ? this.#begin() : this.#continue()
      if (record === undefined) continue
      const isSought = this.#seek === undefined || record.lsn >= this.#seek
      if (!isSought) continue
      this.#seek = undefined
      return { kind: 'record', record }
    }
  }

  #leaveSegment(): void {
    this.#segment += 1n
    this.#base += BigInt(this.#size)
    this.#offset = 0
    this.#bytes = undefined
    this.#pageOffset = -1
  }

  #lsn(offset: number): Lsn {
    return lsn(this.#base + BigInt(offset))
  }

  /** At a page, looking for the first record that starts on it; false: on another page. */
  #skipContinuation(): boolean {
    if (this.#assembly !== undefined) return true
    const page = this.#pageAt(this.#offset)
    if (!page.isContinuation) return true
    const rest = alignRecord(page.remainingBytes)
    if (rest >= WAL_PAGE_BYTES - page.headerBytes) {
      this.#offset += WAL_PAGE_BYTES
      return false
    }
    this.#offset += page.headerBytes + rest
    return true
  }

  /** Validates a page once (XLogReaderValidatePageHeader). `offset`: any on the page. */
  #pageAt(offset: number): WalPageHeader {
    const at = offset - (offset % WAL_PAGE_BYTES)
    if (this.#pageOffset === at && this.#page !== undefined) return this.#page
    const page = parseWalPageHeader(this.#bytes as Buffer, at)
    if (page === undefined || page.address !== this.#lsn(at)) throw new Invalid('bad-page')
    if (!this.#isSameCluster(page, at)) throw new Invalid('bad-page')
    const onPath = this.#options.isOnPath?.(page.timeline) ?? true
    if (!onPath || page.timeline < this.#latestTimeline) throw new Invalid('bad-page')
    this.#latestTimeline = page.timeline
    this.#page = page
    this.#pageOffset = at
    return page
  }

  #isSameCluster(page: WalPageHeader, at: number): boolean {
    if (page.long === undefined) return at !== 0
    return (
      page.long.systemIdentifier === this.#options.systemIdentifier &&
      page.long.walSegmentSizeBytes === this.#size &&
      page.long.walBlockSizeBytes === WAL_PAGE_BYTES
    )
  }

  /** At the start of a record. Undefined: it goes on where another step must look. */
  #begin(): WalRecord | undefined {
    const bytes = this.#bytes as Buffer
    const page = this.#pageAt(this.#offset)
    const inPage = this.#offset % WAL_PAGE_BYTES
    if (inPage === 0) this.#offset += page.headerBytes
    else if (inPage < page.headerBytes) throw new Invalid('bad-page')
    const atFirst = this.#offset % WAL_PAGE_BYTES === page.headerBytes
    if (atFirst && page.isContinuation) throw new Invalid('bad-continuation')
    const start = this.#offset
    const totalLength = bytes.readUInt32LE(start)
    if (totalLength === 0) throw new Invalid('no-record')
    if (totalLength < RECORD_HEADER_BYTES) throw new Invalid('bad-length')
    const room = WAL_PAGE_BYTES - (start % WAL_PAGE_BYTES)
    if (room >= RECORD_HEADER_BYTES) this.#requireHeader(bytes, start, this.#lsn(start), page)
    if (totalLength <= room) {
      return this.#finish(
        bytes.subarray(start, start + totalLength),
        this.#lsn(start),
        start + alignRecord(totalLength),
        page,
      )
    }
    this.#assembly = {
      lsn: this.#lsn(start),
      timeline: page.timeline,
      major: page.major,
      totalLength,
      bytes: this.#newAssemblyBuffer(bytes, start, room, totalLength),
      got: room,
    }
    this.#offset = start + room
    return undefined
  }

  /**
   * A length is only believed once the next page confirms it, so the buffer of the first
   * two pieces is small, and grows when xlp_rem_len agreed.
   */
  #newAssemblyBuffer(from: Buffer, start: number, room: number, totalLength: number): Buffer {
    const buffer = Buffer.allocUnsafe(Math.min(totalLength, 2 * WAL_PAGE_BYTES))
    from.copy(buffer, 0, start, start + room)
    return buffer
  }

  /** At a page that should hold the next part of the assembly. */
  #continue(): WalRecord | undefined {
    const bytes = this.#bytes as Buffer
    const assembly = this.#assembly as Assembly
    const page = this.#pageAt(this.#offset)
    if (page.isOverwrittenContinuation) {
      this.#overwritten = assembly.lsn
      this.#assembly = undefined
      return undefined
    }
    const missing = assembly.totalLength - assembly.got
    if (!page.isContinuation || page.remainingBytes !== missing) {
      throw new Invalid('bad-continuation')
    }
    const from = this.#offset + page.headerBytes
    const length = Math.min(missing, WAL_PAGE_BYTES - page.headerBytes)
    const target = growTo(assembly, assembly.got + length)
    bytes.copy(target.bytes, target.got, from, from + length)
    const headerWasSplit = assembly.got < RECORD_HEADER_BYTES
    target.got += length
    this.#assembly = target
    if (headerWasSplit) this.#requireHeader(target.bytes, 0, target.lsn, target)
    if (target.got < target.totalLength) {
      this.#offset += WAL_PAGE_BYTES
      return undefined
    }
    const record = target.bytes.subarray(0, target.totalLength)
    return this.#finish(record, target.lsn, from + alignRecord(length), target)
  }

  /** ValidXLogRecordHeader. */
  #requireHeader(bytes: Buffer, at: number, start: Lsn, page: { readonly major: number }): void {
    if (!isResourceManager(bytes[at + 17] as number, page.major)) {
      throw new Invalid('bad-resource-manager')
    }
    const previous = bytes.readBigUInt64LE(at + 8)
    const linked = this.#last === undefined ? previous < start : previous === this.#last
    if (!linked) throw new Invalid('bad-previous')
  }

  #finish(
    bytes: Buffer,
    start: Lsn,
    endOffset: number,
    page: { readonly timeline: Timeline; readonly major: number },
  ): WalRecord {
    if (this.#options.checksums !== false && !isRecordIntact(bytes)) {
      throw new Invalid('bad-checksum')
    }
    const info = bytes[16] as number
    const resourceManager = bytes[17] as number
    const operation = resourceManager === RM_XLOG ? recordOperation(info) : -1
    if (this.#overwritten !== undefined) this.#requireOverwrite(bytes, operation)
    this.#offset = operation === XLOG_SWITCH ? this.#size : endOffset
    this.#assembly = undefined
    this.#last = start
    return {
      lsn: start,
      endLsn: this.#lsn(this.#offset),
      previousLsn: lsn(bytes.readBigUInt64LE(8)),
      totalLength: bytes.length,
      xid: bytes.readUInt32LE(4),
      info,
      resourceManager,
      timeline: page.timeline,
      major: page.major,
      bytes,
    }
  }

  /**
   * The first record on a page that says that it overwrites a continuation must name the
   * record that was given up (VerifyOverwriteContrecord).
   */
  #requireOverwrite(bytes: Buffer, operation: number): void {
    const named = bytes.length >= 34 ? bytes.readBigUInt64LE(26) : undefined
    const agrees = operation === XLOG_OVERWRITE_CONTRECORD && named === this.#overwritten
    if (!agrees) throw new Invalid('bad-overwrite')
    this.#overwritten = undefined
  }

  /** Is there a page behind the fault that belongs here? */
  #isFollowedByWal(): boolean {
    const bytes = this.#bytes
    if (bytes === undefined) return false
    const faultPage = this.#offset - (this.#offset % WAL_PAGE_BYTES)
    for (let at = faultPage + WAL_PAGE_BYTES; at < this.#size; at += WAL_PAGE_BYTES) {
      if (parseWalPageHeader(bytes, at)?.address === this.#lsn(at)) return true
    }
    return false
  }
}

function growTo(assembly: Assembly, needed: number): Assembly {
  if (needed <= assembly.bytes.length) return assembly
  const bytes = Buffer.allocUnsafe(assembly.totalLength)
  assembly.bytes.copy(bytes, 0, 0, assembly.got)
  return { ...assembly, bytes }
}
