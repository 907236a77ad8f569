/**
 * The backup record: the root of one backup. Layout and order of writes:
 * docs/design/repository-format.md, sections 4 to 7.
 */

/** Where one frame is. Pack ids are 32 hex digits. */
export interface FrameReference {
  readonly pack: string
  readonly frame: number
}

export interface BackupRecord {
  readonly format: 1
  readonly id: string
  readonly cluster: string
  /** Decimal. */
  readonly systemIdentifier: string
  readonly tidemarkVersion: string
  readonly source: 'local'
  readonly server: {
    readonly major: number
    /** As server_version says it: `15.18 (Debian …)`. */
    readonly version: string
    readonly controlFileVersion: number
    readonly catalogVersion: number
    readonly isStandby: boolean
    readonly dataDirectory: string
    /** Permission bits of the data directory: 0o700 or 0o750. */
    readonly dataDirectoryMode: number
  }
  readonly sizes: {
    readonly blockSizeBytes: number
    readonly relationSegmentBlocks: number
    readonly walBlockSizeBytes: number
    readonly walSegmentSizeBytes: number
  }
  /** pg_control's data_checksum_version at the end of the backup; 0: off. */
  readonly dataChecksumVersion: number
  /** The server's clock, ISO 8601 UTC. */
  readonly startedAt: string
  readonly stoppedAt: string
  readonly timeline: number
  /** LSNs as `X/Y`. The start LSN is the redo location of the backup's checkpoint. */
  readonly startLsn: string
  readonly checkpointLsn: string
  readonly stopLsn: string
  /** From a standby: pg_control's minRecoveryPoint, which replay must pass as well. */
  readonly minRecoveryLsn?: string
  /** First and last WAL segment that the backup needs to be consistent. */
  readonly walFirst: string
  readonly walLast: string
  /** Bytes exactly as pg_backup_stop returned them. */
  readonly backupLabel: string
  readonly tablespaceMap: string
  readonly tablespaces: readonly BackupTablespace[]
  /** Settings that a restored server needs or that a person wants to compare. */
  readonly settings: Readonly<Record<string, string>>
  /** Configuration files outside the data directory, stored as content under `@config/`. */
  readonly configurationFiles: readonly { readonly location: string; readonly path: string }[]
  readonly labels: Readonly<Record<string, string>>
  readonly pinned: boolean
  readonly files: {
    readonly pieces: readonly FileListPieceReference[]
    readonly entries: number
    readonly bytes: number
    readonly contentHash: string
  }
  readonly relationNames?: FrameReference
  /** Every pack that this backup needs, in order of their ids. */
  readonly packs: readonly NamedPack[]
  /** Until when packs are locked at least, in repositories that lock objects. */
  readonly locks?: readonly PackLock[]
  readonly damage: readonly DamagedPages[]
  /** The backup that pages were compared with; information only. */
  readonly comparedWith?: string
  /** When all pages were last read rather than skipped by file status (server's clock). */
  readonly lastFullReadAt: string
  /** Linux boot id of the reading host; file status of another boot proves nothing. */
  readonly bootId: string
  /**
   * When that boot began: clock minus time since boot, in milliseconds of 1970. A clock that
   * was set since has moved it, and file times prove nothing across that.
   */
  readonly bootedAtMs?: number
  readonly statistics: BackupStatistics
}

export interface NamedPack {
  readonly id: string
  /** Its stored size; not told for the pack that this record itself lies in. */
  readonly bytes?: number
  /**
   * When it was first written, ISO 8601 by the server's clock; carried from record to record.
   * Older records lack it.
   */
  readonly since?: string
}

export interface PackLock {
  /** Id of the repository. */
  readonly repository: string
  /** ISO 8601. */
  readonly until: string
  /** Pairs: place of a first pack in `packs`, and how many from there. */
  readonly packs: readonly number[]
}

export interface BackupTablespace {
  readonly oid: number
  readonly name: string
  /** Directory that the link names; for kind `in-place` the path below the data directory. */
  readonly location: string
  readonly kind: 'link' | 'in-place'
}

export interface FileListPieceReference extends FrameReference {
  readonly firstPath: string
  readonly entries: number
}

export interface DamagedPages {
  readonly path: string
  /** `database.schema.table` where it could be resolved. */
  readonly relation?: string
  readonly blocks: readonly number[]
  /** The newest earlier backup that holds other bytes for the first damaged page. */
  readonly lastGoodBackup?: string
}

export interface BackupStatistics {
  readonly filesRead: number
  readonly filesUnchangedByStatus: number
  readonly bytesRead: number
  readonly pagesStored: number
  /** Bytes that this backup added to the repository, WAL not counted. */
  readonly bytesStored: number
  readonly durationMs: number
}

/** An entry of the file list (section 5). */
export type FileEntry = PagesEntry | ContentEntry | DirectoryEntry | LinkEntry | EmptyEntry

interface EntryBase {
  readonly path: string
  readonly mode: number
}

export interface PagesEntry extends EntryBase {
  readonly kind: 'pages'
  readonly size: number
  readonly leaves: readonly LeafReference[]
  /** Hex SHA-256 over the SHA-256 of each leaf's fingerprints: the content, not its place. */
  readonly digest: string
  /** Packs that the pages of the file lie in. */
  readonly packs: readonly string[]
  readonly seen: FileStatus
}

export interface ContentEntry extends EntryBase {
  readonly kind: 'content'
  readonly size: number
  readonly chunks: readonly FrameReference[]
  readonly sha256: string
}

export interface DirectoryEntry extends EntryBase {
  readonly kind: 'directory'
}

export interface LinkEntry extends EntryBase {
  readonly kind: 'link'
  readonly target: string
}

export interface EmptyEntry extends EntryBase {
  readonly kind: 'empty'
}

export interface LeafReference extends FrameReference {
  readonly slot: number
}

/** How a file looked just before it was read; nanoseconds as bigint. */
export interface FileStatus {
  readonly device: bigint
  readonly inode: bigint
  readonly modifiedNs: bigint
  readonly changedNs: bigint
  /** Both times were at least two seconds in the past when the file was read. */
  readonly settled: boolean
}
