/** The samples of one cluster. Pure. */
import { parseLsn, parseSegmentName } from '../../../postgres/lsn.ts'
import { judgeExposure } from '../status/judge-exposure.ts'
import { describeTimelines, type MeasuredArchive } from '../wal-status/format-wal-status.ts'
import { archivedAt } from '../wal-status/measure-archive.ts'
import type { ReachedWalServer } from '../wal-status/read-wal-server.ts'
import { type Sample, sample } from './metric-table.ts'
import type { ClusterReading } from './read-metrics.ts'

type Labels = Readonly<Record<string, string>>

export function sampleCluster(reading: ClusterReading, now: Date): Sample[] {
  const { cluster, server, archives } = reading
  const isWhole = server.reached !== undefined && archives.every(isUp)
  return [
    ...sample('tidemark_scrape_success', { cluster }, isWhole ? 1 : 0),
    ...sample('tidemark_scrape_duration_seconds', { cluster }, reading.seconds),
    ...sampleServer(cluster, server.reached),
    ...sampleDisk(reading),
    ...sampleExposure(reading, now),
    ...sampleReceiver(reading),
    ...archives.flatMap((archive) => sampleArchive(reading, archive, now)),
  ]
}

function isUp({ archive }: MeasuredArchive): boolean {
  return archive !== undefined
}

function sampleServer(cluster: string, reached: ReachedWalServer | undefined): Sample[] {
  const labels = { cluster }
  return [
    ...sample('tidemark_server_up', labels, reached === undefined ? 0 : 1),
    ...sample('tidemark_server_wal_position_bytes', labels, asBytes(reached?.currentLsn)),
    ...sample(
      'tidemark_server_last_archived_timestamp_seconds',
      labels,
      asSeconds(reached?.lastArchivedAt),
    ),
  ]
}

/** By the files of pg_wal where they tell a rate, else by what the archive holds. */
function sampleDisk({ cluster, disk, archives }: ClusterReading): Sample[] {
  const labels = { cluster }
  const measured = archives.find(({ rate }) => rate !== undefined)?.rate?.bytesPerSecond
  const rate = disk?.walBytesPerSecond ?? measured
  const up = sample('tidemark_wal_directory_up', labels, disk === undefined ? 0 : 1)
  const written = sample('tidemark_wal_written_bytes_per_second', labels, rate)
  if (disk === undefined) return [...written, ...up]
  // Nothing that could be told by is no rate either: the disk does not fill up.
  const left = rate === undefined || rate === 0 ? Infinity : disk.freeBytes / rate
  return [
    ...written,
    ...up,
    ...sample('tidemark_wal_ready_segments', labels, disk.waitingSegments),
    ...sample('tidemark_wal_ready_bytes', labels, disk.waitingBytes),
    ...sample('tidemark_wal_disk_free_bytes', labels, disk.freeBytes),
    ...sample('tidemark_wal_disk_time_left_seconds', labels, left),
  ]
}

/** Nothing that can be recovered, proved of every repository, is everything that is lost. */
function sampleExposure({ cluster, server, archives }: ClusterReading, now: Date): Sample[] {
  const labels = { cluster }
  const isNothing = archives.every(({ window }) => window?.intervals.length === 0)
  if (isNothing) return sample('tidemark_exposure_seconds', labels, Infinity)
  const { bytes, seconds } = judgeExposure(server, archives, now)
  return [
    ...sample('tidemark_exposure_bytes', labels, bytes),
    ...sample('tidemark_exposure_seconds', labels, seconds),
  ]
}

/** Beside an archive_command a receiver may be tried: then its slot is there. */
function sampleReceiver({ cluster, slot, isStreamed, server }: ClusterReading): Sample[] {
  const { reached } = server
  const state = reached?.slots.find(({ name }) => name === slot)
  if (reached === undefined || (state === undefined && !isStreamed)) return []
  const labels = { cluster, slot }
  const isLost = state === undefined || state.walStatus === 'lost'
  const lag = state?.keptBytes ?? undefined
  const bytes = lag === undefined ? undefined : Math.max(0, lag)
  const seconds = bytes === 0 ? 0 : state?.flushLagSeconds
  return [
    ...sample('tidemark_receiver_connected', labels, state?.isActive === true ? 1 : 0),
    ...sample('tidemark_receiver_lag_bytes', labels, bytes),
    ...sample('tidemark_receiver_lag_seconds', labels, seconds),
    ...sample('tidemark_receiver_slot_lost', labels, isLost ? 1 : 0),
  ]
}

function sampleArchive(
  { cluster, server }: ClusterReading,
  read: MeasuredArchive,
  now: Date,
): Sample[] {
  const labels = { cluster, repository: read.name }
  if (!isUp(read)) return sample('tidemark_repository_up', labels, 0)
  const { position, lag } = read
  const archived = position === undefined ? undefined : archivedAt(read, server.reached)
  const lost = read.findings.some(({ code, result }) => code === 'TM1425' && result !== 'ok')
  return [
    ...sample('tidemark_repository_up', labels, 1),
    ...sample('tidemark_archive_position_bytes', labels, asBytes(position?.lsn)),
    ...sample('tidemark_archive_lag_bytes', labels, lag.bytes),
    ...sample('tidemark_archive_lag_seconds', labels, lag.seconds),
    ...sampleMoment('tidemark_archive_last_segment', labels, archived, now),
    ...sample('tidemark_archive_wal_lost', labels, lost ? 1 : 0),
    ...sampleTail(labels, read),
    ...sampleTimelines(labels, read),
    ...sampleWindow(labels, read),
    ...sampleBackups(labels, read, now),
  ]
}

/** The moment itself for alerts, which goes on ageing when nobody reads; its age for people. */
function sampleMoment(
  prefix: 'tidemark_archive_last_segment' | 'tidemark_last_backup',
  labels: Labels,
  atMs: number | undefined,
  now: Date,
): Sample[] {
  if (atMs === undefined) return []
  const age = Math.max(0, (now.getTime() - atMs) / 1000)
  return [
    ...sample(`${prefix}_timestamp_seconds`, labels, atMs / 1000),
    ...sample(`${prefix}_age_seconds`, labels, age),
  ]
}

function sampleTail(labels: Labels, { position, archive }: MeasuredArchive): Sample[] {
  if (position?.tail == null || archive === undefined) return []
  const segment = parseSegmentName(position.tail, archive.walSegmentSizeBytes)
  if (segment === undefined) return []
  const timeline = String(segment.timeline)
  const end = asBytes(position.lsn)
  return sample('tidemark_archive_tail_position_bytes', { ...labels, timeline }, end)
}

function sampleTimelines(labels: Labels, { archive }: MeasuredArchive): Sample[] {
  if (archive === undefined) return []
  return describeTimelines(archive).flatMap(({ timeline, segments, gaps, missing }) => {
    const own = { ...labels, timeline: String(timeline) }
    return [
      ...sample('tidemark_archive_segments', own, segments),
      ...sample('tidemark_archive_gaps', own, gaps.length),
      ...sample('tidemark_archive_missing_segments', own, missing),
    ]
  })
}

/** Of several intervals the newest: one figure for all would promise the holes between them. */
function sampleWindow(labels: Labels, { window }: MeasuredArchive): Sample[] {
  const newest = new Map<number, { readonly start: number; readonly end: number }>()
  for (const { timeline, from, to } of window?.intervals ?? []) {
    const start = Date.parse(from.time) / 1000
    const end = Math.max(start, Date.parse(to.time ?? from.time) / 1000)
    const known = newest.get(timeline)
    if (known === undefined || known.end < end) newest.set(timeline, { start, end })
  }
  return [...newest].flatMap(([timeline, { start, end }]) => {
    const own = { ...labels, timeline: String(timeline) }
    return [
      ...sample('tidemark_recovery_window_start_timestamp_seconds', own, start),
      ...sample('tidemark_recovery_window_end_timestamp_seconds', own, end),
    ]
  })
}

function sampleBackups(
  labels: Labels,
  { backups, lastBackup }: MeasuredArchive,
  now: Date,
): Sample[] {
  const ended = lastBackup === undefined ? undefined : Date.parse(lastBackup.stoppedAt)
  return [
    ...sample('tidemark_backups', labels, backups),
    ...sampleMoment('tidemark_last_backup', labels, ended, now),
    ...sample('tidemark_last_backup_size_bytes', labels, lastBackup?.files.bytes),
  ]
}

function asBytes(lsn: string | null | undefined): number | undefined {
  const parsed = parseLsn(lsn ?? '')
  return parsed === undefined ? undefined : Number(parsed)
}

function asSeconds(time: string | null | undefined): number | undefined {
  return time == null ? undefined : Date.parse(time) / 1000
}
