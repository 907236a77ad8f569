/**
 * What the phases of a backup share: options, session, facts. Made once, in take-backup.ts.
 */
import type { Progress } from '../base/progress.ts'
import type { ControlFile } from '../postgres/control-file.ts'
import type { ServerSession, ServerSessionOptions } from '../postgres/server-session.ts'
import type { PostgresVersion } from '../postgres/versions.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import type { StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { ChosenBase } from './choose-base.ts'
import type { StartCopyRunner } from './copy-files.ts'
import type { ServerFacts } from './server-facts.ts'
import type { BackupTarget, TargetReport, Targets } from './targets.ts'

export type TakeBackupOptions = BackupSettings & (OneTarget | SeveralTargets)

interface OneTarget {
  readonly storage: Storage
  /** What worker threads open it by; its URL alone unless given. */
  readonly specification?: StorageSpecification
}

interface SeveralTargets {
  /** In the order of the configuration. */
  readonly targets: readonly BackupTarget[]
}

interface BackupSettings {
  readonly cluster: string
  /** A PostgreSQL URL; the server must run on this host. */
  readonly connection: string
  /** Read every page; nothing is taken over by the status of its file. */
  readonly full?: boolean
  /** Compare with nothing: everything is stored anew. */
  readonly rewrite?: boolean
  /** What lies in packs that are older is stored again; nothing unless given. */
  readonly maxPackAgeMs?: number
  /** For tests: see chooseOldPacks(). */
  readonly leastRenewalBytes?: number
  readonly labels?: Readonly<Record<string, string>>
  readonly pinned?: boolean
  readonly workers: number
  /** zstd level of the frames; 3 unless given. */
  readonly compressionLevel?: number
  /** False: accept that the backup can only be restored to its own end. */
  readonly archiveCheck?: boolean
  /** Where WAL is streamed: the receiver's slot, which is made where it is missing. */
  readonly slot?: string
  /** The archive_command that a failure tells the user to set. */
  readonly archiveCommand: string
  readonly waitLimitMs?: number
  readonly tidemarkVersion: string
  /** Accept a newer major than the version table knows. */
  readonly forceVersion?: boolean
  /** Who copies; threads unless given. For simulations. */
  readonly startCopying?: StartCopyRunner
  /** How the server is reached. For simulations. */
  readonly openSession?: (options: ServerSessionOptions) => Promise<ServerSession>
}

export interface BackupResult {
  readonly record: BackupRecord
  /** Sentences for the person: links not followed, leftovers removed, damage. */
  readonly notes: readonly string[]
  /** What became of it in each repository, in the order of the options. */
  readonly targets: readonly TargetReport[]
}

/** Everything that the phases share; in the order in which it becomes known. */
export interface BackupContext {
  readonly options: BackupSettings
  readonly targets: Targets
  readonly session: ServerSession
  readonly version: PostgresVersion
  readonly facts: ServerFacts
  readonly control: ControlFile
  readonly base: ChosenBase | undefined
  /** Numbers of the targets that hold the base, the nearest first. */
  readonly comparedIn: readonly number[]
  readonly backupId: string
  readonly attemptId: string
  readonly progress: Progress
  readonly signal: AbortSignal
  readonly notes: string[]
  readonly beganAt: Date
}

/** What every repository and every measured number in bench/RESULTS.md was written with. */
const DEFAULT_COMPRESSION_LEVEL = 3
const DEFAULT_WAIT_LIMIT_MS = 60_000

/** One storage alone is required: without it there is no backup. */
export function targetsOf(options: TakeBackupOptions): readonly BackupTarget[] {
  if ('targets' in options) return options.targets
  const { storage, specification = { url: storage.url } } = options
  return [{ name: storage.url, storage, specification, required: true }]
}

export function sizesOf(control: ControlFile): BackupRecord['sizes'] {
  return {
    blockSizeBytes: control.blockSizeBytes,
    relationSegmentBlocks: control.relationSegmentBlocks,
    walBlockSizeBytes: control.walBlockSizeBytes,
    walSegmentSizeBytes: control.walSegmentSizeBytes,
  }
}

export function compressionLevelOf(options: BackupSettings): number {
  return options.compressionLevel ?? DEFAULT_COMPRESSION_LEVEL
}

export function waitLimitOf(options: BackupSettings): number {
  return options.waitLimitMs ?? DEFAULT_WAIT_LIMIT_MS
}
