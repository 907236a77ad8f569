/**
 * What the WAL archive of one server holds, by timeline. Keys are listed and histories
 * read; no segment is opened (that is check-wal.ts and scan-wal.ts).
 */
import { Failure } from '../base/failure.ts'
import { parseHistoryFileName, type TimelineHistory } from '../postgres/history-file.ts'
import { formatSegmentName, parseSegmentName, type Timeline } from '../postgres/lsn.ts'
import { readSystemIdentity } from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'
import { type BreakPlace, parseBreakKey } from './break-mark.ts'
import { EXPIRED_MARK_NAME, type ExpiredWalMark, readExpiredMark } from './expired-wal.ts'
import { findGaps, rangesOnPath, type SegmentRange, timelinesOfSegment } from './find-gaps.ts'
import { findArchivedHistory } from './find-history.ts'
import { type GapPlace, parseGapKey } from './gap-record.ts'
import { parseSegmentKey } from './list-segments.ts'
import { groupTails, type ListedTail, parseTailKey, type TailPart } from './tail-keys.ts'
import { walPrefix } from './wal-file-name.ts'

export interface WalListing {
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  /** Ascending. */
  readonly timelines: readonly WalTimeline[]
  readonly labels: readonly KeptWalFile[]
  readonly partials: readonly KeptWalFile[]
  readonly quarantine: readonly KeptWalFile[]
  /** What was flushed of segments that are not complete (or were not when it was written). */
  readonly tails: readonly ListedTail[]
  /** Who writes each timeline. */
  readonly writers?: readonly KeptWalFile[]
  /** Numbers that restores have reserved. */
  readonly reserved?: readonly KeptWalFile[]
  /** What the receiver found to be missing for ever. */
  readonly recordedGaps?: readonly GapPlace[]
  /** What the segments of which an index was made say that ends the window. */
  readonly breaks?: readonly BreakPlace[]
  /** How far WAL expired, where it has: holes before are none. */
  readonly expired?: ExpiredWalMark
  /** Keys that the format does not know. */
  readonly strangers: readonly string[]
  /** Stored bytes of everything; undefined, as all sizes here, unless they were asked for. */
  readonly bytes: number | undefined
}

export interface WalTimeline {
  readonly timeline: Timeline
  /** Undefined: none is archived (normal for timeline 1). */
  readonly history: TimelineHistory | undefined
  /** Why the archived history cannot be used. */
  readonly historyFailure: Failure | undefined
  readonly ranges: readonly SegmentRange[]
  readonly gaps: readonly SegmentRange[]
  readonly segments: number
  readonly bytes: number | undefined
}

export interface KeptWalFile {
  /** The last part of the key: file name, for partials and quarantine with the hash. */
  readonly name: string
  readonly key: string
  readonly sizeBytes: number | undefined
}

/** TM1407 when the repository does not know the server. Sizes cost a directory a call each. */
export async function listWal(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  { sizes = false } = {},
): Promise<WalListing> {
  const identity = await readSystemIdentity(storage, cluster, systemIdentifier)
  const collected = newCollection()
  const prefix = walPrefix(cluster, systemIdentifier)
  for await (const objects of listObjects(storage, prefix, sizes)) {
    for (const object of objects) {
      collect(collected, object, object.key.slice(prefix.length), identity.walSegmentSizeBytes)
    }
  }
  const timelines: WalTimeline[] = []
  for (const timeline of [...collected.timelines.keys()].sort((a, b) => a - b)) {
    const found = collected.timelines.get(timeline) as CollectedTimeline
    const history = found.hasHistory
      ? await readHistory(storage, cluster, systemIdentifier, timeline)
      : { history: undefined, historyFailure: undefined }
    timelines.push({ timeline, ...history, ...summarize(found) })
  }
  const { labels, partials, quarantine, writers, reserved, recordedGaps, breaks } = collected
  const { strangers, bytes } = collected
  const { walSegmentSizeBytes } = identity
  const expired = collected.hasMark
    ? { expired: await readExpiredMark(storage, cluster, systemIdentifier) }
    : {}
  const tails = groupTails(collected.tailParts)
  const known = { labels, partials, quarantine, writers, reserved, recordedGaps, breaks }
  const asides = { ...known, tails, strangers }
  const kept = { ...asides, bytes, ...expired }
  return { systemIdentifier, walSegmentSizeBytes, timelines, ...kept }
}

type ListedObject = Pick<KeptWalFile, 'key' | 'sizeBytes'>

async function* listObjects(
  storage: Storage,
  prefix: string,
  sizes: boolean,
): AsyncGenerator<readonly ListedObject[]> {
  if (sizes) {
    for await (const object of storage.list(prefix)) yield [object]
  } else {
    for await (const keys of storage.listKeys(prefix)) {
      yield keys.map((key) => ({ key, sizeBytes: undefined }))
    }
  }
}

/** Segments, or what was flushed of one. */
export function holdsWal(archive: WalListing, { timeline, segments }: WalTimeline): boolean {
  return segments > 0 || archive.tails.some(({ segment }) => timelineOfName(segment) === timeline)
}

/** Is there a tail of the segment under one of these timelines? Its name, if so. */
export function findListedTail(
  archive: WalListing,
  timelines: readonly Timeline[],
  segment: bigint,
): string | undefined {
  if (archive.tails.length === 0) return undefined
  const size = archive.walSegmentSizeBytes
  const names = timelines.map((timeline) => formatSegmentName(timeline, segment, size))
  return names.find((name) => archive.tails.some((tail) => tail.segment === name))
}

/** Segments of the path of which a tail is there, ascending. */
export function tailsAlong(archive: WalListing, path: TimelineHistory): bigint[] {
  const size = archive.walSegmentSizeBytes
  const segments = archive.tails.flatMap((tail) => {
    const named = parseSegmentName(tail.segment, size)
    if (named === undefined) return []
    const timelines = timelinesOfSegment(path, named.segment, size)
    return timelines.includes(named.timeline) ? [named.segment] : []
  })
  return segments.sort((a, b) => (a < b ? -1 : 1))
}

function timelineOfName(segment: string): Timeline {
  return Number.parseInt(segment.slice(0, 8), 16)
}

export function hasSegment(archive: WalListing, timeline: Timeline, segment: bigint): boolean {
  const listed = archive.timelines.find((one) => one.timeline === timeline)
  const within = listed?.ranges.some(({ first, last }) => first <= segment && segment <= last)
  return within === true
}

/** The ranges of segments along a path, each under the timeline that the path takes there. */
export function rangesAlong(archive: WalListing, path: TimelineHistory): SegmentRange[] {
  const byTimeline = new Map(archive.timelines.map((one) => [one.timeline, one.ranges]))
  const size = archive.walSegmentSizeBytes
  return rangesOnPath(path, size, (timeline) => byTimeline.get(timeline) ?? [])
}

/** Ranges, not segments: an archive of a year has a hundred thousand of them. */
interface CollectedTimeline {
  hasHistory: boolean
  readonly ranges: { readonly first: bigint; last: bigint }[]
  segments: number
  bytes: number | undefined
}

interface Collection {
  readonly timelines: Map<Timeline, CollectedTimeline>
  readonly labels: KeptWalFile[]
  readonly partials: KeptWalFile[]
  readonly quarantine: KeptWalFile[]
  readonly tailParts: TailPart[]
  readonly writers: KeptWalFile[]
  readonly reserved: KeptWalFile[]
  readonly recordedGaps: GapPlace[]
  readonly breaks: BreakPlace[]
  readonly strangers: string[]
  hasMark: boolean
  bytes: number | undefined
}

function newCollection(): Collection {
  const timelines = new Map<Timeline, CollectedTimeline>()
  const hints = { writers: [], reserved: [], recordedGaps: [], breaks: [] }
  const asides = { labels: [], partials: [], quarantine: [], ...hints }
  const kept = { ...asides, tailParts: [], strangers: [] }
  return { timelines, ...kept, hasMark: false, bytes: 0 }
}

function addSize(sum: number | undefined, { sizeBytes }: ListedObject): number | undefined {
  return sum === undefined || sizeBytes === undefined ? undefined : sum + sizeBytes
}

/** `path`: the key below the prefix of this server's WAL. */
function collect(
  into: Collection,
  object: ListedObject,
  path: string,
  walSegmentSizeBytes: number,
): void {
  into.bytes = addSize(into.bytes, object)
  const historyTimeline = parseHistoryFileName(path)
  if (historyTimeline !== undefined) {
    timelineOf(into, historyTimeline).hasHistory = true
    return
  }
  if (path === EXPIRED_MARK_NAME) {
    into.hasMark = true
    return
  }
  const segmentName = parseSegmentKey(object.key)
  const segment =
    segmentName === undefined ? undefined : parseSegmentName(segmentName, walSegmentSizeBytes)
  if (segment !== undefined) {
    const timeline = timelineOf(into, segment.timeline)
    addSegment(timeline, segment.segment)
    timeline.bytes = addSize(timeline.bytes, object)
    return
  }
  const tail = path.startsWith('tails/') ? parseTailKey(object.key) : undefined
  if (tail !== undefined) {
    into.tailParts.push({ ...object, piece: tail.piece })
    timelineOf(into, timelineOfName(tail.segment))
    return
  }
  const gap = path.startsWith('gaps/') ? parseGapKey(object.key) : undefined
  if (gap !== undefined) {
    into.recordedGaps.push(gap)
    return
  }
  const mark = path.startsWith('breaks/') ? parseBreakKey(object.key) : undefined
  if (mark !== undefined) {
    into.breaks.push(mark)
    return
  }
  const folder = folderOf(into, path)
  if (folder === undefined) into.strangers.push(object.key)
  else folder.push({ name: path.slice(path.indexOf('/') + 1), ...object })
}

/** Keys of one timeline come in the order of their segments. */
function addSegment(into: CollectedTimeline, segment: bigint): void {
  const last = into.ranges.at(-1)
  if (last?.last === segment - 1n) last.last = segment
  else into.ranges.push({ first: segment, last: segment })
  into.segments += 1
}

function folderOf(into: Collection, path: string): KeptWalFile[] | undefined {
  if (path.startsWith('labels/')) return into.labels
  if (path.startsWith('partial/')) return into.partials
  if (path.startsWith('quarantine/')) return into.quarantine
  if (/^writers\/[0-9A-F]{8}\.writer$/.test(path)) return into.writers
  if (/^reserved\/[0-9A-F]{8}\.reserved$/.test(path)) return into.reserved
  return undefined
}

function timelineOf(into: Collection, timeline: Timeline): CollectedTimeline {
  const known = into.timelines.get(timeline)
  if (known !== undefined) return known
  const created: CollectedTimeline = { hasHistory: false, ranges: [], segments: 0, bytes: 0 }
  into.timelines.set(timeline, created)
  return created
}

function summarize({
  ranges,
  segments,
  bytes,
}: CollectedTimeline): Pick<WalTimeline, 'ranges' | 'gaps' | 'segments' | 'bytes'> {
  return { ranges, gaps: findGaps(ranges), segments, bytes }
}

/** A damaged history is shown, not thrown: the list is what one looks at then. */
async function readHistory(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  timeline: Timeline,
): Promise<Pick<WalTimeline, 'history' | 'historyFailure'>> {
  try {
    const history = await findArchivedHistory(storage, cluster, systemIdentifier, timeline)
    return { history, historyFailure: undefined }
  } catch (error) {
    const shown = error instanceof Failure && ['TM1601', 'TM1410'].includes(error.code)
    if (!shown) throw error
    return { history: undefined, historyFailure: error }
  }
}
