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
  loadArchived,
  type SourceRequest,
} from './adoption-source.ts'
import { compareSegments, hasRecords } from './compare-segments.ts'
import { type Chain, completeChain } from './complete-chain.ts'
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
  /** All that is taken out of quarantine, with what a run before this one has brought. */
  readonly chain: readonly AdoptedFile[]
  /** Names in quarantine of the first of them and the history. */
  readonly adopted: readonly string[]
  /** What the server is writing; compared with what was streamed, never brought. */
  readonly current: readonly AdoptedFile[]
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
  const archivedHistory = await judgeHistory(storage, request)
  const isOtherHistory = archivedHistory === 'other'
  const archived = segmentsOf(archive, timeline)
  const size = archive.walSegmentSizeBytes
  const chain = isOtherHistory
    ? wholeOf(source, archived)
    : await findChain(storage, { ...request, walSegmentSizeBytes: size }, archive, archived)
  const from = chain?.from
  const moved = from === undefined ? [] : archived.filter((segment) => segment >= from)
  const bring = [...(chain?.segments.values() ?? [])]
  const missing = (chain?.missing ?? []).map((one) => formatSegmentName(timeline, one, size))
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
    bring: archivedHistory === 'same' ? bring : withHistory(source, bring),
    chain: source.writer === undefined ? withHistory(source, [...source.segments.values()]) : [],
    adopted: source.adopted,
    current: [...source.current.values()],
    missing,
    dependents,
  }
}

/** Another history of the same number: all of it changes places. */
function wholeOf({ segments }: AdoptionSource, archived: readonly bigint[]): Chain | undefined {
  const firsts = [archived[0], segments.keys().next().value].filter((one) => one !== undefined)
  const from = firsts.sort((a, b) => (a < b ? -1 : 1))[0]
  return from === undefined ? undefined : { from, segments, missing: [] }
}

async function findChain(
  storage: Storage,
  request: AdoptionRequest & SourceRequest,
  archive: WalListing,
  archived: readonly bigint[],
): Promise<Chain | undefined> {
  const from = await findParting(storage, request, archive, archived)
  if (from === undefined) return undefined
  return await completeChain(storage, request, request.source, from)
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

/**
 * `other`: another promotion chose the same number. `absent`: it has yet to come, or an adoption
 * was killed after it went aside.
 */
async function judgeHistory(
  storage: Storage,
  { cluster, systemIdentifier, timeline, source }: AdoptionRequest,
): Promise<'same' | 'other' | 'absent'> {
  const name = historyName(timeline)
  const key = walKey(cluster, systemIdentifier, name, '')
  const bytes = source.history === undefined ? undefined : await storage.read(key)
  if (source.history === undefined || bytes === undefined) return 'absent'
  const archived = decodeWalObject(key, bytes, { systemIdentifier, name: name.name }).contentHash
  return archived === hashContent(await source.history.load()) ? 'same' : 'other'
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
  if (last === undefined) return source.segments.keys().next().value
  return source.segments.has(last + 1n) ? last + 1n : undefined
}

/** A segment that is being written differs only in what is there already. */
function isOther(archived: Uint8Array, own: Uint8Array, isCurrent: boolean): boolean {
  if (compareSegments(archived, own).kind !== 'different') return false
  return !isCurrent || hasRecords(own)
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
