/**
 * Makes the WAL that a backup needs durable in the archive before the backup is published.
 *
 * The segments are taken from the server's own pg_wal where they are complete, so a backup
 * neither waits for an archiver that is behind nor hangs on one that fails; the archiver's
 * later push of the same segment finds it there. What is not here (a standby) is waited
 * for, up to a limit.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pushWalFile } from '../archive/push-wal.ts'
import { parseWalFileName, walKey } from '../archive/wal-file-name.ts'
import { monotonicMs, sleep } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import {
  formatSegmentName,
  type Lsn,
  previousSegmentNumber,
  segmentNumber,
  type Timeline,
} from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'

export interface BackupWalOptions {
  readonly storage: Storage
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
export function listBackupSegments(options: BackupWalOptions): string[] {
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

export async function archiveBackupWal(
  options: BackupWalOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<string[]> {
  const names = listBackupSegments(options)
  progress.phase('archiving the WAL of the backup', names.length, 'segments')
  if (options.timeline > 1) await archiveHistory(options)
  for (const name of names) {
    await archiveSegment(options, name, signal)
    progress.advance(1)
  }
  return names
}

async function archiveHistory(options: BackupWalOptions): Promise<void> {
  const name = `${options.timeline.toString(16).toUpperCase().padStart(8, '0')}.history`
  const path = join(options.dataDirectory, 'pg_wal', name)
  if (existsSync(path)) await push(options, path)
}

async function archiveSegment(
  options: BackupWalOptions,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  const { storage, cluster, systemIdentifier, dataDirectory, isStandby } = options
  const key = segmentKey(cluster, systemIdentifier, name)
  const path = join(dataDirectory, 'pg_wal', name)
  const limit = monotonicMs() + options.waitLimitMs
  for (;;) {
    signal.throwIfAborted()
    if ((await storage.size(key)) !== undefined) return
    if (!isStandby && existsSync(path)) return await push(options, path)
    if (monotonicMs() > limit) throw notArchived(options, name)
    await sleep(POLL_MS, signal)
  }
}

function segmentKey(cluster: string, systemIdentifier: string, name: string): string {
  const file = parseWalFileName(name)
  if (file === undefined) throw new Error(`${name} is not the name of a segment`)
  return walKey(cluster, systemIdentifier, file, '')
}

async function push(options: BackupWalOptions, path: string): Promise<void> {
  const { storage, cluster, dataDirectory } = options
  await pushWalFile({ storages: [storage], cluster, path, dataDirectory })
}

function notArchived(options: BackupWalOptions, name: string): Failure {
  return new Failure('TM1310', {
    message: `the WAL segment ${name}, which the backup needs, did not reach the archive`,
    because: options.isStandby
      ? 'a standby does not archive it; its primary has not done so in time'
      : 'it is neither in the archive nor in pg_wal any more',
    fix: 'check archiving (tidemark doctor), then run the backup again',
    details: { segment: name },
  })
}
