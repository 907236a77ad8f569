/** How fast WAL is written, and how far the archive is behind. Pure. */
import type { Lsn } from '../../../postgres/lsn.ts'

/** A place in the WAL and when it was written, in milliseconds since 1970. */
export interface WalPoint {
  readonly lsn: Lsn
  readonly atMs: number
}

export interface WalRate {
  readonly bytesPerSecond: number
  /** The time that it was measured over. */
  readonly seconds: number
}

/** Shorter than this, a rate is chance. */
const SHORTEST_MS = 1000

/** Between the oldest and the newest of the points. */
export function measureRate(points: readonly (WalPoint | undefined)[]): WalRate | undefined {
  const known = points.filter((point) => point !== undefined)
  const inOrder = known.toSorted((a, b) => a.atMs - b.atMs)
  const [first] = inOrder
  const last = inOrder.at(-1)
  if (first === undefined || last === undefined) return undefined
  const elapsedMs = last.atMs - first.atMs
  if (elapsedMs < SHORTEST_MS || last.lsn < first.lsn) return undefined
  const bytesPerSecond = (Number(last.lsn - first.lsn) * 1000) / elapsedMs
  return { bytesPerSecond: Math.round(bytesPerSecond), seconds: Math.round(elapsedMs / 1000) }
}

export interface Lag {
  /** WAL that the server has written and the repository lacks; undefined without the server. */
  readonly bytes: number | undefined
  /** The age of the oldest change that may be lacking. */
  readonly seconds: number | undefined
}

/**
 * `archived`: up to where the repository has everything, with the last moment that is known
 * to be there. `now`: where the server is; without it only the age of that moment is known.
 */
export function measureLag(
  archived: { readonly lsn: Lsn; readonly atMs: number | undefined } | undefined,
  now: { readonly lsn: Lsn | undefined; readonly atMs: number },
): Lag {
  if (archived === undefined) return { bytes: undefined, seconds: undefined }
  const { atMs } = archived
  const age = atMs === undefined ? undefined : Math.max(0, Math.round((now.atMs - atMs) / 1000))
  if (now.lsn === undefined) return { bytes: undefined, seconds: age }
  const bytes = now.lsn > archived.lsn ? Number(now.lsn - archived.lsn) : 0
  return { bytes, seconds: bytes === 0 ? 0 : age }
}
