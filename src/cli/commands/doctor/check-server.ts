/** Checks of the server: pure judgements over what was read of it. */
import { type DiskOutlook, describeDiskOutlook } from '../../../archive/disk-outlook.ts'
import type { ServerSetting } from '../../../postgres/server-session.ts'
import { doesNothing, type PlannedSetting } from '../../archiving-settings.ts'
import { isOurArchiveCommand, plainFormOf } from '../../archive-command.ts'
import { formatCount, formatDuration } from '../../format-units.ts'
import { type Check, found, ok } from './check.ts'

export type Settings = ReadonlyMap<string, ServerSetting>

/** A row of pg_stat_archiver, times by the server's clock. */
export interface ArchiverState {
  readonly failedCount: number
  readonly lastFailedWal: string | undefined
  readonly lastFailedAt: Date | undefined
  readonly lastArchivedWal: string | undefined
  readonly lastArchivedAt: Date | undefined
  /** Files in pg_wal that wait to be archived; undefined where that cannot be seen. */
  readonly waiting: number | undefined
}

export function checkWalLevel(settings: Settings): Check {
  const value = read(settings, 'wal_level')
  if (value !== 'minimal') return ok('TM1703', 'wal_level', value)
  return found(
    'problem',
    'TM1703',
    'wal_level',
    "wal_level is 'minimal': WAL has not what recovery needs",
    "ALTER SYSTEM SET wal_level = 'replica'; then restart the server",
  )
}

export function checkArchiveMode(settings: Settings, isStandby: boolean): Check {
  const value = read(settings, 'archive_mode')
  const waits = settings.get('archive_mode')?.isRestartPending === true
  if (value === 'off') {
    return found(
      'problem',
      'TM1704',
      'archive_mode',
      waits ? 'it is off until the server is restarted' : "archive_mode is 'off'",
      waits
        ? 'restart the server'
        : "ALTER SYSTEM SET archive_mode = 'on'; then restart the server",
    )
  }
  if (isStandby && value !== 'always') {
    return ok('TM1704', 'archive_mode', `${value}: this standby archives after a promotion only`)
  }
  return ok('TM1704', 'archive_mode', value)
}

/** `wanted`: the planned change of archive_command, if one is needed. */
export function checkArchiveCommand(settings: Settings, wanted: PlannedSetting | undefined): Check {
  const library = settings.get('archive_library')?.value ?? ''
  const name = 'archive_command'
  if (library !== '') {
    const detail = `archive_library is '${library}', so archive_command is not used`
    return found('problem', 'TM1705', name, detail, "ALTER SYSTEM SET archive_library = ''")
  }
  if (wanted === undefined) return ok('TM1705', name, 'calls tidemark wal push')
  const { present, statement } = wanted
  const fix = `${statement};\nSELECT pg_reload_conf();`
  if (present === plainFormOf(wanted.wanted)) {
    const detail = 'it archives one file per call; with --ahead all that is ready'
    return found('warning', 'TM1705', name, detail, fix)
  }
  if (isOurArchiveCommand(present)) {
    const detail = `it calls another configuration, cluster or program: '${present}'`
    return found('warning', 'TM1705', name, detail, fix)
  }
  const detail =
    present === ''
      ? 'archive_command is empty'
      : present === '(disabled)'
        ? 'not in force while archive_mode is off'
        : doesNothing(present)
          ? `archive_command is '${present}', which archives nothing`
          : `archive_command is '${present}', which does not call tidemark wal push`
  return found('problem', 'TM1705', name, detail, fix)
}

/** More than this and pg_wal grows faster than it is archived. */
const MANY_WAITING = 64

export function checkArchiver(state: ArchiverState, now: Date): Check {
  const { failedCount, lastFailedWal, lastFailedAt, lastArchivedAt, waiting = 0 } = state
  if (lastFailedAt !== undefined && failsNow(state)) {
    const ago = formatDuration(now.getTime() - lastFailedAt.getTime())
    return found(
      'problem',
      'TM1706',
      'archiver',
      `it failed ${formatCount(failedCount, 'time')}, last with ${lastFailedWal ?? 'a file'} ${ago} ago; ${formatCount(waiting, 'file')} waiting`,
      'the server log has what archive_command printed; mend that, and the server goes on by itself',
    )
  }
  if (waiting > MANY_WAITING) {
    const detail = `${formatCount(waiting, 'file')} waiting in pg_wal`
    const fix = 'archiving is slower than the server writes: look at the speed of the repository'
    return found('warning', 'TM1706', 'archiver', detail, fix)
  }
  const last =
    lastArchivedAt === undefined
      ? 'nothing archived yet'
      : `last segment ${formatDuration(now.getTime() - lastArchivedAt.getTime())} ago`
  return ok('TM1706', 'archiver', `${last}, ${formatCount(waiting, 'file')} waiting`)
}

/** The last attempt was in vain. */
export function failsNow({ lastFailedAt, lastArchivedAt }: ArchiverState): boolean {
  return (
    lastFailedAt !== undefined && (lastArchivedAt === undefined || lastFailedAt > lastArchivedAt)
  )
}

const DAY_SECONDS = 86_400
/** While archiving works: so long must an outage of the repository be survived. */
const OUTAGE_SECONDS = 3600

/** How long the disk lasts; what counts is whether the archiver fails now. */
export function checkWalDisk(outlook: DiskOutlook, isStuck: boolean): Check {
  const name = 'pg_wal disk'
  const detail = describeDiskOutlook(outlook)
  const seconds = outlook.secondsLeft ?? Number.POSITIVE_INFINITY
  if (isStuck) {
    const fix =
      'mend what the archiver complains of, or make room; the server stops when it is full'
    return found(seconds < DAY_SECONDS ? 'problem' : 'warning', 'TM1450', name, detail, fix)
  }
  if (seconds >= OUTAGE_SECONDS) return ok('TM1450', name, detail)
  const fix = 'make room: an outage of the repository that lasts longer stops the server'
  return found('warning', 'TM1450', name, detail, fix)
}

export function checkDurability(settings: Settings): Check {
  const off = ['fsync', 'full_page_writes'].filter((name) => read(settings, name) === 'off')
  const name = 'durability'
  if (off.length === 0) return ok('TM1707', name, 'fsync and full_page_writes are on')
  return found(
    'warning',
    'TM1707',
    name,
    `${off.join(' and ')} off: a crash can damage the cluster`,
    off.map((setting) => `ALTER SYSTEM SET ${setting} = 'on';`).join(' '),
  )
}

export function checkChecksums(settings: Settings): Check {
  const name = 'data checksums'
  if (read(settings, 'data_checksums') === 'on') return ok('TM1708', name, 'on')
  const detail = 'off: a page that the disk changed is not noticed'
  const fix = 'stop the server and run: pg_checksums --enable (it rewrites every page once)'
  return found('warning', 'TM1708', name, detail, fix)
}

export function checkPendingRestart(settings: Settings): Check {
  const pending = [...settings].filter(([, setting]) => setting.isRestartPending)
  const name = 'pending restart'
  if (pending.length === 0) return ok('TM1709', name, 'no setting waits for one')
  const names = pending.map(([setting]) => setting).join(', ')
  return found(
    'warning',
    'TM1709',
    name,
    `changed, not yet in force: ${names}`,
    'restart the server',
  )
}

const CLOCK_TOLERANCE_MS = 2000

/** `offsetMs`: server minus here; the question took `roundTripMs`. */
export function checkClock(offsetMs: number, roundTripMs: number): Check {
  const offset = Math.abs(offsetMs)
  const side = offsetMs < 0 ? 'behind' : 'ahead'
  const detail = `the server's clock is ${formatDuration(offset)} ${side}`
  if (offset <= CLOCK_TOLERANCE_MS + roundTripMs)
    return ok('TM1714', 'clock', 'agrees with the server')
  return found('warning', 'TM1714', 'clock', detail, 'let NTP set both clocks')
}

function read(settings: Settings, name: string): string {
  return settings.get(name)?.value ?? ''
}
