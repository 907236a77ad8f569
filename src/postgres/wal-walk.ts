/**
 * The record kernel (kernel/assembly/record-kernel.ts): many records of a segment, proved and
 * taken to where they can be read. It does what is regular; the reader does the rest.
 *
 * There is one kernel for each thread, and it holds one batch: what a batch points to is
 * gone when any reader of the thread walks on.
 *
 * Layout of its memory:
 *
 * | from | size | holds |
 * |---|---|---|
 * | 0 | 64 KiB | the module's own data; tables of CRC-32C |
 * | 64 KiB | 256 KiB | entries: 8 words of 4 bytes for each record |
 * | 320 KiB | 320 KiB | records that lay across pages, put together |
 * | 640 KiB | 256 KiB | the window: whole pages of the segment |
 * | 896 KiB | 320 KiB | scratch for the checksum of a long record |
 * | 1216 KiB | 32 MiB | two segments, for callers that read them here (segmentBuffers) |
 */
import { advanceRegister, buildFoldTables } from './crc32c.ts'
import { startKernel, WASM_PAGE_BYTES } from './load-kernel.ts'
import { type Lsn, lsn, type Timeline } from './lsn.ts'
import { buildSlicingTables } from './record-checksum.ts'
import { POSTGRES_VERSIONS } from './versions.ts'
import { WAL_PAGE_BYTES } from './wal-page.ts'
import type { WalRecord } from './wal-reader.ts'

interface KernelExports {
  prepare(
    window: number,
    arena: number,
    foldTables: number,
    foldState: number,
    thinScratch: number,
    thinTail: number,
    entries: number,
    entriesMax: number,
  ): void
  setWindow(at: number): void
  setFormat(magic: number, custom: boolean, compressedBits: number, topLevelXid: boolean): void
  walk(
    bytes: number,
    offset: number,
    base: bigint,
    previous: bigint,
    timeline: number,
    checksums: boolean,
  ): number
  nextOffset(): number
}

/** The kernel shifts a register by up to 20 bytes. */
const SLICES = 20
const TABLES = 32768
/** Of the record's header, all but its checksum. */
const HEADER_BYTES_SUMMED = 20
const STARTS = TABLES + SLICES * 1024
const STARTS_COUNT = 512
const MASKS = STARTS + 4 * STARTS_COUNT
const FOLD_TABLES = MASKS + 256
const FOLD_STATE = FOLD_TABLES + 512
const THIN_TAIL = FOLD_STATE + 512
const ENTRIES = WASM_PAGE_BYTES
const ENTRY_WORDS = 8
const WINDOW_BYTES = 256 * 1024
/** A record has 24 bytes at least and begins at a multiple of 8. */
const ENTRIES_MAX = 8192
const ARENA = ENTRIES + ENTRIES_MAX * ENTRY_WORDS * 4
const ARENA_BYTES = WINDOW_BYTES + WASM_PAGE_BYTES
const WINDOW = ARENA + ARENA_BYTES
const THIN_SCRATCH = WINDOW + WINDOW_BYTES
/** The longest record, and margins of zeros. */
const SEGMENTS = THIN_SCRATCH + WINDOW_BYTES + WASM_PAGE_BYTES
/** Pages that nobody touches take no memory. */
const SEGMENT_ROOM = 16 * 1024 * 1024
const SEGMENT_COUNT = 2
const MEMORY_BYTES = SEGMENTS + SEGMENT_COUNT * SEGMENT_ROOM

/** Records that follow each other on one timeline, from one server; numbered from 0. */
export class RecordBatch {
  /** What `at` counts in. */
  readonly bytes: Buffer
  readonly #entries: Uint32Array
  count = 0
  timeline: Timeline = 0
  major = 0
  /** LSN from which `start` and `end` count. */
  base = 0n
  /** Grows with every batch: one that is remembered is gone when this has changed. */
  generation = 0

  constructor(memory: ArrayBuffer) {
    this.bytes = Buffer.from(memory)
    this.#entries = new Uint32Array(memory, ENTRIES, ENTRIES_MAX * ENTRY_WORDS)
  }

  /** Where the record begins in `bytes`. */
  at(n: number): number {
    return this.#entries[n * ENTRY_WORDS] as number
  }

  totalLength(n: number): number {
    return this.#entries[n * ENTRY_WORDS + 1] as number
  }

  /** LSN of the record, less `base`. */
  start(n: number): number {
    return this.#entries[n * ENTRY_WORDS + 2] as number
  }

  /** LSN of the first byte after the record, aligned, less `base`. */
  end(n: number): number {
    return this.#entries[n * ENTRY_WORDS + 3] as number
  }

  xid(n: number): number {
    return this.#entries[n * ENTRY_WORDS + 4] as number
  }

  info(n: number): number {
    return (this.#entries[n * ENTRY_WORDS + 5] as number) & 0xff
  }

  resourceManager(n: number): number {
    return ((this.#entries[n * ENTRY_WORDS + 5] as number) >>> 8) & 0xff
  }

  /** How many blocks it refers to. */
  blocks(n: number): number {
    return (this.#entries[n * ENTRY_WORDS + 5] as number) >>> 16
  }

  /** Bytes of page images in it. */
  imageBytes(n: number): number {
    return this.#entries[n * ENTRY_WORDS + 6] as number
  }

  /** Where its main data begin in `bytes`; they end with the record. */
  mainDataAt(n: number): number {
    return this.#entries[n * ENTRY_WORDS + 7] as number
  }

  lsn(n: number): Lsn {
    return lsn(this.base + BigInt(this.start(n)))
  }

  endLsn(n: number): Lsn {
    return lsn(this.base + BigInt(this.end(n)))
  }

  record(n: number): WalRecord {
    return new WalkedRecord(this, n)
  }
}

/** What costs an allocation is made when it is asked for: most records are passed over. */
class WalkedRecord implements WalRecord {
  readonly totalLength: number
  readonly xid: number
  readonly info: number
  readonly resourceManager: number
  readonly timeline: Timeline
  readonly major: number
  readonly #memory: Buffer
  readonly #at: number
  readonly #base: bigint
  readonly #start: number
  readonly #end: number

  constructor(batch: RecordBatch, n: number) {
    this.totalLength = batch.totalLength(n)
    this.xid = batch.xid(n)
    this.info = batch.info(n)
    this.resourceManager = batch.resourceManager(n)
    this.timeline = batch.timeline
    this.major = batch.major
    this.#memory = batch.bytes
    this.#at = batch.at(n)
    this.#base = batch.base
    this.#start = batch.start(n)
    this.#end = batch.end(n)
  }

  get lsn(): Lsn {
    return lsn(this.#base + BigInt(this.#start))
  }

  get endLsn(): Lsn {
    return lsn(this.#base + BigInt(this.#end))
  }

  get previousLsn(): Lsn {
    return lsn(this.#memory.readBigUInt64LE(this.#at + PREVIOUS_AT))
  }

  get bytes(): Buffer {
    return this.#memory.subarray(this.#at, this.#at + this.totalLength)
  }
}

/** Byte of a record's header where xl_prev lies. */
const PREVIOUS_AT = 8

export interface WalkFrom {
  /** The whole segment. */
  readonly segment: Uint8Array
  /** LSN of its first byte. */
  readonly segmentLsn: bigint
  /** Where in it the record begins; not at the start of a page. */
  readonly offset: number
  /** LSN of the record before. */
  readonly previous: bigint
  readonly timeline: Timeline
  readonly major: number
  readonly checksums: boolean
}

class WalWalk {
  readonly #kernel: KernelExports
  readonly #window: Uint8Array
  readonly #batch: RecordBatch
  #major = 0
  readonly #memory: ArrayBuffer
  #windowAt = WINDOW
  #from = 0
  #bytes = 0

  constructor() {
    const { kernel, memory } = startKernel<KernelExports>('record-kernel', MEMORY_BYTES)
    const bytes = new Uint8Array(memory.buffer)
    bytes.set(new Uint8Array(buildSlicingTables(SLICES).buffer), TABLES)
    bytes.set(new Uint8Array(buildStarts().buffer), STARTS)
    bytes.set(buildMasks(), MASKS)
    bytes.set(buildFoldTables(), FOLD_TABLES)
    kernel.prepare(
      WINDOW,
      ARENA,
      FOLD_TABLES,
      FOLD_STATE,
      THIN_SCRATCH,
      THIN_TAIL,
      ENTRIES,
      ENTRIES_MAX,
    )
    this.#kernel = kernel
    this.#memory = memory.buffer
    this.#window = bytes.subarray(WINDOW, WINDOW + WINDOW_BYTES)
    this.#batch = new RecordBatch(memory.buffer)
  }

  walk(from: WalkFrom): RecordBatch {
    this.#useFormat(from.major)
    this.#fillWindow(from)
    const base = from.segmentLsn + BigInt(this.#from)
    const batch = this.#batch
    batch.timeline = from.timeline
    batch.major = from.major
    batch.base = base
    batch.generation++
    batch.count = this.#kernel.walk(
      this.#bytes,
      from.offset - this.#from,
      base,
      from.previous,
      from.timeline,
      from.checksums,
    )
    return batch
  }

  /** The window begins with the page of the first record. */
  #fillWindow({ segment, offset }: WalkFrom): void {
    const from = offset - (offset % WAL_PAGE_BYTES)
    const bytes = Math.min(WINDOW_BYTES, segment.length - from)
    const isHere = segment.buffer === this.#memory
    if (!isHere) this.#window.set(segment.subarray(from, from + bytes))
    this.#placeWindow(isHere ? segment.byteOffset + from : WINDOW)
    this.#from = from
    this.#bytes = bytes
  }

  #placeWindow(at: number): void {
    if (at === this.#windowAt) return
    this.#kernel.setWindow(at)
    this.#windowAt = at
  }

  segmentBuffers(sizeBytes: number): Buffer[] {
    return Array.from({ length: SEGMENT_COUNT }, (_, n) =>
      sizeBytes <= SEGMENT_ROOM
        ? Buffer.from(this.#memory, SEGMENTS + n * SEGMENT_ROOM, sizeBytes)
        : Buffer.allocUnsafeSlow(sizeBytes),
    )
  }

  #useFormat(major: number): void {
    if (major === this.#major) return
    const version = POSTGRES_VERSIONS.find((one) => one.major === major)
    if (version === undefined) throw new Error(`PostgreSQL ${major} has no WAL format here`)
    const { hasCustomResourceManagers, imageCompressedBits, hasTopLevelXid } = version.walRecords
    this.#kernel.setFormat(
      version.walPageMagic,
      hasCustomResourceManagers,
      imageCompressedBits,
      hasTopLevelXid,
    )
    this.#major = major
  }
}

/** Registers that began with ones, after n and 20 zero bytes (record-kernel.ts, STARTS). */
function buildStarts(): Uint32Array {
  const starts = new Uint32Array(STARTS_COUNT)
  const zero = new Uint8Array(1)
  starts[0] = advanceRegister(0xffffffff, new Uint8Array(HEADER_BYTES_SUMMED))
  for (let n = 1; n < STARTS_COUNT; n++) starts[n] = advanceRegister(starts[n - 1] as number, zero)
  return starts
}

/** For each n from 0 to 15, 16 bytes of which the last n are ones (record-kernel.ts, MASKS). */
function buildMasks(): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, at) => ((at & 15) >= 16 - (at >> 4) ? 0xff : 0))
}

let shared: WalWalk | undefined

/**
 * Two buffers for segments to be read into, in turn: what lies in them is walked over where it
 * is. They are the thread's; only one reader at a time may use them.
 */
export function segmentBuffers(sizeBytes: number): Buffer[] {
  shared ??= new WalWalk()
  return shared.segmentBuffers(sizeBytes)
}

/** Records from `from` on, as far as they are regular and fit; maybe none. */
export function walkRecords(from: WalkFrom): RecordBatch {
  shared ??= new WalWalk()
  return shared.walk(from)
}
