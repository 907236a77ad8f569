/**
 * The header of an index and the proof of its sections (docs/design/event-index.md, section 3).
 */
import { hash } from 'node:crypto'
import { lsn } from '../../postgres/lsn.ts'
import { damagedObject } from '../../repository/envelope.ts'
import type { IndexHeader } from '../segment-index.ts'

export const INDEX_HEADER_BYTES = 224
const MAGIC = 'TMEVT001'
const HAS_TIMES = 1
const HAS_SNAPSHOT = 2
const ENDS_EARLY = 4
const IS_DAMAGED = 8
const HASH_BYTES = 32
const HASHED_BYTES = 192

export interface SectionPlace {
  readonly storedBytes: number
  readonly rawBytes: number
  /** SHA-256 of the stored bytes. */
  readonly hash: Buffer
}

export interface StoredHeader {
  readonly header: IndexHeader
  readonly events: SectionPlace
  readonly pages: SectionPlace
}

export function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}

export function encodeHeader({ header, events, pages }: StoredHeader): Buffer {
  const bytes = Buffer.alloc(INDEX_HEADER_BYTES)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeBigUInt64LE(header.systemIdentifier, 8)
  bytes.writeBigUInt64LE(header.segmentStart, 16)
  bytes.writeUInt32LE(header.timeline, 24)
  bytes.writeUInt32LE(header.walSegmentSizeBytes, 28)
  bytes.write(header.contentHash, 32, 'hex')
  bytes.writeUInt32LE(header.major, 64)
  bytes.writeUInt32LE(flagsOf(header), 68)
  bytes.writeBigInt64LE(BigInt(header.times?.earliest ?? 0), 72)
  bytes.writeBigInt64LE(BigInt(header.times?.latest ?? 0), 80)
  bytes.writeUInt32LE(header.snapshot?.offset ?? 0, 88)
  bytes.writeUInt32LE(header.snapshot?.nextXid ?? 0, 92)
  bytes.writeUInt32LE(header.snapshot?.oldestXid ?? 0, 96)
  bytes.writeUInt32LE(header.endOffset, 100)
  bytes.writeUInt32LE(header.endCount, 104)
  for (const [at, place] of [[108, events] as const, [116, pages] as const]) {
    bytes.writeUInt32LE(place.storedBytes, at)
    bytes.writeUInt32LE(place.rawBytes, at + 4)
  }
  events.hash.copy(bytes, 128)
  pages.hash.copy(bytes, 160)
  sha256(bytes.subarray(0, HASHED_BYTES)).copy(bytes, HASHED_BYTES)
  return bytes
}

function flagsOf({ times, snapshot, end }: IndexHeader): number {
  let flags = times === undefined ? 0 : HAS_TIMES
  if (snapshot !== undefined) flags |= HAS_SNAPSHOT
  if (end !== 'whole') flags |= ENDS_EARLY
  return end === 'damage' ? flags | IS_DAMAGED : flags
}

/** TM1601 when it does not hold. `object` may be longer than the header. */
export function decodeHeader(key: string, object: Buffer): StoredHeader {
  if (object.length < INDEX_HEADER_BYTES || object.toString('latin1', 0, 8) !== MAGIC) {
    throw damagedObject(key, 'it does not begin as an event index does')
  }
  const proof = object.subarray(HASHED_BYTES, HASHED_BYTES + HASH_BYTES)
  if (!sha256(object.subarray(0, HASHED_BYTES)).equals(proof)) {
    throw damagedObject(key, 'the SHA-256 of its header is not the one that was written')
  }
  const place = (lengths: number, hashAt: number): SectionPlace => ({
    storedBytes: object.readUInt32LE(lengths),
    rawBytes: object.readUInt32LE(lengths + 4),
    hash: Buffer.from(object.subarray(hashAt, hashAt + HASH_BYTES)),
  })
  return { header: readHeader(object), events: place(108, 128), pages: place(116, 160) }
}

/** 16 bytes and zeros; in indexes of old 32 bytes, a SHA-256. */
function readContentHash(object: Buffer): string {
  const digits = object.toString('hex', 32, 64)
  return digits.endsWith('0'.repeat(32)) ? digits.slice(0, 32) : digits
}

function readHeader(object: Buffer): IndexHeader {
  const flags = object.readUInt32LE(68)
  const times = {
    earliest: Number(object.readBigInt64LE(72)),
    latest: Number(object.readBigInt64LE(80)),
  }
  const snapshot = {
    offset: object.readUInt32LE(88),
    nextXid: object.readUInt32LE(92),
    oldestXid: object.readUInt32LE(96),
  }
  return {
    systemIdentifier: object.readBigUInt64LE(8),
    segmentStart: lsn(object.readBigUInt64LE(16)),
    timeline: object.readUInt32LE(24),
    walSegmentSizeBytes: object.readUInt32LE(28),
    contentHash: readContentHash(object),
    major: object.readUInt32LE(64),
    times: (flags & HAS_TIMES) === 0 ? undefined : times,
    snapshot: (flags & HAS_SNAPSHOT) === 0 ? undefined : snapshot,
    endOffset: object.readUInt32LE(100),
    end: (flags & IS_DAMAGED) !== 0 ? 'damage' : (flags & ENDS_EARLY) !== 0 ? 'no-record' : 'whole',
    endCount: object.readUInt32LE(104),
  }
}
