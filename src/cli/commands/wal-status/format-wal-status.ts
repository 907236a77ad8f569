/** `wal status` as lines of text. Pure. */
import type { WalListing, WalTimeline } from '../../../archive/list-wal.ts'
import { describeDiskOutlook } from '../../../archive/disk-outlook.ts'
import { isLetGo } from '../../../archive/expired-wal.ts'
import { countSegments, type SegmentRange } from '../../../archive/find-gaps.ts'
import { formatLsn, formatSegmentName, segmentStart } from '../../../postgres/lsn.ts'
import { type Column, formatPairs, formatTable } from '../../format-table.ts'
import { formatBytes, formatCount, formatDuration } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'
import type { Lag, WalRate } from './measure-wal.ts'
import type { StreamRequests } from './stream-requests.ts'
import type { ArchiveStatus } from './read-archive.ts'
import type { ReachedWalServer, SlotState } from './read-wal-server.ts'

export interface MeasuredArchive extends ArchiveStatus {
  readonly lag: Lag
  readonly rate: WalRate | undefined
  /** What streaming into it costs at most; undefined: it is not paid for by requests. */
  readonly requests?: StreamRequests
}

export function formatServer(
  cluster: string,
  reached: ReachedWalServer | undefined,
  rate: WalRate | undefined,
  colours: Colours,
): string[] {
  const pairs: [string, string][] = [['cluster', colours.bold(cluster)]]
  if (reached === undefined) {
    pairs.push(['server', colours.yellow('does not answer')])
  } else {
    const timeline = reached.timeline === null ? 'a standby' : `timeline ${reached.timeline}`
    const at = reached.currentLsn ?? 'an unknown LSN'
    pairs.push(['server', `PostgreSQL ${reached.version}, at ${at}, ${timeline}`])
  }
  if (rate !== undefined) pairs.push(['WAL written', describeRate(rate)])
  if (reached !== undefined) pairs.push(['archiver', describeArchiver(reached)])
  if (reached?.disk) pairs.push(['pg_wal', describeDiskOutlook(reached.disk)])
  for (const slot of reached?.slots ?? []) pairs.push(['slot', describeSlot(slot)])
  return formatPairs(pairs)
}

function describeRate({ bytesPerSecond, seconds }: WalRate): string {
  return `${formatBytes(bytesPerSecond)}/s over the last ${formatDuration(seconds * 1000)}`
}

function describeArchiver(reached: ReachedWalServer): string {
  const { archiveMode, archivedCount, countedSince, lastArchivedAt, waitingFiles, at } = reached
  if (archiveMode === 'off') return 'archive_mode is off'
  const parts = [formatCount(archivedCount, 'segment')]
  const perSecond = archivedPerSecond(reached)
  if (countedSince !== null && perSecond !== undefined) {
    parts[0] += ` in ${formatDuration(Date.parse(at) - Date.parse(countedSince))}`
    if (perSecond >= 0.01) parts[0] += ` (${perSecond.toFixed(2)}/s)`
  }
  if (lastArchivedAt !== null) {
    parts.push(`the last ${formatDuration(Date.parse(at) - Date.parse(lastArchivedAt))} ago`)
  }
  if (waitingFiles !== null) {
    const bytes = formatBytes(waitingFiles * reached.walSegmentSizeBytes)
    parts.push(waitingFiles === 0 ? '0 waiting' : `${waitingFiles} waiting (${bytes})`)
  }
  return parts.join(', ')
}

/** The mean since the counters of pg_stat_archiver were set to zero. */
export function archivedPerSecond(reached: ReachedWalServer): number | undefined {
  const { countedSince, archivedCount, at } = reached
  if (countedSince === null) return undefined
  const seconds = (Date.parse(at) - Date.parse(countedSince)) / 1000
  return seconds > 0 ? archivedCount / seconds : undefined
}

function describeSlot(slot: SlotState): string {
  const kind = slot.kind === 'logical' ? ' (logical)' : ''
  const parts = [slot.isActive ? 'in use' : 'nobody reads']
  if (slot.restartLsn !== null) parts.push(`from ${slot.restartLsn}`)
  if (slot.keptBytes !== null) parts.push(`keeps ${formatBytes(Math.max(0, slot.keptBytes))}`)
  if (slot.walStatus !== null) parts.push(slot.walStatus)
  if (slot.safeWalBytes !== null) parts.push(`${formatBytes(slot.safeWalBytes)} more is safe`)
  return `${slot.name}${kind}: ${parts.join(', ')}`
}

const COLUMNS: readonly Column[] = [
  { title: 'TIMELINE' },
  { title: 'LAST ARCHIVED' },
  { title: 'UP TO' },
  { title: 'SEGMENTS', align: 'right' },
  { title: 'MISSING', align: 'right' },
  { title: 'FROM' },
]

export function formatArchive(status: MeasuredArchive, colours: Colours): string[] {
  const { name, url, archive, lag, lastMoment, position, writers } = status
  const pairs: [string, string][] = [
    ['repository', `${name}, ${url}`],
    ['behind', describeLag(lag, status)],
  ]
  if (position?.tail != null)
    pairs.push(['tail', `${position.tail}, flushed up to ${position.lsn}`])
  if (status.requests !== undefined) pairs.push(['requests', describeRequests(status.requests)])
  if (lastMoment !== undefined) pairs.push(['last moment', new Date(lastMoment.atMs).toISOString()])
  const lines = formatPairs(pairs)
  if (archive === undefined) return lines
  const rows = describeTimelines(archive).map((one) => [
    String(one.timeline),
    one.last ?? '-',
    one.lsn ?? '-',
    String(one.segments),
    one.missing === 0 ? '0' : colours.red(String(one.missing)),
    writers.find(({ timeline }) => timeline === one.timeline)?.writer ?? '',
  ])
  if (rows.length === 0) return [...lines, 'nothing is archived yet']
  const [head = '', ...body] = formatTable(COLUMNS, rows)
  return [...lines, colours.dim(head), ...body]
}

function describeLag({ bytes, seconds }: Lag, { archive, position }: ArchiveStatus): string {
  if (archive === undefined) return 'unknown'
  if (position === undefined) return 'nothing is archived yet'
  const time = seconds === undefined ? undefined : formatDuration(seconds * 1000)
  if (bytes === undefined) {
    return time === undefined ? 'unknown' : `unknown; what it has ends ${time} ago`
  }
  if (bytes === 0) return 'nothing'
  return time === undefined ? formatBytes(bytes) : `${formatBytes(bytes)}, ${time}`
}

function describeRequests({ perDay, flushEveryMs }: StreamRequests): string {
  if (flushEveryMs === 0) return 'a write with every flush of the server (flushEvery is 0)'
  const [writes, listings, removals] = [perDay.writes, perDay.listings, perDay.removals].map((n) =>
    n.toLocaleString('en-US'),
  )
  const pace = `flushEvery ${formatDuration(flushEveryMs)}`
  return `at most ${writes} writes, ${listings} listings, ${removals} removals a day (${pace})`
}

export interface TimelineState {
  readonly timeline: number
  readonly last: string | undefined
  /** Where the last segment ends. */
  readonly lsn: string | undefined
  readonly segments: number
  /** Segments between the archived ones; expired ones are not missing. */
  readonly missing: number
  readonly gaps: readonly { readonly first: string; readonly last: string }[]
}

export function describeTimelines(archive: WalListing): TimelineState[] {
  return archive.timelines.map((one) => describeTimeline(archive, one))
}

function describeTimeline(archive: WalListing, one: WalTimeline): TimelineState {
  const size = archive.walSegmentSizeBytes
  const { timeline, ranges, segments } = one
  const name = (segment: bigint): string => formatSegmentName(timeline, segment, size)
  const last = ranges.at(-1)?.last
  const isLost = ({ first, last: end }: SegmentRange): boolean =>
    ![first, end].every((segment) => isLetGo(archive.expired, timeline, segment))
  const gaps = one.gaps.filter(isLost)
  return {
    timeline,
    last: last === undefined ? undefined : name(last),
    lsn: last === undefined ? undefined : formatLsn(segmentStart(last + 1n, size)),
    segments,
    missing: gaps.reduce((sum, gap) => sum + countSegments(gap), 0),
    gaps: gaps.map((gap) => ({ first: name(gap.first), last: name(gap.last) })),
  }
}
