/**
 * When did a timeline end? Read from its last segments, and only of those timelines of which
 * the decision depends on it: branches that were left, and systems before a pg_upgrade.
 */
import { scanWal } from '../archive/scan-wal.ts'
import { isFailure } from '../base/failure.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { segmentStart } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { listTimelinesInQuestion } from './choose-kept.ts'
import type { ExpirationFacts, SystemFacts, TimelineFacts } from './facts.ts'
import type { RetentionPolicy } from './retention-policy.ts'

/** In so many segments from the end a commit or a checkpoint is looked for. */
const SEARCHED_SEGMENTS = 8

export async function addLastMoments(
  storage: Storage,
  facts: ExpirationFacts,
  policy: RetentionPolicy,
  nowMs: number,
): Promise<ExpirationFacts> {
  const systems: SystemFacts[] = []
  for (const system of facts.systems) {
    const asked = listTimelinesInQuestion(facts, system, policy, nowMs)
    const timelines: TimelineFacts[] = []
    for (const one of system.timelines) {
      const path = asked.find(({ timeline }) => timeline === one.timeline)
      const scope = { storage, cluster: facts.cluster, system }
      const lastMomentMs = path && (await findLastMoment(scope, path, one.segments))
      timelines.push({ ...one, lastMomentMs })
    }
    systems.push({ ...system, timelines })
  }
  return { ...facts, systems }
}

interface Scope {
  readonly storage: Storage
  readonly cluster: string
  readonly system: SystemFacts
}

/** Undefined: nothing tells. Damage is no proof that the timeline ended where it is. */
async function findLastMoment(
  { storage, cluster, system }: Scope,
  path: TimelineHistory,
  segments: readonly number[],
): Promise<number | undefined> {
  const { systemIdentifier, walSegmentSizeBytes } = system
  for (const segment of segments.slice(-SEARCHED_SEGMENTS).reverse()) {
    let latest: bigint | undefined
    const from = segmentStart(BigInt(segment), walSegmentSizeBytes)
    const source = { storages: [storage], cluster, systemIdentifier, walSegmentSizeBytes, path }
    try {
      const { reason } = await scanWal({
        ...source,
        start: { from },
        visit: (_record, event) => {
          if (event !== undefined && 'time' in event) {
            if (latest === undefined || event.time > latest) latest = event.time
          }
          return false
        },
      })
      if (reason === 'damage' || reason === 'hole') return undefined
    } catch (error) {
      if (isFailure(error, 'TM1601') || isFailure(error, 'TM1602')) return undefined
      throw error
    }
    if (latest !== undefined) return Number(latest / 1000n)
  }
  return undefined
}
