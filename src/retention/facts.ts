/**
 * What a decision about expiry is made from: a repository at one moment, as values. Times are
 * milliseconds since 1970, segments are numbers of their place in the WAL.
 */
import type { TimelineHistory } from '../postgres/history-file.ts'
import type { Timeline } from '../postgres/lsn.ts'
import type { Hold } from '../repository/holds.ts'
import type { PackSet, PackTable } from './pack-table.ts'

export interface ExpirationFacts {
  readonly cluster: string
  /** In any order. */
  readonly backups: readonly BackupFacts[]
  /** Ids of records that cannot be read. */
  readonly damagedRecords: readonly string[]
  readonly holds: readonly Hold[]
  /** Keys. */
  readonly unreadableHolds: readonly string[]
  /** Backups that other expiries may be removing: they count for nothing and are not touched. */
  readonly condemnedElsewhere: ReadonlySet<string>
  /** What this expiry, or an earlier one that did not end, has condemned already. */
  readonly expiredBefore: ReadonlySet<string>
  /** Ids of the condemned sets that this expiry takes over: their writers are dead. */
  readonly takenOver: readonly string[]
  /** Backups without a record that nobody has expired. */
  readonly lostRecords: readonly string[]
  readonly systems: readonly SystemFacts[]
  readonly packs: PackTable
  /** Pins and labels. */
  readonly marks: readonly MarkFacts[]
}

export interface BackupFacts {
  readonly id: string
  readonly systemIdentifier: string
  readonly timeline: Timeline
  readonly stoppedAtMs: number
  /** Segment of the redo location, and that after which it is consistent. */
  readonly firstSegment: number
  readonly lastSegment: number
  /** After this LSN it is consistent. */
  readonly consistentAt: bigint
  readonly isPinned: boolean
  /** Packs or WAL of it are not there: nobody can restore it, and it takes no other's place. */
  readonly isIncomplete?: boolean
  readonly packs: PackSet
}

export interface SystemFacts {
  readonly systemIdentifier: string
  /** When it was introduced; undefined: its identity is missing or damaged. */
  readonly createdAtMs: number | undefined
  readonly walSegmentSizeBytes: number
  readonly timelines: readonly TimelineFacts[]
  /** All that is no segment: histories, labels, what is aside, and keys of no format. */
  readonly others: readonly OtherWal[]
}

export interface TimelineFacts {
  readonly timeline: Timeline
  /** `none`: not archived. `unreadable`: damaged, or it makes no sense. */
  readonly history: TimelineHistory | 'none' | 'unreadable'
  /** Ascending. */
  readonly segments: readonly number[]
  /** Stored bytes of each. */
  readonly sizes: readonly number[]
  /** The time that its last records tell; undefined: not looked for, or nothing tells. */
  readonly lastMomentMs: number | undefined
}

export interface OtherWal {
  readonly key: string
  readonly sizeBytes: number
  readonly kind:
    | 'history'
    | 'label'
    | 'partial'
    | 'quarantine'
    | 'tail'
    | 'writer'
    | 'reservation'
    | 'gap'
    | 'break'
    | 'stranger'
  /** Of partials, of tails, of breaks and of segments in quarantine. */
  readonly segment: number | undefined
  /** Of a reservation: it goes with this backup; undefined: it cannot be read. */
  readonly backupId?: string | undefined
}

export interface MarkFacts {
  readonly key: string
  readonly backupId: string
}
