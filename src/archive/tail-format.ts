/**
 * The bytes of tails (docs/design/tails.md, section 1): heads, payloads of journals, pieces.
 * Pure.
 *
 * Invariant: what is decoded is the beginning of the segment in the key, byte for byte what was
 * appended, without a gap.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { type Lsn, lsn, parseSegmentName, segmentStart } from '../postgres/lsn.ts'
import { damagedObject, decodeEnvelope, encodeEnvelope } from '../repository/envelope.ts'
import { decodeJournal } from '../storage/journal.ts'

export interface TailHead {
  readonly systemIdentifier: string
  /** The 24 digits; they name the timeline as well. */
  readonly segment: string
  readonly walSegmentSizeBytes: number
  readonly opening: string
  /** The process that wrote it (storage/process-identity.ts). */
  readonly writer: string
  /** ISO 8601 UTC. */
  readonly startedAt: string
}

interface StoredHead extends TailHead {
  readonly format: number
  readonly timeline: number
  readonly from?: number
  readonly to?: number
}

export function encodeTailHead(head: TailHead): Buffer {
  return Buffer.from(JSON.stringify(storedHead(head)))
}

function storedHead(head: TailHead): StoredHead {
  return { format: 1, ...head, timeline: Number.parseInt(head.segment.slice(0, 8), 16) }
}

/** TM1601 when it is none, or that of another tail than its key says. */
function decodeHead(key: string, bytes: Uint8Array, expected: ExpectedTail): StoredHead {
  const head = parseJson(key, bytes)
  if (head.format !== 1) throw damagedObject(key, `it has format ${head.format}`)
  const isExpected =
    head.systemIdentifier === expected.systemIdentifier &&
    head.segment === expected.segment &&
    head.opening === expected.opening &&
    (expected.walSegmentSizeBytes ?? head.walSegmentSizeBytes) === head.walSegmentSizeBytes
  if (!isExpected) throw damagedObject(key, 'its head is that of another tail')
  return head
}

function parseJson(key: string, bytes: Uint8Array): StoredHead {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8')) as StoredHead
  } catch (cause) {
    throw damagedObject(key, 'its head is no JSON', cause)
  }
}

export interface ExpectedTail {
  readonly systemIdentifier: string
  readonly segment: string
  readonly opening: string
  /** Undefined: whatever its head says. */
  readonly walSegmentSizeBytes: number | undefined
}

/** The payload of a chunk, in pieces. */
export function encodeTailChunk(start: Lsn, bytes: readonly Uint8Array[]): Uint8Array[] {
  const head = Buffer.alloc(8)
  head.writeBigUInt64LE(start)
  return [head, ...bytes]
}

/** A part of a tail: bytes of the segment from `from` on. */
export interface TailBytes {
  readonly head: TailHead
  readonly from: number
  readonly bytes: readonly Buffer[]
  readonly length: number
  readonly ending: 'clean' | 'torn' | 'damaged'
  /** Offset up to which bytes were durable once, as far as that can be told. */
  readonly claimed: number
}

/** TM1601 where not even its head holds; a damaged rest is told by `ending`. */
export function decodeTailJournal(
  key: string,
  stored: Uint8Array,
  expected: ExpectedTail,
): TailBytes {
  const reading = decodeJournal(stored)
  const [first, ...rest] = reading?.chunks ?? []
  if (reading === undefined) throw damagedObject(key, 'it does not begin as a journal does')
  if (first === undefined) throw damagedObject(key, 'its first chunk does not hold')
  const head = decodeHead(key, first, expected)
  const { walSegmentSizeBytes: size } = head
  const named = parseSegmentName(expected.segment, size)
  if (named === undefined) throw damagedObject(key, 'no segment of that size has this name')
  const start = segmentStart(named.segment, size)
  const bytes: Buffer[] = []
  let length = 0
  for (const chunk of rest) {
    const isNext = chunk.length > 8 && chunk.readBigUInt64LE() === start + BigInt(length)
    if (!isNext || length + chunk.length - 8 > size) {
      throw damagedObject(key, `its chunk at ${length} is not the one that follows`)
    }
    bytes.push(chunk.subarray(8))
    length += chunk.length - 8
  }
  const claimed = Math.max(length, claimedBy(reading.later?.payload, start))
  return { head, from: 0, bytes, length, ending: reading.ending, claimed }
}

/** Up to where a chunk behind the damage says that the tail went. */
function claimedBy(chunk: Buffer | undefined, start: Lsn): number {
  if (chunk === undefined || chunk.length < 8) return 0
  return Number(chunk.readBigUInt64LE() - start) + chunk.length - 8
}

export function encodeTailPiece(
  head: TailHead,
  from: number,
  bytes: readonly Uint8Array[],
): Uint8Array {
  const length = bytes.reduce((sum, piece) => sum + piece.length, 0)
  const json = Buffer.from(JSON.stringify({ ...storedHead(head), from, to: from + length }))
  const size = Buffer.alloc(4)
  size.writeUInt32LE(json.length)
  return encodeEnvelope('TAIL', Buffer.concat([size, json, ...bytes]))
}

/** TM1601 when it is not whole. */
export function decodeTailPiece(
  key: string,
  stored: Uint8Array,
  expected: ExpectedTail,
  range: { readonly from: number; readonly to: number },
): TailBytes {
  const raw = Buffer.from(decodeEnvelope(key, 'TAIL', stored))
  const jsonLength = raw.length < 4 ? 0 : raw.readUInt32LE()
  const head = decodeHead(key, raw.subarray(4, 4 + jsonLength), expected)
  const bytes = raw.subarray(4 + jsonLength)
  const agrees =
    head.from === range.from &&
    head.to === range.to &&
    bytes.length === range.to - range.from &&
    range.to <= head.walSegmentSizeBytes
  if (!agrees) throw damagedObject(key, 'it does not hold the range in its name')
  return {
    head,
    from: range.from,
    bytes: [bytes],
    length: bytes.length,
    ending: 'clean',
    claimed: range.to,
  }
}

export interface JoinedTail {
  readonly head: TailHead
  /** The segment from its first byte on. */
  readonly bytes: Buffer
  readonly ending: 'clean' | 'torn' | 'damaged'
  readonly claimed: number
}

/** What parts cover without a gap from offset 0. Those behind a gap make it damaged. */
export function joinTail(parts: readonly TailBytes[]): JoinedTail | undefined {
  const [first] = parts
  if (first === undefined) return undefined
  const ordered = parts.toSorted((a, b) => a.from - b.from || b.length - a.length)
  const end = Math.max(...ordered.map(({ from, length }) => from + length))
  const claimed = Math.max(end, ...ordered.map((part) => part.claimed))
  const bytes = Buffer.alloc(end)
  let filled = 0
  const isTorn = ordered.some((part) => part.ending === 'torn')
  let ending: JoinedTail['ending'] = isTorn ? 'torn' : 'clean'
  for (const part of ordered) {
    if (part.ending === 'damaged') ending = 'damaged'
    const joined = part.bytes.length === 1 ? (part.bytes[0] as Buffer) : Buffer.concat(part.bytes)
    const overlap = Math.min(filled - part.from, part.length)
    const agrees =
      overlap >= 0 &&
      bytes.subarray(part.from, part.from + overlap).equals(joined.subarray(0, overlap))
    if (!agrees) {
      ending = 'damaged'
      break
    }
    joined.copy(bytes, part.from + overlap, overlap)
    filled = Math.max(filled, part.from + part.length)
  }
  return { head: first.head, bytes: bytes.subarray(0, filled), ending, claimed }
}

export function segmentStartOf(segment: string, walSegmentSizeBytes: number): Lsn {
  const named = parseSegmentName(segment, walSegmentSizeBytes)
  return named === undefined ? lsn(0n) : segmentStart(named.segment, walSegmentSizeBytes)
}

export function damagedTail(key: string, url: string, because: string, cause?: unknown): Failure {
  return new Failure('TM1441', {
    message: `the tail ${key} is damaged`,
    because: `in ${url}: ${because}`,
    fix: 'what lies before the damage is used; keep it for inspection, and check the disk',
    details: { key, url },
    ...(cause === undefined ? {} : { cause }),
  })
}

/** A seal or an envelope that does not hold. */
export function isDamage(error: unknown): error is Failure {
  return isFailure(error, 'TM1601') || isFailure(error, 'TM1605')
}
