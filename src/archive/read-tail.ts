/**
 * Reads tails: of one opening, and the furthest of a segment among several repositories.
 *
 * Invariant: bytes that are returned are a prefix of what was flushed; nothing is answered
 * "no tail" unless every storage has listed that it has none.
 */
import { Failure } from '../base/failure.ts'
import { formatLsn, type Lsn, lsn } from '../postgres/lsn.ts'
import { copiesOf } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { findRecordEnd } from './find-record-end.ts'
import {
  damagedTail,
  decodeTailJournal,
  decodeTailPiece,
  isDamage,
  joinTail,
  segmentStartOf,
  type TailBytes,
  type TailHead,
} from './tail-format.ts'
import {
  type ListedTail,
  listTails,
  parseTailKey,
  type TailPart,
  type TailPlace,
} from './tail-keys.ts'

export interface ReadTail {
  readonly url: string
  readonly segment: string
  readonly opening: string
  readonly keys: readonly string[]
  /** Undefined where not even a head holds. */
  readonly head: TailHead | undefined
  /** From the segment's first byte on. */
  readonly bytes: Buffer
  /** First LSN that is not in it. */
  readonly endLsn: Lsn
  /** Up to where it was durable once, as far as that can be told; more than `endLsn`: lost. */
  readonly claimedLsn: Lsn
  readonly ending: 'clean' | 'torn' | 'damaged'
  /** TM1441: what was durable does not hold any more. */
  readonly failure: Failure | undefined
}

/** Undefined: it is gone meanwhile. Damage does not fail: it is in the answer. */
export async function readTail(
  storage: Storage,
  place: TailPlace,
  listed: ListedTail,
): Promise<ReadTail | undefined> {
  const parts: TailBytes[] = []
  let failure: Failure | undefined
  let found = 0
  let lostTo = 0
  for (const part of listed.parts) {
    try {
      const bytes = await readPart(storage, place, listed, part)
      if (bytes === undefined) continue
      found += 1
      parts.push(bytes)
    } catch (error) {
      if (!isDamage(error)) throw error
      found += 1
      // Of a journal whose head does not hold nothing is known but that it had a head.
      lostTo = Math.max(lostTo, part.piece?.to ?? 1)
      failure ??= damagedTail(part.key, storage.url, error.because ?? error.message, error)
    }
  }
  if (found === 0) return undefined
  return describe(storage, place, listed, joinTail(parts), failure, lostTo)
}

async function readPart(
  storage: Storage,
  place: Pick<TailPlace, 'systemIdentifier'> & {
    readonly walSegmentSizeBytes: number | undefined
  },
  { segment, opening }: Pick<ListedTail, 'segment' | 'opening'>,
  { key, piece }: Pick<TailPart, 'key' | 'piece'>,
): Promise<TailBytes | undefined> {
  const stored = await storage.read(key)
  if (stored === undefined) return undefined
  const { systemIdentifier, walSegmentSizeBytes } = place
  const expected = { systemIdentifier, walSegmentSizeBytes, segment, opening }
  if (piece === undefined) return decodeTailJournal(key, stored, expected)
  return decodeTailPiece(key, stored, expected, piece)
}

function describe(
  storage: Storage,
  place: TailPlace,
  { segment, opening, parts }: ListedTail,
  joined: ReturnType<typeof joinTail>,
  failure: Failure | undefined,
  lostTo: number,
): ReadTail {
  const bytes = joined?.bytes ?? Buffer.alloc(0)
  const start = segmentStartOf(segment, place.walSegmentSizeBytes)
  const endLsn = lsn(start + BigInt(bytes.length))
  const key = parts[0]?.key ?? segment
  const isDamaged = joined?.ending === 'damaged'
  const lost = isDamaged
    ? damagedTail(key, storage.url, `behind ${formatLsn(endLsn)} a part does not hold`)
    : undefined
  return {
    url: storage.url,
    segment,
    opening,
    keys: parts.map((part) => part.key),
    head: joined?.head,
    bytes,
    endLsn,
    claimedLsn: lsn(start + BigInt(Math.max(joined?.claimed ?? 0, lostTo))),
    ending: failure === undefined ? (joined?.ending ?? 'damaged') : 'damaged',
    failure: failure ?? lost,
  }
}

/** For verify: one object of a tail. The failure where it does not hold; gone is none. */
export async function proveTailPart(
  storage: Storage,
  key: string,
  systemIdentifier: string,
): Promise<Failure | undefined> {
  const name = parseTailKey(key)
  if (name === undefined) throw new Error(`not the key of a tail: ${key}`)
  const { segment, opening, piece } = name
  const place = { cluster: '', systemIdentifier, walSegmentSizeBytes: undefined }
  try {
    const part = await readPart(storage, place, { segment, opening }, { key, piece })
    if (part === undefined || part.ending !== 'damaged') return undefined
    return damagedTail(
      key,
      storage.url,
      `behind byte ${part.length} of the segment it has lost bytes`,
    )
  } catch (error) {
    if (!isDamage(error)) throw error
    return damagedTail(key, storage.url, error.because ?? error.message, error)
  }
}

/** Pieces are joined and removed while one reads: what vanished is looked for again. */
const READINGS = 4

/** All tails of a segment in one repository. */
export async function readTailsOf(
  storage: Storage,
  place: TailPlace,
  segment: string,
): Promise<ReadTail[]> {
  const { cluster, systemIdentifier } = place
  for (let reading = 1; ; reading++) {
    const listed = await listTails(storage, cluster, systemIdentifier, segment)
    const tails: ReadTail[] = []
    for (const one of listed) {
      const tail = await readTail(storage, place, one)
      if (tail !== undefined) tails.push(tail)
    }
    const isSettled = tails.length === listed.length && tails.every(isWhole)
    if (isSettled || reading === READINGS) return tails
  }
}

function isWhole({ ending }: ReadTail): boolean {
  return ending !== 'damaged'
}

export interface FoundTail extends ReadTail {
  /** TM1441: a copy, or this one, was durable further than this one reaches now. */
  readonly loss: Failure | undefined
}

/**
 * The tail of a segment that reaches furthest; undefined when no storage has one, or none that
 * holds anything. TM1443 when two contradict each other. A storage that cannot say fails it: its
 * tail may be the one that has what was acknowledged last.
 */
export async function findTail(
  storages: readonly Storage[],
  place: TailPlace,
  segment: string,
): Promise<FoundTail | undefined> {
  const tails: ReadTail[] = []
  for (const storage of storages.flatMap((one) => copiesOf(one))) {
    tails.push(...(await readTailsOf(storage, place, segment)))
  }
  const [first] = tails
    .filter(({ bytes }) => bytes.length > 0)
    .toSorted((a, b) => b.bytes.length - a.bytes.length)
  if (first === undefined) {
    const damage = tails.find(({ failure }) => failure !== undefined)?.failure
    if (damage !== undefined) throw damage
    return undefined
  }
  for (const other of tails) requireAgreement(place, first, other)
  const lost = tails.find(({ claimedLsn, failure }) => {
    return failure !== undefined && claimedLsn > first.endLsn
  })
  return { ...first, loss: lost?.failure }
}

function requireAgreement(place: TailPlace, one: ReadTail, other: ReadTail): void {
  const common = Math.min(one.bytes.length, other.bytes.length)
  if (one.bytes.subarray(0, common).equals(other.bytes.subarray(0, common))) return
  const differsAt = firstDifference(one.bytes, other.bytes)
  const validEnd = Math.min(
    findRecordEnd(place, one.segment, one.bytes),
    findRecordEnd(place, other.segment, other.bytes),
  )
  if (differsAt >= validEnd) return
  const at = lsn(segmentStartOf(one.segment, place.walSegmentSizeBytes) + BigInt(differsAt))
  throw new Failure('TM1443', {
    message: `two tails of the WAL segment ${one.segment} contradict each other`,
    because:
      `${one.keys[0]} in ${one.url} and ${other.keys[0]} in ${other.url} ` +
      `differ at ${formatLsn(at)}`,
    fix: 'restore from one repository (--repository), or to a moment before that segment',
    details: { segment: one.segment, lsn: formatLsn(at), urls: [one.url, other.url] },
  })
}

export function firstDifference(one: Uint8Array, other: Uint8Array): number {
  const common = Math.min(one.length, other.length)
  for (let at = 0; at < common; at++) if (one[at] !== other[at]) return at
  return common
}
