/**
 * What a repository lacks that another one of the cluster has. Pure: nothing is remembered of
 * it anywhere, two listings are compared.
 *
 * Only what came after the newest backup of the repository counts: older backups, and WAL before
 * it, may have expired here and not there. Holes before that are found as holes.
 */
import type { WalListing } from '../../../archive/list-wal.ts'
import { parseSegmentName, type Timeline } from '../../../postgres/lsn.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import { formatCount } from '../../format-units.ts'
import { type Check, found } from '../doctor/check.ts'

/** What one repository holds of a cluster. */
export interface HeldByRepository {
  readonly name: string
  /** Oldest first. */
  readonly backups: readonly BackupRecord[]
  readonly archives: readonly WalListing[]
}

export interface Lacking {
  readonly name: string
  readonly backups: number
  readonly segments: number
  /** A repository that has most of it. */
  readonly from: string
}

export function judgeBehind(cluster: string, repositories: readonly HeldByRepository[]): Check[] {
  return repositories.flatMap((own) => {
    const others = repositories.filter((other) => other !== own)
    const lacking = findLacking(own, others)
    return lacking === undefined ? [] : [describeLacking(cluster, lacking)]
  })
}

export function findLacking(
  own: HeldByRepository,
  others: readonly HeldByRepository[],
): Lacking | undefined {
  const backups = new Set<string>()
  const segments = new Set<string>()
  let from: string | undefined
  let most = 0
  for (const other of others) {
    const before = backups.size + segments.size
    for (const id of laterBackups(own, other)) backups.add(id)
    for (const name of laterSegments(own, other)) segments.add(name)
    const added = backups.size + segments.size - before
    if (added > most) [most, from] = [added, other.name]
  }
  if (from === undefined) return undefined
  return { name: own.name, backups: backups.size, segments: segments.size, from }
}

function laterBackups(own: HeldByRepository, other: HeldByRepository): string[] {
  const newest = own.backups.at(-1)?.stoppedAt ?? ''
  const known = new Set(own.backups.map(({ id }) => id))
  return other.backups
    .filter(({ id, stoppedAt }) => stoppedAt > newest && !known.has(id))
    .map(({ id }) => id)
}

function* laterSegments(own: HeldByRepository, other: HeldByRepository): Generator<string> {
  for (const archive of other.archives) {
    const { systemIdentifier, walSegmentSizeBytes } = archive
    const newest = own.backups.findLast((one) => one.systemIdentifier === systemIdentifier)
    const start =
      newest === undefined ? undefined : parseSegmentName(newest.walFirst, walSegmentSizeBytes)
    const mine = own.archives.find((one) => one.systemIdentifier === systemIdentifier)
    for (const { timeline, ranges } of archive.timelines) {
      if (start !== undefined && timeline < start.timeline) continue
      const has = makeHas(mine, timeline)
      for (const { first, last } of ranges) {
        const begin = start !== undefined && start.segment > first ? start.segment : first
        for (let segment = begin; segment <= last; segment++) {
          if (!has(segment)) yield `${systemIdentifier}/${timeline}/${segment}`
        }
      }
    }
  }
}

function makeHas(
  archive: WalListing | undefined,
  timeline: Timeline,
): (segment: bigint) => boolean {
  const ranges = archive?.timelines.find((one) => one.timeline === timeline)?.ranges ?? []
  return (segment) => ranges.some(({ first, last }) => first <= segment && segment <= last)
}

/** One segment alone may be on its way there just now. */
function describeLacking(cluster: string, lacking: Lacking): Check {
  const { name, backups, segments, from } = lacking
  const parts = [
    ...(backups > 0 ? [formatCount(backups, 'backup')] : []),
    ...(segments > 0 ? [formatCount(segments, 'WAL segment')] : []),
  ]
  return found(
    backups === 0 && segments === 1 ? 'warning' : 'problem',
    'TM1320',
    'repositories',
    `${name} is behind: it lacks ${parts.join(' and ')} that ${from} has`,
    `tidemark sync ${cluster} --from ${from} --to ${name}`,
  )
}
