/**
 * Puts what was flushed of the last segments into the restored `pg_wal`, padded by zeros to the
 * size of a segment: `wal get` serves no tails (docs/design/tails.md, section 5).
 *
 * Invariant: a file that is written reaches at least as far as when the target was judged.
 */
import { chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findPathSegment, type WalPath } from '../archive/load-segment.ts'
import { describeSystemError, Failure } from '../base/failure.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { formatLsn, type Lsn, parseSegmentName } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { copiesOf } from '../storage/fallback-storage.ts'
import { openStorage, type StorageSpecification } from '../storage/open-storage.ts'
import type { Owner } from './file-restore/messages.ts'

/** A segment of which only what was flushed was there when the target was judged. */
export interface NeededTail {
  readonly name: string
  readonly endLsn: Lsn
}

export interface WriteTailsOptions {
  readonly storage: StorageSpecification
  readonly record: BackupRecord
  readonly path: TimelineHistory
  readonly tails: readonly NeededTail[]
  readonly dataDirectory: string
  readonly owner: Owner | undefined
}

/** TM1444 when a tail has gone or is shorter now, TM1217 when it cannot be written. */
export async function writeTails(options: WriteTailsOptions): Promise<void> {
  if (options.tails.length === 0) return
  const { cluster, systemIdentifier, sizes } = options.record
  const storage = await openStorage(options.storage)
  try {
    const { walSegmentSizeBytes } = sizes
    const storages = copiesOf(storage)
    const { path } = options
    const from = { storages, cluster, systemIdentifier, walSegmentSizeBytes, path }
    for (const tail of options.tails) await writeTail(options, from, tail)
  } finally {
    await storage.close()
  }
}

/** A segment that was archived meanwhile is as good, and longer. */
async function writeTail(
  options: WriteTailsOptions,
  from: WalPath,
  { name, endLsn }: NeededTail,
): Promise<void> {
  const segment = parseSegmentName(name, from.walSegmentSizeBytes)?.segment as bigint
  const found = await findPathSegment(from, segment)
  // Under another name of the path it is whole in the archive, where PostgreSQL asks first.
  if (found !== undefined && found.name !== name && found.tail === undefined) return
  const isLess = found?.tail !== undefined && found.tail.endLsn < endLsn
  if (found === undefined || found.name !== name || isLess) throw changed(name, endLsn)
  const path = join(options.dataDirectory, 'pg_wal', name)
  try {
    await writeFile(path, found.bytes, { mode: 0o600 })
    const { owner } = options
    if (owner !== undefined) await chown(path, owner.uid, owner.gid)
  } catch (error) {
    throw new Failure('TM1217', {
      message: `cannot write ${path}`,
      because: describeSystemError(error),
      fix: 'check who may write there and whether there is room, then run the restore again',
      details: { path },
      cause: error,
    })
  }
}

function changed(name: string, endLsn: Lsn): Failure {
  return new Failure('TM1444', {
    message: `what was flushed of the WAL segment ${name} is not there any more`,
    because: `it reached ${formatLsn(endLsn)} when the target was judged, and no longer does`,
    fix: 'run the restore again: the target is judged anew; see what removes objects there',
    details: { name, lsn: formatLsn(endLsn) },
  })
}
