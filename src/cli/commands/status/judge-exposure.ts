/** What would be lost if the server burned now. Pure. */
import { type Lsn, parseLsn } from '../../../postgres/lsn.ts'
import type { RepositoryStatus } from './read-repository.ts'
import type { ServerStatus } from './read-server.ts'

export interface Exposure {
  /** WAL that is in no repository; undefined without the server. */
  readonly bytes: number | undefined
  /** How long ago the first lost change may have been made. */
  readonly seconds: number | undefined
  /** The last moment that is known to be safe. */
  readonly since: Date | undefined
}

const UNKNOWN: Exposure = { bytes: undefined, seconds: undefined, since: undefined }

type Held = Pick<RepositoryStatus, 'window' | 'newestWal'>

/** The end of what can be recovered from one repository. */
interface Reach {
  readonly lsn: Lsn
  /** Of the last thing that is known to be safe there. */
  readonly time: Date | undefined
  /** Nothing is archived behind it: no hole lies in between. */
  readonly isNewest: boolean
}

/** One repository that has the WAL is enough not to lose it. */
export function judgeExposure(
  server: Pick<ServerStatus, 'reached'>,
  repositories: readonly Held[],
  now: Date,
): Exposure {
  const reach = repositories
    .flatMap(reachOf)
    .reduce<Reach | undefined>((best, one) => (best && best.lsn >= one.lsn ? best : one), undefined)
  if (reach === undefined) return UNKNOWN
  const { reached } = server
  const current = reached?.currentLsn == null ? undefined : parseLsn(reached.currentLsn)
  if (reached === undefined || current === undefined) {
    const seconds = reach.time === undefined ? undefined : secondsBetween(reach.time, now)
    return { bytes: undefined, seconds, since: reach.time }
  }
  const at = new Date(reached.at)
  const bytes = current > reach.lsn ? Number(current - reach.lsn) : 0
  if (bytes === 0) return { bytes, seconds: 0, since: at }
  const archivedAt = reached.lastArchivedAt === null ? undefined : new Date(reached.lastArchivedAt)
  const since = (reach.isNewest ? archivedAt : undefined) ?? reach.time
  return { bytes, seconds: since === undefined ? undefined : secondsBetween(since, at), since }
}

/** WAL behind a hole saves nothing. */
function reachOf({ window, newestWal }: Held): Reach[] {
  return (window?.intervals ?? []).flatMap(({ to, from, lastSegment, tail, damage }) => {
    const isWhole = tail === undefined && damage === undefined
    const isNewest = isWhole && lastSegment === newestWal?.segment
    const lsn = parseLsn(isNewest ? newestWal.lsn : to.lsn)
    if (lsn === undefined) return []
    const time = Math.max(Date.parse(from.time), Date.parse(to.time ?? from.time))
    return [{ lsn, time: new Date(time), isNewest }]
  })
}

function secondsBetween(from: Date, to: Date): number {
  return Math.max(0, Math.round((to.getTime() - from.getTime()) / 1000))
}
