/**
 * The timelines of one system: their paths, and which backups lie on them. Pure.
 *
 * Invariant: a lineage that is not proved by histories is unknown, and then everything of the
 * system is kept.
 */
import { includes, NO_ANCESTORS, type TimelineHistory } from '../postgres/history-file.ts'
import type { Lsn, Timeline } from '../postgres/lsn.ts'
import type { BackupFacts, SystemFacts, TimelineFacts } from './facts.ts'

export interface Lineage {
  /** Every timeline of WAL and backups, with the path that leads to it; ascending. */
  readonly paths: readonly TimelineHistory[]
  /** Timelines whose ancestors nobody knows. */
  readonly unknown: readonly Timeline[]
}

export function traceLineage(
  system: SystemFacts | undefined,
  backups: readonly BackupFacts[],
): Lineage {
  const listed = new Map<Timeline, TimelineFacts>()
  for (const one of system?.timelines ?? []) listed.set(one.timeline, one)
  const all = new Set([...listed.keys(), ...backups.map(({ timeline }) => timeline)])
  const ascending = [...all].sort((a, b) => a - b)
  const paths: TimelineHistory[] = []
  const unknown: Timeline[] = []
  for (const timeline of ascending) {
    const history = listed.get(timeline)?.history ?? 'none'
    // PostgreSQL's first timeline has no history; nor has one that everything here begins with.
    const isRoot = history === 'none' && timeline === ascending[0]
    if (isRoot) paths.push({ timeline, ancestors: NO_ANCESTORS })
    else if (typeof history === 'string') unknown.push(timeline)
    else paths.push(history)
  }
  return { paths, unknown }
}

/** The backups that lie on a path, by LSN. */
export function backupsAlong(
  path: TimelineHistory,
  backups: readonly BackupFacts[],
): BackupFacts[] {
  return backups
    .filter(({ timeline, consistentAt }) => includes(path, timeline, consistentAt as Lsn))
    .sort(compareAlong)
}

/** By LSN; two of an idle standby may end at one: then by time, and at last by id. */
export function compareAlong(a: BackupFacts, b: BackupFacts): number {
  if (a.consistentAt !== b.consistentAt) return a.consistentAt < b.consistentAt ? -1 : 1
  if (a.stoppedAtMs !== b.stoppedAtMs) return a.stoppedAtMs - b.stoppedAtMs
  return a.id < b.id ? -1 : 1
}

/**
 * The newest that stopped before `timeMs`, and before which none stopped later: where the clock
 * was set back, an older one. From it every moment of the path from `timeMs` on is reached.
 */
export function findWindowBase(
  along: readonly BackupFacts[],
  timeMs: number,
): BackupFacts | undefined {
  const firstLater = along.findIndex(({ stoppedAtMs }) => stoppedAtMs >= timeMs)
  return firstLater < 0 ? along.at(-1) : along[firstLater - 1]
}
