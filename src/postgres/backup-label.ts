/**
 * The files of a low-level backup: backup_label, the backup history file that repeats it,
 * and tablespace_map. PostgreSQL: access/xlogbackup.c (build_backup_content),
 * access/xlogrecovery.c (read_backup_label, read_tablespace_map), xlog.c
 * (do_pg_backup_start; up to 14 all of it is in xlog.c).
 *
 * backup_label is stored and restored to the byte as PostgreSQL returned it; parsing only
 * reads it. tablespace_map is rewritten for the places of a restore, never copied.
 */
import { Failure } from '../base/failure.ts'
import { type Lsn, parseLsn, type Timeline } from './lsn.ts'

export interface BackupLabel {
  /** START WAL LOCATION: the redo location of the backup's checkpoint. */
  readonly startLsn: Lsn
  /** Name of the WAL segment that holds it. */
  readonly startSegment: string
  readonly checkpointLsn: Lsn
  readonly method: string
  readonly from: 'primary' | 'standby'
  /** In the server's log time zone, as it wrote it. */
  readonly startTime: string
  readonly label: string
  readonly startTimeline: Timeline
  /** Set by BASE_BACKUP … INCREMENTAL (17): such a directory must be combined first. */
  readonly incrementalFromLsn: Lsn | undefined
  /** Only a backup history file has the end. */
  readonly stop: BackupLabelStop | undefined
}

export interface BackupLabelStop {
  readonly lsn: Lsn
  readonly segment: string
  readonly time: string
  readonly timeline: Timeline
}

/** Failure TM1117 when a line that every backup_label has is missing or not readable. */
export function parseBackupLabel(text: string): BackupLabel {
  const fields = readFields(text)
  const start = parseLocation(require(fields, 'START WAL LOCATION'))
  const checkpointLsn = parseLsn(require(fields, 'CHECKPOINT LOCATION'))
  const startTimeline = Number(require(fields, 'START TIMELINE'))
  if (start === undefined || checkpointLsn === undefined || !isTimeline(startTimeline)) {
    throw labelFailure('its start, checkpoint or timeline is not readable')
  }
  const incremental = fields.get('INCREMENTAL FROM LSN')
  return {
    startLsn: start.lsn,
    startSegment: start.segment,
    checkpointLsn,
    method: require(fields, 'BACKUP METHOD'),
    from: require(fields, 'BACKUP FROM') === 'standby' ? 'standby' : 'primary',
    startTime: require(fields, 'START TIME'),
    label: require(fields, 'LABEL'),
    startTimeline,
    incrementalFromLsn: incremental === undefined ? undefined : parseLsn(incremental),
    stop: parseStop(fields),
  }
}

/** Lines are `NAME: value`. The first of a name counts: a label may hold line ends. */
function readFields(text: string): Map<string, string> {
  const fields = new Map<string, string>()
  for (const line of text.split('\n')) {
    const match = /^([A-Z ]+): (.*)$/.exec(line)
    const name = match?.[1]
    if (name !== undefined && !fields.has(name)) fields.set(name, match?.[2] ?? '')
  }
  return fields
}

function require(fields: ReadonlyMap<string, string>, name: string): string {
  const value = fields.get(name)
  if (value === undefined) throw labelFailure(`it has no line ${name}`)
  return value
}

function labelFailure(because: string): Failure {
  return new Failure('TM1117', {
    message: 'the backup_label is not one that PostgreSQL writes',
    because,
    fix: 'take the backup again; a backup_label must never be edited',
  })
}

function parseLocation(value: string): { lsn: Lsn; segment: string } | undefined {
  const match = /^([0-9A-F/]+) \(file ([0-9A-F]{24})\)$/.exec(value)
  const lsn = parseLsn(match?.[1] ?? '')
  return lsn === undefined ? undefined : { lsn, segment: match?.[2] ?? '' }
}

function isTimeline(value: number): boolean {
  return Number.isInteger(value) && value > 0 && value <= 0xffffffff
}

function parseStop(fields: ReadonlyMap<string, string>): BackupLabelStop | undefined {
  const location = parseLocation(fields.get('STOP WAL LOCATION') ?? '')
  const time = fields.get('STOP TIME')
  const timeline = Number(fields.get('STOP TIMELINE'))
  if (location === undefined || time === undefined || !isTimeline(timeline)) return undefined
  return { ...location, time, timeline }
}

export interface TablespaceLocation {
  readonly oid: number
  /** What the link pg_tblspc/<oid> says. */
  readonly location: string
}

/**
 * How tablespace_map is escaped: line ends have a backslash before them always, backslashes
 * from 14 on (versions.ts: mapEscapesBackslash).
 */
export interface MapEscaping {
  readonly mapEscapesBackslash: boolean
}

/** Reads lines of `oid location`. Failure TM1117 for a line of another form. */
export function parseTablespaceMap(text: string, escaping: MapEscaping): TablespaceLocation[] {
  return splitMap(text, escaping).map((line) => {
    const match = /^([1-9][0-9]{0,9}) (.+)$/s.exec(line)
    if (match === null) {
      throw new Failure('TM1117', {
        message: 'the tablespace_map is not one that PostgreSQL writes',
        because: `a line is not a number and a path: ${JSON.stringify(line)}`,
        fix: 'take the backup again; a tablespace_map must never be edited',
      })
    }
    return { oid: Number(match[1]), location: match[2] as string }
  })
}

/** Lines without their escapes. */
function splitMap(text: string, { mapEscapesBackslash }: MapEscaping): string[] {
  const lines: string[] = []
  let line = ''
  for (let at = 0; at < text.length; at++) {
    const next = text[at + 1]
    const isEscape = text[at] === '\\' && (mapEscapesBackslash || isLineEnd(next))
    if (isEscape && next !== undefined) {
      line += next
      at++
    } else if (isLineEnd(text[at])) {
      if (line !== '') lines.push(line)
      line = ''
    } else {
      line += text[at]
    }
  }
  if (line !== '') lines.push(line)
  return lines
}

function isLineEnd(character: string | undefined): boolean {
  return character === '\n' || character === '\r'
}

/** The tablespace_map of a restore: the text for these tablespaces at their new places. */
export function formatTablespaceMap(
  tablespaces: readonly TablespaceLocation[],
  { mapEscapesBackslash }: MapEscaping,
): string {
  const special = mapEscapesBackslash ? /[\n\r\\]/g : /[\n\r]/g
  return tablespaces
    .map(({ oid, location }) => `${oid} ${location.replace(special, '\\$&')}\n`)
    .join('')
}
