/**
 * Makes the WAL that a backup needs durable in the archive before the backup is published.
 *
 * The segments are taken from the server's own pg_wal where they are complete, so a backup
 * neither waits for an archiver that is behind nor hangs on one that fails; the archiver's
 * push of the same segment finds it there, or ours finds the archiver's. What is not here
 * (a standby) is waited for, up to a limit.
 *
 * Invariant: every segment was compared with the server's own, or proved by its hashes,
 * and is durable.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pushWalFile } from '../archive/push-wal.ts'
import { parseWalFileName, walKey } from '../archive/wal-file-name.ts'
import { decodeWalObject } from '../archive/wal-object.ts'
import { monotonicMs, sleep } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import {
  formatSegmentName,
  type Lsn,
  previousSegmentNumber,
  segmentNumber,
  type Timeline,
} from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import type { WriteGroup } from '../storage/write-group.ts'

export interface BackupWalOptions {
  readonly cluster: string
  readonly systemIdentifier: string
  readonly dataDirectory: string
  readonly timeline: Timeline
  readonly walSegmentSizeBytes: number
  readonly startLsn: Lsn
  readonly stopLsn: Lsn
  /** On a standby the last segment may still be written to: it is never taken from here. */
  readonly isStandby: boolean
  readonly waitLimitMs: number
}

/** Names of all segments from the one with `startLsn` to the one that ends at `stopLsn`. */
function listBackupSegments(options: BackupWalOptions): string[] {
  const { timeline, walSegmentSizeBytes, startLsn, stopLsn } = options
  const first = segmentNumber(startLsn, walSegmentSizeBytes)
  const last = previousSegmentNumber(stopLsn, walSegmentSizeBytes)
  const names: string[] = []
  for (let segment = first; segment <= last; segment++) {
    names.push(formatSegmentName(timeline, segment, walSegmentSizeBytes))
  }
  return names
}

const POLL_MS = 100

/** Into every target; one that is not required and fails is dropped. */
export async function archiveBackupWal(
  options: BackupWalOptions,
  targets: WriteGroup,
  progress: Progress,
  signal: AbortSignal,
): Promise<string[]> {
  const names = listBackupSegments(options)
  progress.phase('archiving the WAL of the backup', names.length, 'segments')
  const archive = async (action: (one: TargetOptions) => Promise<void>): Promise<void> => {
    await targets.gather(async (storage) => await action({ ...options, storage }))
  }
  if (options.timeline > 1) await archive(archiveHistory)
  for (const name of names) {
    await archive(async (one) => await archiveSegment(one, name, signal))
    progress.advance(1)
  }
  return names
}

interface TargetOptions extends BackupWalOptions {
  readonly storage: Storage
}

async function archiveHistory(options: TargetOptions): Promise<void> {
  const name = `${options.timeline.toString(16).toUpperCase().padStart(8, '0')}.history`
  const path = join(options.dataDirectory, 'pg_wal', name)
  if (await pushIfThere(options, path)) return
  const { storage, cluster, systemIdentifier } = options
  const key = segmentKey(cluster, systemIdentifier, name)
  const bytes = await storage.read(key)
  if (bytes === undefined) throw notArchived(options, name)
  decodeWalObject(key, bytes, { systemIdentifier, name })
  await storage.confirmDurable([key])
}

async function archiveSegment(
  options: TargetOptions,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const { storage, cluster, systemIdentifier, dataDirectory, isStandby } = options
  const key = segmentKey(cluster, systemIdentifier, name)
  const path = join(dataDirectory, 'pg_wal', name)
  const limit = monotonicMs() + options.waitLimitMs
  for (;;) {
    signal.throwIfAborted()
    if (!isStandby && (await pushIfThere(options, path))) return
    const bytes = await storage.read(key)
    if (bytes !== undefined) {
      decodeWalObject(key, bytes, { systemIdentifier, name })
      return await storage.confirmDurable([key])
    }
    if (monotonicMs() > limit) throw notArchived(options, name)
    await sleep(POLL_MS, signal)
  }
}

/**
 * A push compares with what is archived already, so the archive holds the bytes of this
 * very server afterwards. False: the server has removed or recycled the segment, which it
 * does only once it is archived, perhaps while it was read here.
 */
async function pushIfThere(options: TargetOptions, path: string): Promise<boolean> {
  if (!existsSync(path)) return false
  try {
    await push(options, path)
    return true
  } catch (error) {
    if (isFailure(error, 'TM1406') && !existsSync(path)) return false
    throw error
  }
}

function segmentKey(cluster: string, systemIdentifier: string, name: string): string {
  const file = parseWalFileName(name)
  if (file === undefined) throw new Error(`${name} is not the name of a WAL file`)
  return walKey(cluster, systemIdentifier, file, '')
}

async function push(options: TargetOptions, path: string): Promise<void> {
  const { storage, cluster, dataDirectory } = options
  await pushWalFile({ storages: [storage], cluster, path, dataDirectory, isOfBackup: true })
}

function notArchived(options: BackupWalOptions, name: string): Failure {
  return new Failure('TM1310', {
    message: `the WAL file ${name}, which the backup needs, did not reach the archive`,
    because: options.isStandby
      ? 'a standby does not archive it; its primary has not done so in time'
      : 'it is neither in the archive nor in pg_wal any more',
    fix: options.isStandby
      ? 'run SELECT pg_switch_wal() on the primary, check its archiving, then run the backup again'
      : 'check archiving (tidemark doctor), then run the backup again',
    details: { segment: name },
  })
}
