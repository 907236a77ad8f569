/**
 * Gap records: `wal/<sysid>/gaps/…`, what the receiver found to be missing for ever
 * (docs/design/repository-format.md, section 8).
 *
 * Invariant: a record is created before anything behind its gap is stored, and never edited.
 */
import { isFailure } from '../base/failure.ts'
import {
  formatLsn,
  formatTimeline,
  type Lsn,
  lsn,
  parseLsn,
  type Timeline,
} from '../postgres/lsn.ts'
import { damagedObject } from '../repository/envelope.ts'
import { decodeSmallObject, encodeSmallObject } from '../repository/small-object.ts'
import type { Storage } from '../storage/storage.ts'
import { walPrefix } from './wal-file-name.ts'

export interface WalGap {
  readonly systemIdentifier: string
  /** Of the server behind the gap. */
  readonly timeline: Timeline
  /** What was durable before it, and where WAL goes on. */
  readonly from: Lsn
  readonly to: Lsn
  /** ISO 8601 UTC. */
  readonly foundAt: string
  /** For people. */
  readonly because: string
}

export function gapPrefix(cluster: string, systemIdentifier: string): string {
  return `${walPrefix(cluster, systemIdentifier)}gaps/`
}

/** The same gap has the same key, so that whoever finds it again finds the record. */
export function gapKey(cluster: string, { systemIdentifier, timeline, from, to }: WalGap): string {
  const hex = (value: Lsn): string => value.toString(16).toUpperCase().padStart(16, '0')
  const name = `${formatTimeline(timeline)}-${hex(from)}-${hex(to)}.gap`
  return gapPrefix(cluster, systemIdentifier) + name
}

/** Where a gap lies, as its key tells it: enough to judge it without a read. */
export type GapPlace = Pick<WalGap, 'timeline' | 'from' | 'to'> & { readonly key: string }

/** Undefined for any other key. */
export function parseGapKey(key: string): GapPlace | undefined {
  const match = /\/gaps\/([0-9A-F]{8})-([0-9A-F]{16})-([0-9A-F]{16})\.gap$/.exec(key)
  if (match === null) return undefined
  const [from, to] = [lsn(BigInt(`0x${match[2]}`)), lsn(BigInt(`0x${match[3]}`))]
  return { timeline: Number.parseInt(match[1] as string, 16), from, to, key }
}

/** Durable when fulfilled; one that is there already is the same. */
export async function writeGap(storage: Storage, cluster: string, gap: WalGap): Promise<void> {
  const { from, to, ...rest } = gap
  const value = { ...rest, from: formatLsn(from), to: formatLsn(to) }
  const bytes = encodeSmallObject('GAPR', value)
  try {
    await storage.write(gapKey(cluster, gap), bytes, { createOnly: true })
  } catch (error) {
    if (!isFailure(error, 'TM1502')) throw error
  }
}

/** TM1601 when it does not hold. */
export function parseGap(key: string, bytes: Uint8Array): WalGap {
  const { from, to, ...rest } = decodeSmallObject(key, 'GAPR', bytes)
  const [first, last] = [parseLsn(String(from)), parseLsn(String(to))]
  if (first === undefined || last === undefined) throw damagedObject(key, 'it is no gap')
  const { systemIdentifier, timeline, foundAt, because } = rest
  return {
    systemIdentifier: String(systemIdentifier),
    timeline: Number(timeline),
    from: first,
    to: last,
    foundAt: String(foundAt),
    because: String(because),
  }
}

/** Oldest first by timeline and place. TM1601 when one does not hold. */
export async function readGaps(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
): Promise<WalGap[]> {
  const gaps: WalGap[] = []
  for await (const { key } of storage.list(gapPrefix(cluster, systemIdentifier))) {
    const bytes = await storage.read(key)
    if (bytes !== undefined) gaps.push(parseGap(key, bytes))
  }
  return gaps
}
