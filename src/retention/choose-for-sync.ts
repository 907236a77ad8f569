/**
 * What the retention of a repository would keep of what another one has: the rest is not worth
 * bringing, it would expire at once (docs/design/sync.md).
 */
import { segmentKey } from '../archive/wal-file-name.ts'
import { now } from '../base/clock.ts'
import type { Progress } from '../base/progress.ts'
import { formatSegmentName } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { readMarks } from '../repository/marks.ts'
import type { Storage } from '../storage/storage.ts'
import type { ExpirationFacts } from './facts.ts'
import { PackTable } from './pack-table.ts'
import { planExpiration } from './plan-expiration.ts'
import { describeRecord, readFacts, withPin } from './read-facts.ts'
import { addLastMoments } from './read-last-moments.ts'
import type { RetentionPolicy } from './retention-policy.ts'

export interface SyncRetention {
  readonly source: Storage
  readonly target: Storage
  readonly cluster: string
  /** Of the target. */
  readonly policy: RetentionPolicy
  readonly progress: Progress
}

/** The decision is made over the records of both sides, with the WAL that the source has. */
export async function readTargetRetention({
  source,
  target,
  cluster,
  policy,
  progress,
}: SyncRetention) {
  progress.phase('looking at backups and WAL')
  const nowMs = now().getTime()
  const read = await readFacts({ storage: source, cluster })
  const { systems } = await addLastMoments(source, read, policy, nowMs)
  const marks = await readMarks(target, cluster)
  return (records: readonly BackupRecord[]) => {
    const packs = new PackTable()
    const known = new Map(records.map((record) => [record.id, record]))
    const backups = [...known.values()].map((one) => withPin(describeRecord(one, packs), marks))
    const { keep, wal } = planExpiration(asIfAlone({ ...read, backups, systems, packs }), {
      policy,
      nowMs,
    })
    const kept = new Set(keep.map(({ backup }) => backup.id))
    const gone = new Set<string>()
    for (const { systemIdentifier, walSegmentSizeBytes, timelines, others } of wal) {
      for (const { key } of others) gone.add(key)
      for (const { timeline, segments } of timelines) {
        for (const segment of segments) {
          const name = formatSegmentName(timeline, BigInt(segment), walSegmentSizeBytes)
          gone.add(segmentKey(cluster, systemIdentifier, name))
        }
      }
    }
    return {
      wantsBackup: ({ id }: BackupRecord): boolean => kept.has(id),
      wantsWal: ({ key }: { readonly key: string }): boolean => !gone.has(key),
    }
  }
}

/** Holds and damage of the source say nothing about the target. */
function asIfAlone(facts: ExpirationFacts): ExpirationFacts {
  const nobody = { holds: [], unreadableHolds: [], damagedRecords: [], lostRecords: [] }
  return { ...facts, ...nobody, condemnedElsewhere: new Set(), marks: [] }
}
