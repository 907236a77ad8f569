/**
 * Decides which packs lose their dead frames (docs/design/repacking.md). Pure.
 *
 * Invariant: a pack is planned only when some backup names it, the backup that wrote it is gone,
 * and nobody holds it.
 */
import type { BackupRecord } from '../repository/backup-record.ts'
import type { HoldList } from '../repository/holds.ts'
import { attemptOfPack, packKey } from '../repository/keys.ts'

/** What is worth a rewrite. */
export interface RepackingRule {
  readonly leastDeadBytes: number
  /** Of the pack's stored bytes. */
  readonly leastDeadShare: number
}

const RULE: RepackingRule = { leastDeadBytes: 1024 * 1024, leastDeadShare: 0.5 }

/** What is known of one candidate. */
export interface PackSurvey {
  readonly packId: string
  readonly sizeBytes: number
  /** Of frames that no backup needs, records apart. */
  readonly deadBytes: number
  /**
   * Ordinals of frames with the records of backups that expired: a rebuilt catalogue would bring
   * them back. Other records stay.
   */
  readonly expiredRecords: readonly number[]
  /** Only those records may go: the rest is not known, or a lost record needs it. */
  readonly isKeptWhole: boolean
}

export interface RepackingPlan {
  readonly packs: readonly PackSurvey[]
  /** Stored bytes that are read and written, and those that become free. */
  readonly bytesToWrite: number
  readonly bytesToFree: number
}

/**
 * Packs that may have dead frames: some backup names them, and the backup that wrote them is
 * not there any more. A record names the pack that it lies in itself without a size.
 */
export function findCandidates(backups: readonly BackupRecord[]): Set<string> {
  const living = new Set<string>()
  for (const { packs } of backups) {
    for (const { id, bytes } of packs) if (bytes === undefined) living.add(attemptOfPack(id))
  }
  const candidates = new Set<string>()
  for (const { packs } of backups) {
    for (const { id } of packs) if (!living.has(attemptOfPack(id))) candidates.add(id)
  }
  return candidates
}

export function planRepacking(surveys: Iterable<PackSurvey>, rule = RULE): RepackingPlan {
  return makePlan([...surveys].filter((survey) => isWorthIt(survey, rule)))
}

function isWorthIt(
  { sizeBytes, deadBytes, expiredRecords }: PackSurvey,
  { leastDeadBytes, leastDeadShare }: RepackingRule,
): boolean {
  if (expiredRecords.length > 0) return true
  return deadBytes >= leastDeadBytes && deadBytes >= sizeBytes * leastDeadShare
}

function makePlan(packs: readonly PackSurvey[]): RepackingPlan {
  return {
    packs,
    bytesToWrite: packs.reduce((sum, { sizeBytes, deadBytes }) => sum + sizeBytes - deadBytes, 0),
    bytesToFree: packs.reduce((sum, { deadBytes }) => sum + deadBytes, 0),
  }
}

export interface SecondLook {
  /** Backups that the plan was made from. */
  readonly known: ReadonlySet<string>
  /** Listed after the condemned set was written: holds first, then records. */
  readonly holds: HoldList
  readonly backups: readonly BackupRecord[]
  /** Records that are there and cannot be read. */
  readonly damagedRecords: number
}

/** The plan without what somebody holds, or needs since. */
export function takeOutHeld(
  cluster: string,
  plan: RepackingPlan,
  { known, holds, backups, damagedRecords }: SecondLook,
): RepackingPlan {
  if (holds.unreadable.length > 0 || damagedRecords > 0) return makePlan([])
  const attempts = new Set(holds.holds.map(({ attemptId }) => attemptId))
  const keys = new Set(holds.holds.flatMap((hold) => hold.keys ?? []))
  const needed = new Set<string>()
  for (const { id, packs } of backups) {
    if (!known.has(id)) for (const pack of packs) needed.add(pack.id)
  }
  return makePlan(
    plan.packs.filter(({ packId }) => {
      const isHeld = attempts.has(attemptOfPack(packId)) || keys.has(packKey(cluster, packId))
      return !isHeld && !needed.has(packId)
    }),
  )
}
