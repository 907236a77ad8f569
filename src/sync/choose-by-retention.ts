/**
 * What the target's retention would keep, if it had all that the source has: nothing else is
 * brought, because the next expiry there would remove it again (docs/design/sync.md, section 1).
 */
import { walPrefix } from '../archive/wal-file-name.ts'
import type {
  BackupFacts,
  ExpirationFacts,
  SystemFacts,
  TimelineFacts,
} from '../retention/facts.ts'
import { PackTable } from '../retention/pack-table.ts'
import {
  type ExpirationPlan,
  numberOfSegment,
  planExpiration,
} from '../retention/plan-expiration.ts'
import { readFacts } from '../retention/read-facts.ts'
import { addLastMoments } from '../retention/read-last-moments.ts'
import type { RetentionPolicy } from '../retention/retention-policy.ts'
import type { Storage } from '../storage/storage.ts'
import type { SyncChoice } from './plan-sync.ts'

export interface ChoiceRequest {
  readonly source: Storage
  readonly target: Storage
  readonly cluster: string
  /** Of the target. */
  readonly policy: RetentionPolicy
  readonly nowMs: number
}

export async function chooseByRetention(request: ChoiceRequest): Promise<SyncChoice> {
  const { source, target, cluster, policy, nowMs } = request
  const [from, to] = await Promise.all([
    readFacts({ storage: source, cluster }),
    readFacts({ storage: target, cluster }),
  ])
  const joined = joinFacts(from, to)
  const facts = await addLastMoments(source, joined, policy, nowMs)
  return makeChoice(cluster, planExpiration(facts, { policy, nowMs }))
}

/** Both as one repository, of which nothing is held or damaged. Pure. */
export function joinFacts(source: ExpirationFacts, target: ExpirationFacts): ExpirationFacts {
  const backups = new Map<string, BackupFacts>()
  for (const backup of [...source.backups, ...target.backups]) backups.set(backup.id, backup)
  const systems = new Map(target.systems.map((system) => [system.systemIdentifier, system]))
  for (const system of source.systems) {
    const other = systems.get(system.systemIdentifier)
    systems.set(system.systemIdentifier, other === undefined ? system : joinSystems(system, other))
  }
  return {
    cluster: target.cluster,
    backups: [...backups.values()],
    damagedRecords: [],
    holds: [],
    unreadableHolds: [],
    condemnedElsewhere: new Set(),
    expiredBefore: new Set(),
    takenOver: [],
    lostRecords: [],
    systems: [...systems.values()],
    // The numbers of packs are those of two tables: nothing is asked of them here.
    packs: new PackTable(),
    marks: [],
  }
}

function joinSystems(source: SystemFacts, target: SystemFacts): SystemFacts {
  const timelines = new Map(target.timelines.map((one) => [one.timeline, one]))
  for (const one of source.timelines) {
    const other = timelines.get(one.timeline)
    timelines.set(one.timeline, other === undefined ? one : joinTimelines(one, other))
  }
  const others = new Map([...source.others, ...target.others].map((one) => [one.key, one]))
  return {
    ...target,
    createdAtMs: target.createdAtMs ?? source.createdAtMs,
    timelines: [...timelines.values()].sort((a, b) => a.timeline - b.timeline),
    others: [...others.values()],
  }
}

function joinTimelines(source: TimelineFacts, target: TimelineFacts): TimelineFacts {
  const sizes = new Map<number, number>()
  for (const { segments, sizes: own } of [source, target]) {
    for (const [at, segment] of segments.entries()) sizes.set(segment, own[at] ?? 0)
  }
  const segments = [...sizes.keys()].sort((a, b) => a - b)
  const isKnown = typeof target.history !== 'string'
  return {
    timeline: target.timeline,
    history: isKnown ? target.history : source.history,
    segments,
    sizes: segments.map((segment) => sizes.get(segment) ?? 0),
    lastMomentMs: undefined,
  }
}

function makeChoice(cluster: string, { expire, wal }: ExpirationPlan): SyncChoice {
  const gone = new Set(expire.map(({ id }) => id))
  const systems = new Map(
    wal.map(({ systemIdentifier, walSegmentSizeBytes, timelines, others }) => [
      walPrefix(cluster, systemIdentifier),
      {
        walSegmentSizeBytes,
        segments: new Map(timelines.map((one) => [one.timeline, new Set(one.segments)])),
        keys: new Set(others.map(({ key }) => key)),
      },
    ]),
  )
  return {
    wantsBackup: ({ id }) => !gone.has(id),
    wantsWal({ key, systemIdentifier, file, folder }) {
      const expired = systems.get(walPrefix(cluster, systemIdentifier))
      if (expired === undefined) return true
      const isSegment = folder === undefined && file.kind === 'segment'
      if (!isSegment) return !expired.keys.has(key)
      const segment = numberOfSegment(file.name, expired.walSegmentSizeBytes)
      return segment === undefined || expired.segments.get(file.timeline)?.has(segment) !== true
    },
  }
}
