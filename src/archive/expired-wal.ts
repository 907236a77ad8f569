/**
 * How far WAL was let go: `wal/<sysid>/expired.mark`, so that a hole that an expiry has made is
 * told apart from a loss. It is a hint for people and checks: no recovery reads across a hole.
 *
 * Invariant: it is written before the WAL is removed that it names.
 */
import { isFailure } from '../base/failure.ts'
import type { Timeline } from '../postgres/lsn.ts'
import { damagedObject, decodeEnvelope, encodeEnvelope } from '../repository/envelope.ts'
import type { Storage } from '../storage/storage.ts'
import { walPrefix } from './wal-file-name.ts'

/** By timeline: the number of the last segment that was let go. */
export type ExpiredWalMark = ReadonlyMap<Timeline, bigint>

export const EXPIRED_MARK_NAME = 'expired.mark'

export function expiredMarkKey(cluster: string, systemIdentifier: string): string {
  return walPrefix(cluster, systemIdentifier) + EXPIRED_MARK_NAME
}

interface StoredMark {
  readonly format: number
  readonly timelines: Readonly<Record<string, string>>
}

/** A damaged one is as good as none: holes are shown as gaps then. */
export async function readExpiredMark(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
): Promise<ExpiredWalMark> {
  const key = expiredMarkKey(cluster, systemIdentifier)
  try {
    const bytes = await storage.read(key)
    return bytes === undefined ? new Map() : parseMark(key, decodeEnvelope(key, 'GONE', bytes))
  } catch (error) {
    if (!isFailure(error, 'TM1601')) throw error
    return new Map()
  }
}

function parseMark(key: string, raw: Uint8Array): ExpiredWalMark {
  const { format, timelines } = JSON.parse(Buffer.from(raw).toString('utf8')) as StoredMark
  if (format !== 1) throw damagedObject(key, `it has format ${format}`)
  return new Map(
    Object.entries(timelines).map(([timeline, last]) => [Number(timeline), BigInt(last)]),
  )
}

/** Never takes back what was noted before; of two that write at once the later one counts. */
export async function advanceExpiredMark(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  gone: ExpiredWalMark,
): Promise<void> {
  const before = await readExpiredMark(storage, cluster, systemIdentifier)
  const now = new Map(before)
  for (const [timeline, last] of gone) {
    if ((now.get(timeline) ?? -1n) < last) now.set(timeline, last)
  }
  const isNew = [...now].some(([timeline, last]) => before.get(timeline) !== last)
  if (!isNew) return
  const timelines = Object.fromEntries([...now].map(([one, last]) => [String(one), String(last)]))
  const raw = Buffer.from(JSON.stringify({ format: 1, timelines }))
  await storage.write(expiredMarkKey(cluster, systemIdentifier), encodeEnvelope('GONE', raw))
}

/** Was the segment let go, if it is not there? */
export function isLetGo(
  mark: ExpiredWalMark | undefined,
  timeline: Timeline,
  segment: bigint,
): boolean {
  return segment <= (mark?.get(timeline) ?? -1n)
}
