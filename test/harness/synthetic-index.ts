/**
 * A repository whose archive is event indexes alone: as many transactions as one likes, without
 * writing their WAL. The segments are names with nothing in them; only listings see them.
 */
import { segmentKey } from '../../src/archive/wal-file-name.ts'
import type { IndexHeader, SegmentEvents } from '../../src/events/segment-index.ts'
import { writeIndex } from '../../src/events/store-index.ts'
import { formatSegmentName, segmentStart } from '../../src/postgres/lsn.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { ensureSystemIdentity } from '../../src/repository/system-identity.ts'
import type { Storage } from '../../src/storage/storage.ts'

export const SYSTEM = '7400000000000000001'
const SIZE = 16 * 1024 * 1024
/** Microseconds from 2000 to 2026-11-20T10:00:00Z. */
export const BEGIN_MICROS = 848_484_000_000_000
const STEP_MICROS = 1000
const FIRST_XID = 1000

export interface SyntheticArchive {
  readonly segments: number
  readonly transactionsPerSegment: number
  /** One in so many deletes 5000 rows; the others update one. */
  readonly largeEvery: number
}

export async function writeSyntheticArchive(
  storage: Storage,
  cluster: string,
  shape: SyntheticArchive,
): Promise<void> {
  await createRepository(storage, new Date(0))
  await ensureSystemIdentity(storage, cluster, {
    systemIdentifier: SYSTEM,
    walSegmentSizeBytes: SIZE,
    major: 15,
    createdAt: new Date(0).toISOString(),
  })
  for (let number = 0; number < shape.segments; number++) {
    const name = formatSegmentName(1, BigInt(number + 1), SIZE)
    await storage.write(segmentKey(cluster, SYSTEM, name), Buffer.from('-'))
    const index = { header: headerOf(number, shape), events: eventsOf(number, shape), pages: [] }
    await writeIndex([storage], { cluster, systemIdentifier: SYSTEM }, name, index)
  }
}

function headerOf(number: number, { transactionsPerSegment }: SyntheticArchive): IndexHeader {
  const earliest = BEGIN_MICROS + number * transactionsPerSegment * STEP_MICROS
  return {
    systemIdentifier: BigInt(SYSTEM),
    segmentStart: segmentStart(BigInt(number + 1), SIZE),
    timeline: 1,
    walSegmentSizeBytes: SIZE,
    contentHash: '0'.repeat(64),
    major: 15,
    times: { earliest, latest: earliest + (transactionsPerSegment - 1) * STEP_MICROS },
    snapshot: undefined,
    endOffset: SIZE,
    end: 'whole',
    endCount: transactionsPerSegment,
  }
}

function eventsOf(number: number, shape: SyntheticArchive): SegmentEvents {
  const count = shape.transactionsPerSegment
  const list = (make: (n: number) => number): number[] =>
    Array.from({ length: count }, (_, n) => make(n))
  const stride = Math.floor((SIZE - 64) / count / 8) * 8
  const offset = (n: number): number => 40 + n * stride
  const first = number * count
  const isLarge = (n: number): boolean => (first + n) % shape.largeEvery === 0
  const relation = { tablespace: 1663, database: 5, number: 20000, isToast: false }
  return {
    relations: [relation],
    shapes: [
      [0, 0, 1, 0, 0, 0, 0],
      [0, 0, 0, 5000, 0, 0, 0],
    ],
    ends: {
      kinds: list(() => 1),
      xids: list((n) => FIRST_XID + first + n),
      offsets: list(offset),
      endOffsets: list((n) => offset(n) + stride),
      times: list((n) => BEGIN_MICROS + (first + n) * STEP_MICROS),
      shapes: list((n) => (isLarge(n) ? 1 : 0)),
      begins: list(offset),
      extras: new Map(),
    },
    open: [],
    others: [],
    head: undefined,
    rest: { isOverwritten: false, firstOffset: 40, bytes: new Uint8Array(0) },
  }
}
