/**
 * What differs between the major versions of PostgreSQL, in one table. Every other file
 * asks here instead of comparing version numbers.
 *
 * Sources per branch: catalog/pg_control.h and catversion.h (numbers), access/
 * xlog_internal.h (XLOG_PAGE_MAGIC), backup/basebackup.c (excludeDirContents,
 * excludeFiles), backup/backup_manifest.c, the release notes (functions and settings).
 */
import { Failure } from '../base/failure.ts'

export interface PostgresVersion {
  readonly major: number
  /** pg_control_version. */
  readonly controlFileVersion: number
  /** The catalog version of the released branch; part of tablespace directory names. */
  readonly catalogVersion: number
  /** xlp_magic of its WAL pages. */
  readonly walPageMagic: number
  readonly walRecords: WalRecordFormat
  /** Of backup_manifest; version 2 has the system identifier. */
  readonly manifestVersion: 1 | 2
  readonly backupStatements: BackupStatements
  readonly settings: SettingNames
  /** Backslashes in tablespace_map are escaped too, not only line ends. */
  readonly mapEscapesBackslash: boolean
  readonly exclusions: Exclusions
}

/** What differs in WAL records (access/xlogrecord.h, heapam_xlog.h, xact.h, dbcommands_xlog.h). */
export interface WalRecordFormat {
  /** Bits of bimg_info that say that the image of a page is compressed, by any method. */
  readonly imageCompressedBits: number
  /** The bit of bimg_info that says that replay puts the image in place. */
  readonly imageApplyBit: number
  /** A record may name the top-level xid of its subtransaction (14). */
  readonly hasTopLevelXid: boolean
  /** Extensions may bring resource managers, with numbers from 128 (15). */
  readonly hasCustomResourceManagers: boolean
  /** CREATE DATABASE may log every page; DROP moved up by one for it (15). */
  readonly hasLoggedDatabaseCreate: boolean
  /** Size of xl_xact_stats_item, in commits and aborts. */
  readonly droppedStatisticBytes: number
  /** By the operation's number: xl_info >> 4 & 7. */
  readonly heap2Operations: readonly Heap2Operation[]
}

export type Heap2Operation =
  | 'rewrite'
  | 'prune'
  | 'freeze'
  | 'cleanup-info'
  | 'visible'
  | 'multi-insert'
  | 'lock-updated'
  | 'new-cid'

export interface BackupStatements {
  /** $1 label, $2 fast; one row: lsn. */
  readonly start: string
  /** $1 wait for archiving; one row: lsn, labelfile, spcmapfile. Same session as start. */
  readonly stop: string
}

/** Names of settings that a version has, or undefined where it has none of the kind. */
export interface SettingNames {
  readonly archiveLibrary: 'archive_library' | undefined
  readonly eventTriggers: 'event_triggers' | undefined
  readonly idleSessionTimeout: 'idle_session_timeout' | undefined
  readonly transactionTimeout: 'transaction_timeout' | undefined
  readonly summarizeWal: 'summarize_wal' | undefined
  readonly recoveryPrefetch: 'recovery_prefetch' | undefined
  /** Bounds the replication origins that a copy can bring back at start-up. */
  readonly replicationOrigins: 'max_replication_slots' | 'max_active_replication_origins'
}

/** What a base backup leaves out (design: basebackup.c of the same version). */
export interface Exclusions {
  /** Directories of the data directory that are kept empty. */
  readonly directoryContents: readonly string[]
  /** Directories below pg_wal that are recreated empty; all else in pg_wal is left out. */
  readonly walDirectories: readonly string[]
  /** Names of files that are left out wherever they are. */
  readonly files: readonly string[]
  /** Beginnings of names that are left out wherever they are. */
  readonly prefixes: readonly string[]
}

const EXCLUSIONS: Exclusions = {
  directoryContents: [
    'pg_stat_tmp',
    'pg_replslot',
    'pg_dynshmem',
    'pg_notify',
    'pg_serial',
    'pg_snapshots',
    'pg_subtrans',
  ],
  walDirectories: ['archive_status'],
  files: [
    'postgresql.auto.conf.tmp',
    'current_logfiles.tmp',
    'backup_label',
    'tablespace_map',
    'backup_manifest',
    'postmaster.pid',
    'postmaster.opts',
  ],
  prefixes: ['pg_internal.init', 'pgsql_tmp'],
}

/** Summaries describe this server's WAL and are made anew (17). */
const EXCLUSIONS_17: Exclusions = {
  ...EXCLUSIONS,
  walDirectories: ['archive_status', 'summaries'],
}

const EXCLUSIVE_ERA: BackupStatements = {
  start: 'SELECT pg_start_backup($1, $2, false)::text AS lsn',
  stop: 'SELECT lsn::text, labelfile, spcmapfile FROM pg_stop_backup(false, $1)',
}

const NON_EXCLUSIVE_ONLY: BackupStatements = {
  start: 'SELECT pg_backup_start($1, $2)::text AS lsn',
  stop: 'SELECT lsn::text, labelfile, spcmapfile FROM pg_backup_stop($1)',
}

const SETTINGS_13: SettingNames = {
  archiveLibrary: undefined,
  eventTriggers: undefined,
  idleSessionTimeout: undefined,
  transactionTimeout: undefined,
  summarizeWal: undefined,
  recoveryPrefetch: undefined,
  replicationOrigins: 'max_replication_slots',
}
const SETTINGS_14: SettingNames = { ...SETTINGS_13, idleSessionTimeout: 'idle_session_timeout' }
const SETTINGS_15: SettingNames = {
  ...SETTINGS_14,
  archiveLibrary: 'archive_library',
  recoveryPrefetch: 'recovery_prefetch',
}
const SETTINGS_17: SettingNames = {
  ...SETTINGS_15,
  eventTriggers: 'event_triggers',
  transactionTimeout: 'transaction_timeout',
  summarizeWal: 'summarize_wal',
}
const SETTINGS_18: SettingNames = {
  ...SETTINGS_17,
  replicationOrigins: 'max_active_replication_origins',
}

const HEAP2_REST = ['visible', 'multi-insert', 'lock-updated', 'new-cid'] as const
const WAL_RECORDS_13: WalRecordFormat = {
  imageCompressedBits: 0x02,
  imageApplyBit: 0x04,
  hasTopLevelXid: false,
  hasCustomResourceManagers: false,
  hasLoggedDatabaseCreate: false,
  droppedStatisticBytes: 12,
  heap2Operations: ['rewrite', 'prune', 'freeze', 'cleanup-info', ...HEAP2_REST],
}
const WAL_RECORDS_14: WalRecordFormat = {
  ...WAL_RECORDS_13,
  hasTopLevelXid: true,
  heap2Operations: ['rewrite', 'prune', 'prune', 'freeze', ...HEAP2_REST],
}
/** pglz, lz4 and zstd have a bit each. */
const WAL_RECORDS_15: WalRecordFormat = {
  ...WAL_RECORDS_14,
  imageCompressedBits: 0x1c,
  imageApplyBit: 0x02,
  hasCustomResourceManagers: true,
  hasLoggedDatabaseCreate: true,
}
/** Freezing became part of pruning. */
const WAL_RECORDS_17: WalRecordFormat = {
  ...WAL_RECORDS_15,
  heap2Operations: ['rewrite', 'prune', 'prune', 'prune', ...HEAP2_REST],
}

const VERSION_13: PostgresVersion = {
  major: 13,
  controlFileVersion: 1300,
  catalogVersion: 202007201,
  walPageMagic: 0xd106,
  walRecords: WAL_RECORDS_13,
  manifestVersion: 1,
  backupStatements: EXCLUSIVE_ERA,
  settings: SETTINGS_13,
  mapEscapesBackslash: false,
  exclusions: EXCLUSIONS,
}
const VERSION_14: PostgresVersion = {
  ...VERSION_13,
  major: 14,
  catalogVersion: 202107181,
  walPageMagic: 0xd10d,
  walRecords: WAL_RECORDS_14,
  settings: SETTINGS_14,
  mapEscapesBackslash: true,
}
const VERSION_15: PostgresVersion = {
  ...VERSION_14,
  major: 15,
  catalogVersion: 202209061,
  walPageMagic: 0xd110,
  walRecords: WAL_RECORDS_15,
  backupStatements: NON_EXCLUSIVE_ONLY,
  settings: SETTINGS_15,
}
const VERSION_16: PostgresVersion = {
  ...VERSION_15,
  major: 16,
  catalogVersion: 202307071,
  walPageMagic: 0xd113,
}
const VERSION_17: PostgresVersion = {
  ...VERSION_16,
  major: 17,
  controlFileVersion: 1700,
  catalogVersion: 202406281,
  walPageMagic: 0xd116,
  walRecords: WAL_RECORDS_17,
  manifestVersion: 2,
  settings: SETTINGS_17,
  exclusions: EXCLUSIONS_17,
}
const VERSION_18: PostgresVersion = {
  ...VERSION_17,
  major: 18,
  controlFileVersion: 1800,
  catalogVersion: 202506291,
  walPageMagic: 0xd118,
  walRecords: { ...WAL_RECORDS_17, droppedStatisticBytes: 16 },
  settings: SETTINGS_18,
}

/** Oldest first. */
export const POSTGRES_VERSIONS: readonly PostgresVersion[] = [
  VERSION_13,
  VERSION_14,
  VERSION_15,
  VERSION_16,
  VERSION_17,
  VERSION_18,
]

const FORMAT_OF_MAJOR: readonly (WalRecordFormat | undefined)[] = Array.from(
  { length: VERSION_18.major + 1 },
  (_, major) => POSTGRES_VERSIONS.find((version) => version.major === major)?.walRecords,
)

/** `major` comes from the magic of a WAL page, and so is in the table. */
export function walRecordFormat(major: number): WalRecordFormat {
  const format = FORMAT_OF_MAJOR[major]
  if (format === undefined) throw new Error(`PostgreSQL ${major} has no WAL format here`)
  return format
}

const OLDEST = VERSION_13
const NEWEST = VERSION_18

export interface DescribedVersion extends PostgresVersion {
  /** Set when an unknown newer version was forced: a sentence for the user. */
  readonly caution: string | undefined
}

/**
 * The table's entry for a server_version_num (150018 -> 15). Failures: TM1108 (older than
 * 13), TM1109 (newer than known and not forced).
 */
export function describeVersion(
  versionNum: number,
  options: { readonly force?: boolean } = {},
): DescribedVersion {
  const major = Math.floor(versionNum / 10000)
  const known = POSTGRES_VERSIONS.find((version) => version.major === major)
  if (known !== undefined) return { ...known, caution: undefined }
  const range = `PostgreSQL ${OLDEST.major} to ${NEWEST.major}`
  if (major < OLDEST.major) {
    throw new Failure('TM1108', {
      message: `the server is PostgreSQL ${major}, which is too old`,
      because: `this Tidemark works with ${range}`,
      fix: 'upgrade the server (pg_upgrade, or pg_dump and restore)',
      details: { versionNum },
    })
  }
  if (options.force !== true) {
    throw new Failure('TM1109', {
      message: `the server is PostgreSQL ${major}, which this Tidemark does not know`,
      because: `it was tested with ${range}, and file formats change between versions`,
      fix: 'use a newer Tidemark, or force it and prove every backup with a restore',
      details: { versionNum },
    })
  }
  return {
    ...NEWEST,
    major,
    caution: `PostgreSQL ${major} is not known; the rules of PostgreSQL ${NEWEST.major} are used`,
  }
}

/** Name of the directory of a version in a tablespace: PG_15_202209061. */
export function versionDirectoryName(major: number, catalogVersion: number): string {
  return `PG_${major}_${catalogVersion}`
}
