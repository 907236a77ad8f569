/**
 * Chooses the backup whose pages are compared with, and says how far it is trusted. Pure.
 *
 * Comparing by content needs no lineage: any earlier backup of the same system identifier
 * and sizes will do, and cannot be wrong. Leaving files unread by their status is trusted
 * within one boot of one host only, while its clock was not set, and never for longer than
 * a week.
 */
import type { BackupRecord } from '../repository/backup-record.ts'

export interface BaseCriteria {
  readonly systemIdentifier: string
  readonly sizes: BackupRecord['sizes']
  readonly dataChecksumVersion: number
  readonly dataDirectory: string
  readonly bootId: string
  /** When this boot began, by the clock of now: a clock that was set moves it. */
  readonly bootedAtMs: number | undefined
  readonly now: Date
  /** Read every page, and compare. */
  readonly full: boolean
}

export interface ChosenBase {
  readonly backup: BackupRecord
  readonly trustStatus: boolean
}

/** A boot's beginning is known to a hundredth of a second; clocks are set by more. */
const CLOCK_TOLERANCE_MS = 1000
const FULL_READ_EVERY_MS = 7 * 24 * 3600 * 1000

export function chooseBase(
  oldestFirst: readonly BackupRecord[],
  criteria: BaseCriteria,
): ChosenBase | undefined {
  const backup = oldestFirst.findLast(
    ({ systemIdentifier, sizes }) =>
      systemIdentifier === criteria.systemIdentifier && equalSizes(sizes, criteria.sizes),
  )
  if (backup === undefined) return undefined
  return { backup, trustStatus: mayTrustStatus(backup, criteria) }
}

/** The backups of one target, oldest first. */
export interface TargetBackups {
  readonly target: number
  readonly required: boolean
  readonly backups: readonly BackupRecord[]
}

/**
 * The backups that all required targets have; of these, where a target that is not required
 * has some, only those: it then needs no catching up. Oldest first.
 */
export function commonBackups(targets: readonly TargetBackups[]): readonly BackupRecord[] {
  const inOrder = [
    ...targets.filter(({ required }) => required),
    ...targets.filter(({ required }) => !required),
  ]
  const [first, ...others] = inOrder
  let common = first?.backups ?? []
  for (const { required, backups } of others) {
    const ids = new Set(backups.map(({ id }) => id))
    const left = common.filter(({ id }) => ids.has(id))
    if (required || left.length > 0) common = left
  }
  return common
}

function mayTrustStatus(backup: BackupRecord, criteria: BaseCriteria): boolean {
  const sinceFullRead = criteria.now.getTime() - Date.parse(backup.lastFullReadAt)
  return (
    !criteria.full &&
    backup.bootId === criteria.bootId &&
    sameClock(backup.bootedAtMs, criteria.bootedAtMs) &&
    backup.server.dataDirectory === criteria.dataDirectory &&
    backup.dataChecksumVersion === criteria.dataChecksumVersion &&
    sinceFullRead >= 0 &&
    sinceFullRead < FULL_READ_EVERY_MS
  )
}

/** After a step of the clock two writes at different moments may bear the same time. */
function sameClock(then: number | undefined, now: number | undefined): boolean {
  if (then === undefined || now === undefined) return false
  return Math.abs(then - now) <= CLOCK_TOLERANCE_MS
}

function equalSizes(a: BackupRecord['sizes'], b: BackupRecord['sizes']): boolean {
  return (
    a.blockSizeBytes === b.blockSizeBytes &&
    a.relationSegmentBlocks === b.relationSegmentBlocks &&
    a.walBlockSizeBytes === b.walBlockSizeBytes &&
    a.walSegmentSizeBytes === b.walSegmentSizeBytes
  )
}
