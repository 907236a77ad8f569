/**
 * The record kernel: walks over the records in a window of whole WAL pages, proves them, and
 * says where they lie.
 *
 * It handles what is regular and nothing else: where something is odd (a page that does not
 * hold, a record that does not, a segment switch, a continuation that was overwritten, a
 * record that the window does not hold to its end) it stops before that record, and
 * wal-reader.ts, which is the reference, reads on and says what it is.
 *
 * Every pointer is given by the caller (wal-walk.ts lays the memory out). The window is never
 * written to. A record that lies across pages is put together in the arena.
 *
 * Bytes: wal-page.ts (pages), wal-record.ts (record header), wal-blocks.ts (what is behind it).
 */
import { foldCrc32c } from './fold-crc32c'
import { thin } from './thin-crc32c'

const PAGE_BYTES: u32 = 8192
const PAGE_HEADER_BYTES: u32 = 24
const RECORD_HEADER_BYTES: u32 = 24
const FIRST_IS_CONTRECORD: u32 = 0x0001
/** XLP_BKP_REMOVABLE, behind the magic: tells nothing about the page's records. */
const REMOVABLE: u32 = 0x0004 << 16

/** What is put out of each record, in words of four bytes; wal-walk.ts names the same. */
const ENTRY_BYTES: u32 = 32

/** A constant, so that it is part of the instructions that look up; wal-walk.ts has it too. */
const TABLES: usize = 32768
/** What a register that begins with START is after n + 20 zero bytes, for n below FOLD_FROM. */
const STARTS: usize = TABLES + 20 * 1024
/** 16 times 16 bytes: the last n are ones; of 0, none. */
const MASKS: usize = STARTS + 2048
const START: u32 = 0xffffffff

/** From this length on folding is faster than the tables. */
const FOLD_FROM: u32 = 512
const FOLD_BLOCK_BYTES: u32 = 128
/** From this length on thinning is faster than folding. */
const THIN_FROM: u32 = 2048

// Set by prepare().
let window: usize = 0
let windowBytes: u32 = 0
let arena: usize = 0
let foldTables: usize = 0
let foldState: usize = 0
let thinScratch: usize = 0
let thinTail: usize = 0
let entries: usize = 0
let entriesMax: u32 = 0

// Set by walk() and read by its parts.
let magic: u32 = 0
let timeline: u32 = 0
let hasCustomResourceManagers: bool = false
let compressedBits: u32 = 0
let hasTopLevelXid: bool = false
let arenaUsed: u32 = 0
let imageBytes: u32 = 0
let mainBytes: u32 = 0
let blockCount: u32 = 0
let recordEnd: u32 = 0

// What walk() leaves behind.
let next: u32 = 0

export function prepare(
  windowAt: usize,
  arenaAt: usize,
  foldTablesAt: usize,
  foldStateAt: usize,
  thinScratchAt: usize,
  thinTailAt: usize,
  entriesAt: usize,
  entriesLimit: u32,
): void {
  window = windowAt
  arena = arenaAt
  foldTables = foldTablesAt
  foldState = foldStateAt
  thinScratch = thinScratchAt
  thinTail = thinTailAt
  entries = entriesAt
  entriesMax = entriesLimit
}

/** Where the window lies from now on: a segment that was read into this memory. */
export function setWindow(at: usize): void {
  window = at
}

/** What differs between major versions (versions.ts). */
export function setFormat(
  pageMagic: u32,
  customResourceManagers: bool,
  imageCompressedBits: u32,
  topLevelXid: bool,
): void {
  magic = pageMagic
  hasCustomResourceManagers = customResourceManagers
  compressedBits = imageCompressedBits
  hasTopLevelXid = topLevelXid
}

/** Offset in the window where the record after the last one starts. */
export function nextOffset(): u32 {
  return next
}

/**
 * Walks from the record at `offset` of the window, which holds `bytes` bytes, whole pages of
 * which the first is at LSN `base`. `previous` is the LSN of the record before. Returns how
 * many records were put out.
 */
export function walk(
  bytes: u32,
  offset: u32,
  base: u64,
  previous: u64,
  pageTimeline: u32,
  checksums: bool,
): u32 {
  windowBytes = bytes
  timeline = pageTimeline
  arenaUsed = 0
  let count: u32 = 0
  let at = offset
  let before = previous
  let entry = entries
  while (count < entriesMax && at < bytes) {
    let start = at
    if ((at & (PAGE_BYTES - 1)) == 0) {
      if (!isPage(at, base, 0)) break
      start += PAGE_HEADER_BYTES
    }
    const record = findRecord(start, base, before)
    if (record == 0) break
    const length = load<u32>(record)
    const info = load<u8>(record, 16)
    const resourceManager = load<u8>(record, 17)
    // XLOG_SWITCH: the rest of the segment is empty.
    if (resourceManager == 0 && (info & 0xf0) == 0x40) break
    if (checksums && recordCrc(record, length) != load<u32>(record, 20)) break
    if (!readHeaders(record, length)) break
    store<u32>(entry, <u32>record)
    store<u32>(entry, length, 4)
    store<u32>(entry, start, 8)
    store<u32>(entry, recordEnd, 12)
    store<u32>(entry, load<u32>(record, 4), 16)
    store<u32>(entry, (<u32>info) | ((<u32>resourceManager) << 8) | (blockCount << 16), 20)
    store<u32>(entry, imageBytes, 24)
    store<u32>(entry, <u32>record + length - mainBytes, 28)
    entry += ENTRY_BYTES
    count++
    before = base + <u64>start
    at = recordEnd
  }
  next = at
  return count
}

/** A short page header of this version, timeline and place, with these flags. */
@inline function isPage(at: u32, base: u64, flags: u32): bool {
  const page = window + at
  return (
    (load<u32>(page) & ~REMOVABLE) == (magic | (flags << 16)) &&
    load<u32>(page, 4) == timeline &&
    load<u64>(page, 8) == base + <u64>at
  )
}

/** ValidXLogRecordHeader. */
@inline function isHeader(record: usize, previous: u64): bool {
  const resourceManager = load<u8>(record, 17)
  if (resourceManager >= 22 && !(hasCustomResourceManagers && resourceManager >= 128)) return false
  return load<u64>(record, 8) == previous
}

/** Where the record lies in one piece; 0: it is not one that is regular. Sets recordEnd. */
@inline function findRecord(start: u32, base: u64, previous: u64): usize {
  const room = PAGE_BYTES - (start & (PAGE_BYTES - 1))
  const length = load<u32>(window + start)
  if (length < RECORD_HEADER_BYTES) return 0
  if (length > room) return assemble(start, room, length, base, previous)
  if (!isHeader(window + start, previous)) return 0
  recordEnd = start + ((length + 7) & ~7)
  return window + start
}

/** Puts a record together that goes on on the next page, and maybe on further ones. */
function assemble(start: u32, room: u32, length: u32, base: u64, previous: u64): usize {
  if (length > windowBytes - start) return 0
  const record = arena + arenaUsed
  // Before anything is copied: a wrong length ends here mostly.
  if (room >= RECORD_HEADER_BYTES && !isHeader(window + start, previous)) return 0
  memory.copy(record, window + start, room)
  let got = room
  let page = start + room
  let taken: u32 = 0
  while (got < length) {
    if (page >= windowBytes || !isPage(page, base, FIRST_IS_CONTRECORD)) return 0
    const missing = length - got
    if (load<u32>(window + page, 16) != missing) return 0
    taken = min<u32>(missing, PAGE_BYTES - PAGE_HEADER_BYTES)
    memory.copy(record + got, window + page + PAGE_HEADER_BYTES, taken)
    got += taken
    page += PAGE_BYTES
  }
  if (!isHeader(record, previous)) return 0
  recordEnd = page - PAGE_BYTES + PAGE_HEADER_BYTES + ((taken + 7) & ~7)
  arenaUsed += (length + 7) & ~7
  return record
}

/** DecodeXLogRecord, as RecordParts in wal-blocks.ts. Sets imageBytes, mainBytes, blockCount. */
function readHeaders(record: usize, length: u32): bool {
  let at: u32 = RECORD_HEADER_BYTES
  let behind: u32 = 0
  let lastId: i32 = -1
  imageBytes = 0
  mainBytes = 0
  blockCount = 0
  while (length - at > behind) {
    const id = <u32>load<u8>(record + at)
    const left = length - at
    if (id <= 32) {
      if (<i32>id <= lastId || left < 4) return false
      lastId = id
      const size = readBlockHeader(record + at, left)
      if (size == 0) return false
      behind += blockData
      at += size
    } else if (id == 255) {
      if (left < 2) return false
      mainBytes = <u32>load<u8>(record + at, 1)
      return left - 2 == behind + mainBytes
    } else if (id == 254) {
      if (left < 5) return false
      mainBytes = load<u32>(record + at, 1)
      return mainBytes <= length && left - 5 == behind + mainBytes
    } else if (id == 253) {
      at += 3
    } else if (id == 252 && hasTopLevelXid) {
      at += 5
    } else {
      return false
    }
    if (at > length) return false
  }
  return length - at == behind
}

let blockData: u32 = 0

/** Length of the header, or 0: it does not hold. Sets blockData, adds to imageBytes. */
@inline function readBlockHeader(header: usize, left: u32): u32 {
  const flags = <u32>load<u8>(header, 1)
  const dataBytes = <u32>load<u16>(header, 2)
  if ((flags & 0x0f) > 3 || ((flags & 0x20) != 0) != (dataBytes != 0)) return 0
  let size: u32 = 4
  blockData = dataBytes
  if ((flags & 0x10) != 0) {
    if (left < 9) return 0
    const image = <u32>load<u16>(header, 4)
    const holeOffset = <u32>load<u16>(header, 6)
    const imageFlags = <u32>load<u8>(header, 8)
    const isCompressed = (imageFlags & compressedBits) != 0
    size = 9
    if ((imageFlags & 1) != 0) {
      if (holeOffset == 0 || image >= PAGE_BYTES) return 0
      if (isCompressed) {
        if (left < 11 || load<u16>(header, 9) == 0) return 0
        size = 11
      }
    } else {
      if (holeOffset != 0) return 0
      if (isCompressed ? image >= PAGE_BYTES : image != PAGE_BYTES) return 0
    }
    imageBytes += image
    blockData += image
  }
  if ((flags & 0x80) == 0) size += 12
  else if (blockCount == 0) return 0
  blockCount++
  size += 4
  return size <= left ? size : 0
}

/**
 * CRC-32C of the record without its checksum: the body first, then 20 bytes of the header,
 * whose share does not wait for the body's.
 */
@inline function recordCrc(record: usize, length: u32): u32 {
  const header = step4(step16(0, record), record + 16)
  const body = record + RECORD_HEADER_BYTES
  const bodyBytes = length - RECORD_HEADER_BYTES
  if (bodyBytes < FOLD_FROM) return ~(header ^ shareOfShort(body, bodyBytes))
  if (bodyBytes < THIN_FROM) return ~(header ^ wordOf(advanceFolded(START, body, bodyBytes), 16))
  const left = thin(START, body, bodyBytes, thinScratch, thinTail)
  return ~(header ^ wordOf(advanceFolded(0, thinTail, left), 16))
}

/**
 * What a short body gives to the register behind the header. Zeros before a message give
 * nothing to a register that begins at 0, so it is walked in steps of 16, the first of which
 * is filled up with zeros in front; what the register begins with is looked up.
 */
@inline function shareOfShort(body: usize, length: u32): u32 {
  const first = length & 15
  const mask = MASKS + (first << 4)
  let at = body + first
  // The record's header lies before its body: these bytes are there.
  let register = sixteen(
    load<u64>(at - 16) & load<u64>(mask),
    load<u64>(at - 8) & load<u64>(mask, 8),
  )
  for (const end = body + length; at < end; at += 16) register = step16(register, at)
  return wordOf(register, 16) ^ load<u32>(length << 2, STARTS)
}

function advanceFolded(seed: u32, from: usize, length: u32): u32 {
  const blocks = length / FOLD_BLOCK_BYTES
  memory.copy(foldState, from, FOLD_BLOCK_BYTES)
  store<u32>(foldState, load<u32>(foldState) ^ seed)
  foldCrc32c(foldState, from + FOLD_BLOCK_BYTES, blocks - 1, foldTables)
  const folded = blocks * FOLD_BLOCK_BYTES
  return advance(advance(0, foldState, FOLD_BLOCK_BYTES), from + folded, length - folded)
}

/** The register after `length` bytes, 16 a step (slicing-by-16). */
@inline function advance(seed: u32, from: usize, length: u32): u32 {
  let register = seed
  let at = from
  const end = from + length
  for (; at + 16 <= end; at += 16) register = step16(register, at)
  if (at + 8 <= end) {
    register = step8(register, at)
    at += 8
  }
  if (at + 4 <= end) {
    register = step4(register, at)
    at += 4
  }
  for (; at < end; at++) register = step1(register, at)
  return register
}

/** The register after that byte and `zeros` zero bytes. */
@inline function entryOf(zeros: u32, byte: u32): u32 {
  return load<u32>((byte << 2) + (zeros << 10), TABLES)
}

/** The four bytes of a word, followed by `zeros` zero bytes. */
@inline function wordOf(word: u32, zeros: u32): u32 {
  return (
    entryOf(zeros + 3, word & 0xff) ^
    entryOf(zeros + 2, (word >> 8) & 0xff) ^
    entryOf(zeros + 1, (word >> 16) & 0xff) ^
    entryOf(zeros, word >> 24)
  )
}

@inline function step16(register: u32, at: usize): u32 {
  return sixteen(load<u64>(at) ^ <u64>register, load<u64>(at, 8))
}

@inline function sixteen(low: u64, high: u64): u32 {
  return (
    wordOf(<u32>low, 12) ^
    (wordOf(<u32>(low >> 32), 8) ^ (wordOf(<u32>high, 4) ^ wordOf(<u32>(high >> 32), 0)))
  )
}

@inline function step8(register: u32, at: usize): u32 {
  return wordOf(load<u32>(at) ^ register, 4) ^ wordOf(load<u32>(at, 4), 0)
}

@inline function step4(register: u32, at: usize): u32 {
  return wordOf(load<u32>(at) ^ register, 0)
}

@inline function step1(register: u32, at: usize): u32 {
  return entryOf(0, (register ^ <u32>load<u8>(at)) & 0xff) ^ (register >> 8)
}
