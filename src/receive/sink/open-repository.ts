/** Opens one repository for a sink: what it has, where it ends, what earlier openings left. */
import { timelineOfSegment } from '../../archive/find-gaps.ts'
import { hasSegment, listWal, type WalListing } from '../../archive/list-wal.ts'
import { type ReadTail, readTailsOf } from '../../archive/read-tail.ts'
import { type Lsn, lsn, parseSegmentName, segmentStart, type Timeline } from '../../postgres/lsn.ts'
import { readSystemIdentity, type SystemIdentity } from '../../repository/system-identity.ts'
import type { Storage } from '../../storage/storage.ts'
import type { SinkEvent, WalSinkOptions } from '../wal-sink.ts'
import { clearLeftTails, RepositorySink } from './repository-sink.ts'
import { findWantedSegment, nameOnPath, newestPath } from './resume.ts'

export interface RepositoryEnd {
  readonly timeline: Timeline
  /** The first segment that it wants. */
  readonly segment: bigint
  /** Up to where it has everything, its tail included. */
  readonly flushed: Lsn
}

export interface OpenedRepository {
  readonly repository: RepositorySink
  readonly identity: SystemIdentity
  /** Undefined: it has nothing on the path. */
  readonly end: RepositoryEnd | undefined
}

/** TM1407 when the repository does not know the server. */
export async function openRepositorySink(
  storage: Storage,
  options: WalSinkOptions,
  onEvent: (event: SinkEvent) => void,
): Promise<OpenedRepository> {
  const { cluster, systemIdentifier } = options
  const identity = await readSystemIdentity(storage, cluster, systemIdentifier)
  const { walSegmentSizeBytes } = identity
  const listing = await listWal(storage, cluster, systemIdentifier)
  const place = { storage, cluster, systemIdentifier, walSegmentSizeBytes, identity, onEvent }
  await clearLeftTails(place, archivedOfTails(listing))
  const path = options.path ?? newestPath(listing)
  const wanted =
    path === undefined ? undefined : findWantedSegment(listing, path, options.availableFrom)
  if (path === undefined || wanted === undefined) {
    return { repository: new RepositorySink(place, []), identity, end: undefined }
  }
  const name = nameOnPath(path, wanted, walSegmentSizeBytes)
  const priors = await readTailsOf(storage, place, name)
  tellDamage(storage, priors, onEvent)
  const longest = priors.reduce((most, { bytes }) => Math.max(most, bytes.length), 0)
  const flushed = lsn(segmentStart(wanted, walSegmentSizeBytes) + BigInt(longest))
  const timeline = timelineOfSegment(path, wanted, walSegmentSizeBytes)
  const end = { timeline, segment: wanted, flushed }
  return { repository: new RepositorySink(place, priors), identity, end }
}

function archivedOfTails(listing: WalListing): ReadonlySet<string> {
  const names = listing.tails.map(({ segment }) => segment)
  return new Set(
    names.filter((name) => {
      const named = parseSegmentName(name, listing.walSegmentSizeBytes)
      return named !== undefined && hasSegment(listing, named.timeline, named.segment)
    }),
  )
}

function tellDamage(
  { url }: Storage,
  tails: readonly ReadTail[],
  onEvent: (event: SinkEvent) => void,
): void {
  for (const { keys, failure } of tails) {
    if (failure === undefined) continue
    const because = failure.because ?? failure.message
    onEvent({ kind: 'tail-kept', url, key: keys[0] ?? '', because })
  }
}
