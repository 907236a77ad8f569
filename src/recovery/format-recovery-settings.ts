/**
 * The configuration of a restored server as text. Pure.
 *
 * A copy never starts with the original's configuration: it could archive into the
 * original's archive, run its jobs and subscriptions, listen at its address, or write to
 * its log directory (docs/design/recovery.md, section 5).
 */
import { SPOOL_DIRECTORY } from '../archive/spool.ts'
import type { ParameterChange } from '../postgres/wal-event.ts'
import { formatLsn } from '../postgres/lsn.ts'
import type { SettingNames } from '../postgres/versions.ts'
import type { RecoveryTarget } from './judge-target.ts'

export type RecoveryAction = 'promote' | 'pause' | 'shutdown'

/** Settings that hot standby compares with the primary's (CheckRequiredParameterValues). */
export interface RequiredMaxima {
  readonly max_connections: number
  readonly max_worker_processes: number
  readonly max_wal_senders: number
  readonly max_prepared_transactions: number
  readonly max_locks_per_transaction: number
}

type Settings = readonly (readonly [name: string, value: string | number])[]

/** The largest of what the control file, the backup and every change in the WAL say. */
export function requiredMaxima(
  control: {
    readonly maxConnections: number
    readonly maxWorkerProcesses: number
    readonly maxWalSenders: number
    readonly maxPreparedTransactions: number
    readonly maxLocksPerTransaction: number
  },
  settings: Readonly<Record<string, string>>,
  changes: readonly ParameterChange[],
): RequiredMaxima {
  const all = [control, ...changes]
  const most = (name: string, values: readonly number[]): number =>
    Math.max(Number(settings[name] ?? 0) || 0, ...values)
  return {
    max_connections: most(
      'max_connections',
      all.map((one) => one.maxConnections),
    ),
    max_worker_processes: most(
      'max_worker_processes',
      all.map((one) => one.maxWorkerProcesses),
    ),
    max_wal_senders: most(
      'max_wal_senders',
      all.map((one) => one.maxWalSenders),
    ),
    max_prepared_transactions: most(
      'max_prepared_transactions',
      all.map((one) => one.maxPreparedTransactions),
    ),
    max_locks_per_transaction: most(
      'max_locks_per_transaction',
      all.map((one) => one.maxLocksPerTransaction),
    ),
  }
}

export interface RecoverySettings {
  readonly names: SettingNames
  readonly stop: RecoveryTarget
  readonly timeline: number
  readonly action: RecoveryAction
  /** Shell words that run `wal get` of the right cluster, without %f and %p. */
  readonly walGet: string
  readonly maxima: RequiredMaxima
  /** Settings of the server that was backed up. */
  readonly original: Readonly<Record<string, string>>
  /** WAL behind the target is not proved: PostgreSQL must not ask for it ahead of replay. */
  readonly mayFaultFollow: boolean
  /** Names of segments that lie in the restored pg_wal, since no whole one is archived. */
  readonly inWalDirectory: readonly string[]
  readonly takeOver: boolean
}

/**
 * restore_command. PostgreSQL takes 1–125 for "no such file" (RestoreArchivedFile): only
 * 44, which `wal get` gives for a proved absence, may become that. A segment that lies in the
 * spool of this start of the server is taken without starting the program; one that is on its
 * way there is waited for as long as its filler lives, ten seconds at most
 * (docs/design/wal-archive.md, section 7). What lies in pg_wal already is not asked for: where
 * the command says "no such file", PostgreSQL looks there.
 */
export function formatRestoreCommand(
  walGet: string,
  inWalDirectory: readonly string[] = [],
): string {
  const escaped = walGet.replaceAll('%', '%%')
  const own = inWalDirectory.join('|')
  const before = own === '' ? '' : `case %f in ${own}) exit 1;; esac; `
  const answer = 'case $? in 0) exit 0;; 44) exit 1;; *) exit 255;; esac'
  return `${before}${TAKE_FROM_SPOOL} ${escaped} %f "%p"; ${answer}`
}

const TAKE_FROM_SPOOL = [
  `d=${SPOOL_DIRECTORY}; n=0; while [ $d/server -ef postmaster.pid ]; do`,
  '[ -e $d/%f ] && mv -f $d/%f "%p" && exit 0;',
  '{ [ $n -lt 500 ] && [ -e $d/%f.coming ] && read p <$d/filler && kill -0 $p; } 2>/dev/null || break;',
  'n=$((n+1)); sleep 0.02; done;',
].join(' ')

/** The filler does it, too, unless it was killed. */
const REMOVE_SPOOL = `rm -rf ${SPOOL_DIRECTORY}`

/** For postgresql.auto.conf, which comes last and so wins over every other file. */
export function formatRecoverySettings(options: RecoverySettings): string {
  const { stop, names } = options
  const settings: (readonly [string, string | number])[] = [
    [
      'restore_command',
      formatRestoreCommand(
        `${options.walGet} --ahead --timeline ${options.timeline}`,
        options.inWalDirectory,
      ),
    ],
    ...formatTarget(stop),
    ['recovery_target_timeline', options.timeline],
    ['recovery_target_action', options.action],
    ['recovery_min_apply_delay', 0],
    ['recovery_end_command', REMOVE_SPOOL],
    ['archive_cleanup_command', ''],
    ['primary_conninfo', ''],
    ['primary_slot_name', ''],
  ]
  if (options.action === 'pause') settings.push(['hot_standby', 'on'])
  else if (!options.takeOver) settings.push(['hot_standby', 'off'])
  if (options.takeOver) settings.push(...raisedMaxima(options))
  if (names.recoveryPrefetch !== undefined && options.mayFaultFollow) {
    settings.push([names.recoveryPrefetch, 'off'])
  }
  return formatSettings(settings)
}

/** What the kept configuration has too low for replay up to the target. */
function raisedMaxima({ maxima, original }: RecoverySettings): (readonly [string, number])[] {
  return Object.entries(maxima).filter(([name, value]) => Number(original[name] ?? 0) < value)
}

/**
 * PostgreSQL refuses a second target, and up to 17 an empty one behind a set one as well
 * (assign_recovery_target_xid and its like): those that the original's files may name are
 * emptied first.
 */
function formatTarget(stop: RecoveryTarget): (readonly [string, string])[] {
  const others = ['name', 'time', 'xid'].map((kind) => [`recovery_target_${kind}`, ''] as const)
  if (stop.kind === 'immediate') {
    return [...others, ['recovery_target_lsn', ''], ['recovery_target', 'immediate']]
  }
  return [
    ...others,
    ['recovery_target', ''],
    ['recovery_target_lsn', formatLsn(stop.lsn)],
    ['recovery_target_inclusive', stop.inclusive ? 'on' : 'off'],
  ]
}

export interface CopySettings {
  readonly names: SettingNames
  readonly maxima: RequiredMaxima
  readonly original: Readonly<Record<string, string>>
  readonly port: number
  readonly socketDirectory: string
  readonly walSegmentSizeBytes: number
  readonly hasInPlaceTablespaces: boolean
  readonly preload: string
}

/** postgresql.conf of a copy: all of it. */
export function formatCopyConfiguration(options: CopySettings): string {
  const { names, original } = options
  const walSegmentSizeMb = options.walSegmentSizeBytes / 1024 / 1024
  const origins = Number(original[names.replicationOrigins] ?? original['max_replication_slots'])
  const settings: (readonly [string, string | number])[] = [
    ['listen_addresses', ''],
    ['port', options.port],
    ['unix_socket_directories', options.socketDirectory],
    ['unix_socket_permissions', '0700'],
    ...Object.entries(options.maxima),
    [names.replicationOrigins, Math.max(10, Number.isFinite(origins) ? origins : 0)],
    // Both must be at least two segments (ReadControlFile in xlog.c): five and 64 are
    // what initdb would write.
    ['min_wal_size', `${5 * walSegmentSizeMb}MB`],
    ['max_wal_size', `${64 * walSegmentSizeMb}MB`],
    ['archive_mode', 'off'],
    ['archive_command', ''],
    ['max_logical_replication_workers', 0],
    ['shared_preload_libraries', options.preload],
    ['session_preload_libraries', ''],
    ['local_preload_libraries', ''],
    ['autovacuum', 'off'],
    ['logging_collector', 'off'],
    ['log_destination', 'stderr'],
  ]
  if (names.archiveLibrary !== undefined) settings.push([names.archiveLibrary, ''])
  if (names.eventTriggers !== undefined) settings.push([names.eventTriggers, 'off'])
  if (options.hasInPlaceTablespaces) settings.push(['allow_in_place_tablespaces', 'on'])
  for (const name of ['TimeZone', 'log_timezone']) {
    if (original[name] !== undefined) settings.push([name, original[name]])
  }
  return `${COPY_HEADING}${formatSettings(settings)}`
}

/**
 * postgresql.conf of a server that takes over and whose own lay outside its data
 * directory: enough to start and to go on archiving, until the original is in its place.
 */
export function formatStandInConfiguration(options: RecoverySettings, port: number): string {
  const { original, maxima, names } = options
  const kept = ['archive_mode', 'archive_command', 'wal_level', 'shared_preload_libraries']
  const settings: (readonly [string, string | number])[] = [
    ['port', port],
    ...Object.entries(maxima),
  ]
  for (const name of [...kept, names.replicationOrigins, 'TimeZone', 'log_timezone']) {
    const value = original[name]
    if (value !== undefined && value !== '(disabled)') settings.push([name, value])
  }
  return `${STAND_IN_HEADING}${formatSettings(settings)}`
}

const STAND_IN_HEADING = [
  "# Written by Tidemark in place of the original's file, which lay outside its data",
  '# directory and is in configuration.original.',
  '',
].join('\n')

export const STAND_IN_HBA = [
  "# Written by Tidemark in place of the original's file, which lay outside its data",
  '# directory and is in configuration.original. Only the superuser of the machine comes in.',
  'local all all peer',
  '',
].join('\n')

const COPY_HEADING = [
  '# Written by Tidemark. This is a restored copy: it may run beside the original and harms',
  '# nothing of it. The configuration of the original is beside this file, with the suffix',
  '# .original; `tidemark restore --take-over` keeps it instead.',
  '',
].join('\n')

/** Only who may open the socket's directory and the socket (mode 0700) comes this far. */
export const COPY_HBA = [
  '# Written by Tidemark: the socket is open to the owner of this directory only.',
  'local all all trust',
  '',
].join('\n')

function formatSettings(settings: Settings): string {
  return settings.map(([name, value]) => `${name} = ${quote(String(value))}\n`).join('')
}

/** guc-file.l: quotes are doubled, backslashes begin escapes. */
function quote(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}
