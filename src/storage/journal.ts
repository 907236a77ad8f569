/**
 * The bytes of a journal: an object that grows while it is written (docs/design/tails.md,
 * section 1). Pure but for the id that a new one draws.
 *
 * | offset | size | journal header |
 * |---|---|---|
 * | 0 | 8 | `TMJRNL01` |
 * | 8 | 16 | journal id |
 * | 24 | 40 | zero |
 *
 * | offset | size | chunk |
 * |---|---|---|
 * | 0 | 4 | `TMJC` |
 * | 4 | 4 | length of the payload |
 * | 8 | 8 | ordinal |
 * | 16 | 16 | first 16 bytes of the hash of the chunk before; of chunk 0 the journal id |
 * | 32 | 32 | SHA-256 of journal id, bytes 0–31, payload |
 * | 64 | … | payload, zero padded to a multiple of 8 |
 *
 * Invariant: a chunk is written only when the one before it is durable, so what a reader gets
 * up to the first chunk that does not hold is what was durable, and no byte else.
 */
import { hash } from 'node:crypto'
import { randomOctets } from '../base/random.ts'

/** Object keys that end so are journals, and nothing else is. */
const SUFFIX = '.journal'

export function isJournalKey(key: string): boolean {
  return key.endsWith(SUFFIX)
}

const MAGIC = Buffer.from('TMJRNL01')
const CHUNK_MAGIC = Buffer.from('TMJC')
const HEADER_BYTES = 64
const CHUNK_HEADER_BYTES = 64
const ALIGNMENT = 8
/** A damaged length must not allocate more. */
const MAX_PAYLOAD_BYTES = 1 << 30

export interface JournalReading {
  /** Payloads, in order from chunk 0; views of the bytes that were given. */
  readonly chunks: readonly Buffer[]
  /**
   * `clean`: nothing follows the last chunk. `torn`: something does that was never
   * acknowledged. `damaged`: a chunk that was acknowledged lies behind one that does not hold.
   */
  readonly ending: 'clean' | 'torn' | 'damaged'
  /** Of a damaged one: the last chunk that holds behind the damage. */
  readonly later: LaterChunk | undefined
  /** Offset behind the last chunk that holds. */
  readonly end: number
}

export interface LaterChunk {
  readonly ordinal: number
  readonly payload: Buffer
}

/** Chunks of up to so many bytes are made in one buffer, again and again. */
const KEPT_BYTES = 1024 * 1024

/**
 * Makes chunk after chunk of one journal. A synchronous commit waits for each, so that nothing is
 * allocated and the payload is copied once.
 */
export class JournalEncoder {
  readonly header: Buffer
  readonly #id: Buffer
  #room = Buffer.alloc(0)
  #previous: Buffer
  #ordinal = 0n

  constructor(id: Buffer = randomOctets(16)) {
    this.#id = id
    this.#previous = id
    this.header = Buffer.alloc(HEADER_BYTES)
    MAGIC.copy(this.header)
    id.copy(this.header, MAGIC.length)
  }

  /** The bytes of the chunk; they hold until the next call. */
  encode(payload: readonly Uint8Array[]): Buffer {
    const length = payload.reduce((sum, piece) => sum + piece.length, 0)
    const room = this.#reserve(CHUNK_HEADER_BYTES + length + ALIGNMENT)
    let end = CHUNK_HEADER_BYTES
    for (const piece of payload) {
      room.set(piece, end)
      end += piece.length
    }
    // For the hash, id and first half of the header stand right before the payload.
    const half = room.subarray(32, CHUNK_HEADER_BYTES)
    this.#id.copy(room, 16)
    CHUNK_MAGIC.copy(half)
    half.writeUInt32LE(length, 4)
    half.writeBigUInt64LE(this.#ordinal, 8)
    this.#previous.copy(half, 16, 0, 16)
    const digest = hash('sha256', room.subarray(16, end), 'buffer')
    half.copy(room)
    digest.copy(half)
    this.#ordinal += 1n
    this.#previous = digest
    return room.fill(0, end, end + paddingOf(length)).subarray(0, end + paddingOf(length))
  }

  #reserve(bytes: number): Buffer {
    if (bytes > KEPT_BYTES) return Buffer.allocUnsafeSlow(bytes)
    if (this.#room.length < bytes)
      this.#room = Buffer.allocUnsafeSlow(Math.min(4 * bytes, KEPT_BYTES))
    return this.#room
  }
}

function hashChunk(id: Buffer, header: Buffer, payload: Buffer): Buffer {
  return hash('sha256', Buffer.concat([id, header.subarray(0, 32), payload]), 'buffer')
}

function paddingOf(length: number): number {
  return (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT
}

/** Undefined: the bytes do not begin as a journal does. */
export function decodeJournal(bytes: Uint8Array): JournalReading | undefined {
  const journal = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (journal.length < HEADER_BYTES || !journal.subarray(0, 8).equals(MAGIC)) return undefined
  const id = journal.subarray(8, 24)
  const chunks: Buffer[] = []
  let previous = id
  let at = HEADER_BYTES
  for (;;) {
    const chunk = parseChunk(journal, at, id)
    const isNext =
      chunk !== undefined &&
      chunk.ordinal === BigInt(chunks.length) &&
      chunk.previous.equals(previous.subarray(0, 16))
    if (!isNext) break
    chunks.push(chunk.payload)
    previous = chunk.digest
    at = chunk.end
  }
  const later = findLater(journal, at, id, chunks.length)
  const clean = isZero(journal.subarray(at)) ? 'clean' : 'torn'
  return { chunks, ending: later === undefined ? clean : 'damaged', later, end: at }
}

interface ParsedChunk {
  readonly ordinal: bigint
  readonly previous: Buffer
  readonly digest: Buffer
  readonly payload: Buffer
  readonly end: number
}

/** A chunk that holds by itself, of this journal. */
function parseChunk(journal: Buffer, at: number, id: Buffer): ParsedChunk | undefined {
  if (at + CHUNK_HEADER_BYTES > journal.length) return undefined
  if (!journal.subarray(at, at + 4).equals(CHUNK_MAGIC)) return undefined
  const length = journal.readUInt32LE(at + 4)
  const begin = at + CHUNK_HEADER_BYTES
  if (length > MAX_PAYLOAD_BYTES || begin + length > journal.length) return undefined
  const header = journal.subarray(at, begin)
  const payload = journal.subarray(begin, begin + length)
  const digest = header.subarray(32, 64)
  if (!hashChunk(id, header, payload).equals(digest)) return undefined
  return {
    ordinal: header.readBigUInt64LE(8),
    previous: header.subarray(16, 32),
    digest,
    payload,
    end: Math.min(journal.length, begin + length + paddingOf(length)),
  }
}

/** Chunks begin at multiples of 8: one of a later ordinal proves that more was durable. */
function findLater(
  journal: Buffer,
  from: number,
  id: Buffer,
  expected: number,
): LaterChunk | undefined {
  let last: LaterChunk | undefined
  for (let at = from; ; ) {
    at = journal.indexOf(CHUNK_MAGIC, at)
    if (at < 0) return last
    const chunk = at % ALIGNMENT === 0 ? parseChunk(journal, at, id) : undefined
    if (chunk !== undefined && chunk.ordinal >= BigInt(expected)) {
      last = { ordinal: Number(chunk.ordinal), payload: chunk.payload }
    }
    at = chunk?.end ?? at + 4
  }
}

function isZero(bytes: Buffer): boolean {
  const zeros = Buffer.alloc(Math.min(65_536, bytes.length))
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const part = bytes.subarray(at, at + zeros.length)
    if (!part.equals(zeros.subarray(0, part.length))) return false
  }
  return true
}

/**
 * The journal with other payloads, one for each that was read; a damaged one stays damaged: what
 * lies behind the damage comes with its own ordinal.
 */
export function reencodeJournal(
  id: Buffer,
  payloads: readonly Uint8Array[],
  ending: JournalReading['ending'],
  later: LaterChunk | undefined,
): Buffer {
  const encoder = new JournalEncoder(id)
  const pieces: Uint8Array[] = [encoder.header]
  for (const payload of payloads) pieces.push(Buffer.from(encoder.encode([payload])))
  if (ending === 'torn') pieces.push(CHUNK_MAGIC)
  if (later !== undefined) {
    const ordinal = Math.max(later.ordinal, payloads.length + 1)
    for (let left = ordinal - payloads.length; left > 0; left--) encoder.encode([])
    pieces.push(encoder.encode([later.payload]))
  }
  return Buffer.concat(pieces)
}

/** The id in a journal's header. */
export function journalId(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.subarray(8, 24))
}
