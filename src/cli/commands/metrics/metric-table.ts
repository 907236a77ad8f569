/**
 * The metrics that Tidemark has: names as Prometheus wants them (base units, the unit last), what
 * each means, and its labels. The manual's table is checked against this one.
 */

export interface MetricEntry {
  readonly help: string
  readonly labels: readonly string[]
}

const CLUSTER = ['cluster']
const SLOT = ['cluster', 'slot']
const REPOSITORY = ['cluster', 'repository']
const TIMELINE = ['cluster', 'repository', 'timeline']

function entry(labels: readonly string[], help: string): MetricEntry {
  return { help, labels }
}

export const METRICS = {
  tidemark_build_info: entry(['version'], '1, with the version of Tidemark.'),
  tidemark_scrape_success: entry(
    CLUSTER,
    '1 if the server and every repository of the cluster could be read, else 0.',
  ),
  tidemark_scrape_duration_seconds: entry(CLUSTER, 'How long reading all of it took.'),
  tidemark_server_up: entry(CLUSTER, '1 if the server answers, else 0.'),
  tidemark_server_wal_position_bytes: entry(
    CLUSTER,
    'Where the server writes WAL (a standby: replays), as bytes since LSN 0/0.',
  ),
  tidemark_server_last_archived_timestamp_seconds: entry(
    CLUSTER,
    'When archive_command last succeeded, by pg_stat_archiver.',
  ),
  tidemark_wal_written_bytes_per_second: entry(
    CLUSTER,
    'How fast the server has written WAL lately, over at most an hour.',
  ),
  tidemark_wal_directory_up: entry(
    CLUSTER,
    '1 if pg_wal lies on this host and could be read, else 0.',
  ),
  tidemark_wal_ready_segments: entry(CLUSTER, 'Segments in pg_wal that wait to be archived.'),
  tidemark_wal_ready_bytes: entry(CLUSTER, 'Size of the segments that wait to be archived.'),
  tidemark_wal_disk_free_bytes: entry(CLUSTER, 'Free for the server on the disk of pg_wal.'),
  tidemark_wal_disk_time_left_seconds: entry(
    CLUSTER,
    'Until the disk of pg_wal is full if nothing is archived and WAL is written as fast as ' +
      'lately; +Inf where less than two segments became full in the last hour.',
  ),
  tidemark_exposure_bytes: entry(
    CLUSTER,
    'WAL that no repository has: what would be lost if the server burned now.',
  ),
  tidemark_exposure_seconds: entry(
    CLUSTER,
    'Age of the oldest change that would be lost if the server burned now; +Inf: everything.',
  ),
  tidemark_receiver_connected: entry(SLOT, '1 if somebody streams from the slot, else 0.'),
  tidemark_receiver_lag_bytes: entry(SLOT, 'WAL that the server keeps for the receiver.'),
  tidemark_receiver_lag_seconds: entry(
    SLOT,
    'From the flush of WAL on the server to its flush by the receiver, while it streams.',
  ),
  tidemark_receiver_slot_lost: entry(
    SLOT,
    '1 if the slot of the receiver is gone or was invalidated (TM1424), else 0.',
  ),
  tidemark_repository_up: entry(
    REPOSITORY,
    '1 if the repository answers and what it holds of the server could be read, else 0.',
  ),
  tidemark_archive_position_bytes: entry(
    REPOSITORY,
    'Up to where the repository has WAL, flushed tails with it, as bytes since LSN 0/0.',
  ),
  tidemark_archive_tail_position_bytes: entry(
    TIMELINE,
    'Up to where the segment that is not whole yet was flushed, as bytes since LSN 0/0.',
  ),
  tidemark_archive_lag_bytes: entry(
    REPOSITORY,
    'WAL that the server has written and the repository lacks.',
  ),
  tidemark_archive_lag_seconds: entry(
    REPOSITORY,
    'Age of the oldest change that the repository may lack.',
  ),
  tidemark_archive_last_segment_age_seconds: entry(
    REPOSITORY,
    'Since the last archived segment was handed over, or since the last moment in it.',
  ),
  tidemark_archive_last_segment_timestamp_seconds: entry(
    REPOSITORY,
    'When the last archived segment was handed over, or the last moment in it.',
  ),
  tidemark_archive_segments: entry(TIMELINE, 'Whole segments in the archive.'),
  tidemark_archive_gaps: entry(TIMELINE, 'Holes between the archived segments.'),
  tidemark_archive_missing_segments: entry(TIMELINE, 'Segments that are missing in the holes.'),
  tidemark_archive_wal_lost: entry(
    REPOSITORY,
    '1 if the receiver has recorded WAL as missing for ever and no backup was taken since ' +
      '(TM1425), else 0.',
  ),
  tidemark_recovery_window_start_timestamp_seconds: entry(
    TIMELINE,
    'From here on every moment can be recovered: start of the newest interval of the timeline.',
  ),
  tidemark_recovery_window_end_timestamp_seconds: entry(
    TIMELINE,
    'The last moment that can be recovered: end of the newest interval of the timeline.',
  ),
  tidemark_backups: entry(REPOSITORY, 'Backups of the server.'),
  tidemark_last_backup_timestamp_seconds: entry(REPOSITORY, 'When the last backup ended.'),
  tidemark_last_backup_age_seconds: entry(REPOSITORY, 'Since the last backup ended.'),
  tidemark_last_backup_size_bytes: entry(
    REPOSITORY,
    'Size of the files in the last backup, as a restore writes them.',
  ),
} as const satisfies Readonly<Record<string, MetricEntry>>

export const METRIC_NAMES = Object.keys(METRICS) as readonly MetricName[]

export type MetricName = keyof typeof METRICS

export interface Sample {
  readonly name: MetricName
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** A clause for what is not known: it has no sample. NaN is never known. */
export function sample(
  name: MetricName,
  labels: Readonly<Record<string, string>>,
  value: number | undefined | null,
): Sample[] {
  if (value === undefined || value === null || Number.isNaN(value)) return []
  return [{ name, labels, value }]
}
