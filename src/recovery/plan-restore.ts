/**
 * The plan of a restore: everything that will be written, read and replayed, as a value
 * that can be printed. Nothing is written before it exists.
 */
import { Failure } from '../base/failure.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { CONTROL_FILE_PATH } from '../postgres/control-file.ts'
import type { BackupRecord, FileEntry } from '../repository/backup-record.ts'
import { missingObject } from '../repository/envelope.ts'
import { packKey } from '../repository/keys.ts'
import type { Destination, SpaceNeed } from './check-destination.ts'
import type { FoundTarget } from './find-target.ts'
import { UNFINISHED_CONTROL_FILE } from './marker-files.ts'
import type { PlacedTablespace } from './plan-tablespaces.ts'
import { ORIGINAL_SUFFIX, REPLACED_IN_COPY } from './write-recovery-settings.ts'

export interface RestorePlan {
  readonly cluster: string
  readonly backup: string
  readonly backupStoppedAt: string
  readonly directory: string
  readonly clearsUnfinished: boolean
  readonly takeOver: boolean
  /** As PostgreSQL gets it. */
  readonly stop: PlannedStop
  readonly timeline: number
  readonly replayEndLsn: string
  readonly lastTransactionAt: string | undefined
  readonly files: number
  readonly bytes: number
  readonly packs: number
  readonly walSegments: number
  readonly firstWalSegment: string | undefined
  readonly lastWalSegment: string | undefined
  readonly tablespaces: readonly PlacedTablespace[]
  /** Configuration that lay outside the data directory: from where, and where it is put. */
  readonly configuration: readonly { readonly original: string; readonly restored: string }[]
  readonly estimatedMs: number
  /** Repositories that are read, the first of them first. */
  readonly repositories: readonly string[]
  readonly notes: readonly string[]
}

export interface PlannedStop {
  readonly kind: 'immediate' | 'lsn'
  readonly lsn: string
  readonly inclusive: boolean
}

/** What the file list says, counted in one pass. */
export interface FileSurvey {
  readonly files: number
  readonly bytes: number
  /** By OID of the tablespace; 0 is the data directory. */
  readonly bytesPerTablespace: ReadonlyMap<number, number>
  readonly notes: readonly string[]
}

export async function surveyFiles(
  entries: AsyncIterable<FileEntry>,
  aside: Aside,
): Promise<FileSurvey> {
  const bytesPerTablespace = new Map<number, number>([[0, 0]])
  const notes: string[] = []
  let files = 0
  let bytes = 0
  for await (const entry of entries) {
    if (placeOf(entry, aside) === undefined) {
      if (entry.kind === 'link' && !isTablespaceLink(entry.path)) {
        notes.push(`${entry.path} was a link to ${entry.target}: it is not followed in the restore`)
      }
      continue
    }
    if (entry.kind !== 'pages' && entry.kind !== 'content') continue
    const tablespace = Number(/^pg_tblspc\/(\d+)\//.exec(entry.path)?.[1] ?? 0)
    bytesPerTablespace.set(tablespace, (bytesPerTablespace.get(tablespace) ?? 0) + entry.size)
    files++
    bytes += entry.size
  }
  return { files, bytes, bytesPerTablespace, notes }
}

function isTablespaceLink(path: string): boolean {
  return /^pg_tblspc\/\d+$/.test(path)
}

/** What a restore puts aside. */
export interface Aside {
  /** Without --take-over: the original's configuration, for a copy gets its own. */
  readonly takeOver: boolean
  /** Configuration from outside the data directory. */
  readonly hasConfiguration: boolean
}

/**
 * Where an entry is written, relative to the data directory; undefined: it is not. Links
 * out of the data directory are never made: they may lead into the living server. What an
 * earlier restore put aside is put further aside: no two entries get one place.
 */
export function placeOf(entry: FileEntry, aside: Aside): string | undefined {
  const { kind } = entry
  if (entry.path.startsWith('@config/')) return placeOfConfiguration(entry.path)
  // The second @ is that of a file's own name.
  const path = entry.path.startsWith('@@') ? entry.path.slice(1) : entry.path
  if (path === entry.path && path.startsWith('@')) throw unknownPlace(path)
  if (kind === 'link') return undefined
  if (path === CONTROL_FILE_PATH) return UNFINISHED_CONTROL_FILE
  const [top = ''] = path.split('/', 1)
  const name = top.replace(/(\.original)+$/, '')
  const isTaken = `${name}${ORIGINAL_SUFFIX}` === CONFIGURATION_DIRECTORY && name !== top
  const movesAway = isTaken ? aside.hasConfiguration : !aside.takeOver && REPLACED_IN_COPY.has(name)
  return movesAway ? `${top}${ORIGINAL_SUFFIX}${path.slice(top.length)}` : path
}

/** Not left out: what a later version stores there may be needed. */
function unknownPlace(path: string): Failure {
  return new Failure('TM1504', {
    message: `the file list has an entry ${path}`,
    because: 'this version of Tidemark does not know where it belongs',
    fix: 'use the version of Tidemark that wrote the backup, or a later one',
    details: { path },
  })
}

/** Where the original's configuration from outside its data directory is put. */
export const CONFIGURATION_DIRECTORY = 'configuration.original'

/** `@config/0003/pg_hba.conf` is put into one directory as `0003-pg_hba.conf`. */
function placeOfConfiguration(path: string): string {
  return `${CONFIGURATION_DIRECTORY}/${path.split('/').slice(1).join('-')}`
}

/** TM1602 for the first pack that the repository does not hold. */
export function requirePacks(record: BackupRecord, present: ReadonlyMap<string, number>): void {
  const missing = record.packs.filter(({ id }) => !present.has(id))
  const first = missing[0]
  if (first === undefined) return
  const failure = missingObject(packKey(record.cluster, first.id), `backup ${record.id}`)
  throw new Failure('TM1602', {
    message: `backup ${record.id} cannot be restored: ${failure.message}`,
    because: `${missing.length} of its ${record.packs.length} packs are not in the repository`,
    fix: `bring them back, or start from another backup: --backup ID (tidemark list ${record.cluster})`,
    details: { backup: record.id, missing: missing.map(({ id }) => packKey(record.cluster, id)) },
  })
}

/** Rates that were measured on two cores and a local disk; they only give an idea. */
const RESTORE_BYTES_PER_MS = 500_000
const REPLAY_MS_PER_SEGMENT = 60

export interface PlanInput {
  readonly record: BackupRecord
  readonly found: FoundTarget
  readonly survey: FileSurvey
  readonly destination: Destination
  readonly tablespaces: readonly PlacedTablespace[]
  readonly takeOver: boolean
  readonly repositories: readonly string[]
  readonly notes: readonly string[]
}

export function planRestore(input: PlanInput): RestorePlan {
  const { record, found, survey, destination } = input
  const { stop } = found
  return {
    cluster: record.cluster,
    backup: record.id,
    backupStoppedAt: record.stoppedAt,
    directory: destination.directory,
    clearsUnfinished: destination.state === 'unfinished',
    takeOver: input.takeOver,
    stop: {
      kind: stop.kind,
      lsn: formatLsn(stop.kind === 'lsn' ? stop.lsn : found.replayEnd),
      inclusive: stop.kind === 'immediate' || stop.inclusive,
    },
    timeline: found.timeline,
    replayEndLsn: formatLsn(found.replayEnd),
    lastTransactionAt: lastTransactionOf(found),
    files: survey.files,
    bytes: survey.bytes,
    packs: record.packs.length,
    walSegments: found.segments.length,
    firstWalSegment: found.segments[0],
    lastWalSegment: found.segments.at(-1),
    tablespaces: input.tablespaces,
    configuration: record.configurationFiles.map(({ location, path }) => ({
      original: location,
      restored: placeOfConfiguration(path),
    })),
    estimatedMs: Math.round(
      survey.bytes / RESTORE_BYTES_PER_MS + found.segments.length * REPLAY_MS_PER_SEGMENT,
    ),
    repositories: input.repositories,
    notes: [...found.notes, ...survey.notes, ...input.notes],
  }
}

function lastTransactionOf(found: FoundTarget): string | undefined {
  const time = found.facts.lastTransaction
  return time === undefined ? undefined : new Date(Number(time / 1000n)).toISOString()
}

/** Sparse pages need less; what PostgreSQL writes while it recovers needs some more. */
export function spaceNeeds(input: PlanInput): SpaceNeed[] {
  const { survey, destination, tablespaces, record } = input
  const wal = 3 * record.sizes.walSegmentSizeBytes
  const mapped = new Map(tablespaces.map(({ oid, location }) => [oid, location]))
  return [...survey.bytesPerTablespace].map(([oid, bytes]) => ({
    directory: mapped.get(oid) ?? destination.directory,
    bytes: oid === 0 ? bytes + wal : bytes,
  }))
}
