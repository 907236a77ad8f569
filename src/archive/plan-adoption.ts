/**
 * Plans what `wal adopt` would do in one repository: where the archived history of a timeline and
 * that of a server part, what goes aside, and what takes its place
 * (docs/design/lineage.md, section 6). Writes nothing.
 */
import { historyFileName, timelineEnd } from '../postgres/history-file.ts'
import { formatSegmentName, segmentStart, type Timeline } from '../postgres/lsn.ts'
import { listBackups } from '../repository/read-backups.ts'
import type { Storage } from '../storage/storage.ts'
import {
  type AdoptedFile,
  type AdoptionSource,
  cannotAdopt,
  loadArchived,
} from './adoption-source.ts'
import { compareSegments, hasRecords, judgeContinuation } from './compare-segments.ts'
import { listWal, type WalListing, type WalTimeline } from './list-wal.ts'
import { findReservation, type Reservation } from './reservations.ts'
import { parseWalFileName, type WalFileName, walKey } from './wal-file-name.ts'
import { decodeWalObject, hashContent } from './wal-object.ts'
import type { LocalWriter } from './writer-identity.ts'
import { findWriterRecord, type WalPlace, type WriterRecord } from './writer-record.ts'

export interface AdoptionPlan extends WalPlace {
  readonly url: string
  readonly timeline: Timeline
  readonly walSegmentSizeBytes: number
  /** Undefined: out of quarantine, whoever wrote it. */
  readonly writer: LocalWriter | undefined
  readonly former: WriterRecord | undefined
  /** The number is taken from this restore. */
  readonly reservation: Reservation | 'unreadable' | undefined
  /** The first segment that goes aside, or that is brought; undefined: only the writer changes. */
  readonly from: bigint | undefined
  /** Archived files that go to quarantine, the last first. */
  readonly aside: readonly WalFileName[]
  /** Files that take their place, the first first. */
  readonly bring: readonly AdoptedFile[]
  /** Names between them that nobody has. */
  readonly missing: readonly string[]
  /** What cannot be recovered beyond the place where the two part. */
  readonly dependents: Dependents
}

export interface Dependents {
  /** Ids of backups that need what goes aside. */
  readonly backups: readonly string[]
  /** Timelines that left this one in what goes aside. */
  readonly timelines: readonly Timeline[]
}

export interface AdoptionRequest extends WalPlace {
  readonly timeline: Timeline
  readonly source: AdoptionSource
}

/** Failures: TM1407, TM1464. */
export async function planAdoption(
  storage: Storage,
  request: AdoptionRequest,
): Promise<AdoptionPlan> {
  const { cluster, systemIdentifier, timeline, source } = request
  const archive = await listWal(storage, cluster, systemIdentifier)
  const record = await findWriterRecord(storage, request, timeline)
  const reservation = await findReservation(storage, request, timeline)
  const isOtherHistory = await hasOtherHistory(storage, request)
  const archived = segmentsOf(archive, timeline)
  const from = isOtherHistory
    ? (archived[0] ?? source.segments.keys().next().value)
    : await findParting(storage, request, archive, archived)
  const moved = from === undefined ? [] : archived.filter((segment) => segment >= from)
  const size = archive.walSegmentSizeBytes
  const { bring, missing } = listBrought(request, from, size)
  const history = isOtherHistory ? [historyName(timeline)] : []
  const dependents = await findDependents(
    storage,
    request,
    archive,
    moved.length > 0 ? from : undefined,
  )
  return {
    cluster,
    systemIdentifier,
    url: storage.url,
    timeline,
    walSegmentSizeBytes: size,
    writer: source.writer,
    former: typeof record === 'object' ? record : undefined,
    reservation,
    from,
    aside: [...moved.reverse().map((segment) => segmentFile(timeline, segment, size)), ...history],
    bring: isOtherHistory || reservation !== undefined ? withHistory(source, bring) : bring,
    missing,
    dependents,
  }
}

function historyName(timeline: Timeline): WalFileName {
  return parseWalFileName(historyFileName(timeline)) as WalFileName
}

function segmentFile(timeline: Timeline, segment: bigint, size: number): WalFileName {
  return parseWalFileName(formatSegmentName(timeline, segment, size)) as WalFileName
}

function withHistory({ history }: AdoptionSource, bring: readonly AdoptedFile[]): AdoptedFile[] {
  return history === undefined ? [...bring] : [history, ...bring]
}

function segmentsOf({ timelines }: WalListing, timeline: Timeline): bigint[] {
  const listed = timelines.find((one) => one.timeline === timeline)
  const segments: bigint[] = []
  for (const { first, last } of listed?.ranges ?? []) {
    for (let segment = first; segment <= last; segment++) segments.push(segment)
  }
  return segments
}

/** Another promotion chose the same number. */
async function hasOtherHistory(storage: Storage, request: AdoptionRequest): Promise<boolean> {
  const { cluster, systemIdentifier, timeline, source } = request
  if (source.history === undefined) return false
  const name = historyName(timeline)
  const key = walKey(cluster, systemIdentifier, name, '')
  const bytes = await storage.read(key)
  if (bytes === undefined) return false
  const archived = decodeWalObject(key, bytes, { systemIdentifier, name: name.name }).contentHash
  return archived !== hashContent(await source.history.load())
}

/**
 * The first archived segment that is not of the source's history, or the first of the source that
 * goes on where the archive ends; undefined: there is neither.
 */
async function findParting(
  storage: Storage,
  request: AdoptionRequest,
  { walSegmentSizeBytes: size }: WalListing,
  archived: readonly bigint[],
): Promise<bigint | undefined> {
  const { timeline, source } = request
  for (const segment of archived) {
    const own = source.segments.get(segment) ?? source.current.get(segment)
    if (own === undefined) continue
    const content = await loadArchived(storage, request, segmentFile(timeline, segment, size))
    if (content === undefined) continue
    if (isOther(content, await own.load(), source.current.has(segment))) return segment
  }
  const last = archived.at(-1)
  const first = [...source.segments.keys()].find((segment) => last === undefined || segment > last)
  if (first === undefined || last === undefined || first !== last + 1n) return undefined
  const [before, next] = [
    await loadArchived(storage, request, segmentFile(timeline, last, size)),
    await source.segments.get(first)?.load(),
  ]
  if (before === undefined || next === undefined) return undefined
  if (judgeContinuation(before, next) !== 'contradicts') return first
  const name = formatSegmentName(timeline, first, size)
  throw cannotAdopt(
    `${name} does not continue the archived segment before it, and earlier ones are not at hand`,
    'so where the two histories part cannot be seen',
  )
}

/** A segment that is being written differs only in what is there already. */
function isOther(archived: Uint8Array, own: Uint8Array, isCurrent: boolean): boolean {
  if (compareSegments(archived, own).kind !== 'different') return false
  return !isCurrent || hasRecords(own)
}

/** The source's segments from the parting on, and names between them that it lacks. */
function listBrought(
  { timeline, source }: AdoptionRequest,
  from: bigint | undefined,
  size: number,
): { bring: AdoptedFile[]; missing: string[] } {
  const numbers = [...source.segments.keys()].filter((one) => from !== undefined && one >= from)
  const last = numbers.at(-1)
  if (from === undefined || last === undefined) return { bring: [], missing: [] }
  const missing: string[] = []
  for (let segment = from; segment < last; segment++) {
    if (!source.segments.has(segment)) missing.push(formatSegmentName(timeline, segment, size))
  }
  return { bring: numbers.flatMap((one) => source.segments.get(one) ?? []), missing }
}

async function findDependents(
  storage: Storage,
  { cluster, systemIdentifier, timeline }: AdoptionRequest,
  { timelines, walSegmentSizeBytes: size }: WalListing,
  from: bigint | undefined,
): Promise<Dependents> {
  if (from === undefined) return { backups: [], timelines: [] }
  const { backups } = await listBackups(storage, cluster)
  const first = formatSegmentName(timeline, from, size)
  const start = segmentStart(from, size)
  const leavesBehind = ({ history }: WalTimeline): boolean => {
    const end = history === undefined ? undefined : timelineEnd(history, timeline)
    return end !== undefined && end > start
  }
  return {
    backups: backups
      .filter((one) => one.systemIdentifier === systemIdentifier && one.timeline === timeline)
      .filter(({ walLast }) => walLast >= first)
      .map(({ id }) => id),
    timelines: timelines.filter(leavesBehind).map((one) => one.timeline),
  }
}
