/**
 * The marks that a restore leaves in a data directory (docs/design/recovery.md, section 4).
 * `tidemark.restored` is read by `wal push` (archive/restored-marker.ts).
 */

/** Present until pg_control gets its name. */
export const RESTORING_MARKER = 'tidemark.restoring'

/** pg_control before everything else is durable: PostgreSQL does not start without it. */
export const UNFINISHED_CONTROL_FILE = 'global/pg_control.tidemark'

export interface RestoringMarker {
  readonly restoreId: string
  readonly cluster: string
  readonly backup: string
  /** Directories outside the data directory that this restore creates and may remove. */
  readonly tablespaceDirectories: readonly string[]
}

export interface RestoredMarker {
  readonly restoreId: string
  readonly cluster: string
  readonly systemIdentifier: string
  readonly backup: string
  /** In the user's words. */
  readonly target: string
  readonly timeline: number
  readonly targetLsn: string
  readonly takeOver: boolean
  /** The number of the timeline that it will have when it takes over. */
  readonly reservedTimeline?: number
  readonly restoredAt: string
}

export function parseRestoringMarker(text: string): RestoringMarker | undefined {
  try {
    const value = JSON.parse(text) as Partial<RestoringMarker>
    const { restoreId, cluster, backup, tablespaceDirectories } = value
    if (restoreId === undefined || !Array.isArray(tablespaceDirectories)) return undefined
    return { restoreId, cluster: cluster ?? '', backup: backup ?? '', tablespaceDirectories }
  } catch {
    return undefined
  }
}
