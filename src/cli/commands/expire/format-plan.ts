/** What an expiry shows: the plan with its reasons, or what was removed. Pure. */
import { toFailureMessage } from '../../../base/failure.ts'
import type { KeepReason } from '../../../retention/choose-kept.ts'
import { describeBlocker, type ExpireResult } from '../../../retention/expire.ts'
import type { BackupFacts } from '../../../retention/facts.ts'
import type { ExpirationPlan, ExpiredWal } from '../../../retention/plan-expiration.ts'
import type { RetentionPolicy } from '../../../retention/retention-policy.ts'
import { PERIODS } from '../../../retention/retention-policy.ts'
import { judgeWriter } from '../../../repository/holds.ts'
import { formatSegmentName } from '../../../postgres/lsn.ts'
import { type Column, formatTable } from '../../format-table.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

const COLUMNS: readonly Column[] = [
  { title: 'BACKUP' },
  { title: 'ENDED (UTC)' },
  { title: 'TL', align: 'right' },
  { title: 'KEPT AS' },
]

export function formatExpiry(
  title: string,
  result: ExpireResult,
  policy: RetentionPolicy | undefined,
  colours: Colours,
): string[] {
  const { plan, removed } = result
  const done = removed ?? plan
  return [
    colours.bold(`${title}: ${describePolicy(policy)}`),
    ...formatBackups(done, colours),
    ...plan.blocked.map((one) => colours.red(`nothing is removed: ${describeBlocker(one)}`)),
    ...[...plan.unknownLineages].map(([system, timelines]) =>
      colours.yellow(
        `nothing of server ${system} is removed: ` +
          (timelines.length === 0
            ? 'its identity cannot be read'
            : `the history of timeline ${timelines.join(', ')} is missing or damaged`),
      ),
    ),
    ...formatOwners(result, colours),
    ...formatFreed(done, removed !== undefined),
    ...formatRepacking(result, colours),
    ...formatLocked(result, colours),
  ]
}

export function describePolicy(policy: RetentionPolicy | undefined): string {
  if (policy === undefined) return 'no retention is configured, so no backup and no WAL expires'
  const counts = (['last', ...PERIODS] as const)
    .filter((rule) => policy[rule] > 0)
    .map((rule) => `${rule} ${policy[rule]}`)
  const window = policy.windowMs > 0 ? [`window ${formatDuration(policy.windowMs)}`] : []
  return [...window, ...counts].join(', ')
}

function formatBackups({ keep, expire }: ExpirationPlan, colours: Colours): string[] {
  const all = [
    ...keep.map(({ backup, reasons }) => ({ backup, as: reasons.map(describeReason).join(', ') })),
    ...expire.map((backup) => ({ backup, as: colours.yellow('expires') })),
  ].sort((a, b) => a.backup.stoppedAtMs - b.backup.stoppedAtMs)
  const rows = all.map(({ backup, as }) => [backup.id, endOf(backup), String(backup.timeline), as])
  const [head = '', ...body] = formatTable(COLUMNS, rows)
  return all.length === 0 ? ['no backups'] : [colours.dim(head), ...body]
}

function endOf({ stoppedAtMs }: BackupFacts): string {
  return formatTime(new Date(stoppedAtMs))
}

export function describeReason({ rule, detail }: KeepReason): string {
  switch (rule) {
    case 'window-start':
      return `start of the window on timeline ${detail}`
    case 'held':
      return `held by ${detail}`
    case 'condemned-elsewhere':
      return 'another expiry may be removing it'
    case 'lineage-unknown':
      return 'its lineage is not known'
    case 'no-retention':
      return 'there is no retention'
    case 'blocked':
      return 'nothing may be removed'
    default:
      return detail === undefined ? rule : `${rule} ${detail}`
  }
}

/** Whose runs are under way, or died where that cannot be seen from here. */
function formatOwners(result: ExpireResult, colours: Colours): string[] {
  const { facts, otherSets, unreadableSets } = result
  const doubtful = [
    ...facts.holds.map((hold) => ({ ...hold, what: `the hold of a ${hold.purpose}` })),
    ...otherSets.map((set) => ({ ...set, what: 'the condemned set of an expiry' })),
  ].filter((owner) => judgeWriter(owner) === 'unknown')
  const texts = doubtful.map(
    ({ what, id, host, startedAt }) =>
      `${what} from ${host} is there since ${startedAt.slice(0, 16)}; if that run is dead: ` +
      `tidemark expire --release ${id}`,
  )
  const unreadable = unreadableSets.map((key) => {
    const id = key.slice(key.lastIndexOf('/') + 1).replace(/\.set$/, '')
    return `${key} cannot be read, so backups store everything: tidemark expire --release ${id}`
  })
  return [...texts, ...unreadable].map((text) => colours.yellow(text))
}

function formatFreed(plan: ExpirationPlan, isDone: boolean): string[] {
  const { expire, packs, wal, marks } = plan
  if (expire.length + packs.length + wal.length + marks.length === 0) {
    return [isDone ? 'nothing was to be removed' : 'nothing is to be removed']
  }
  const walBytes = sumWalBytes(wal)
  const packBytes = packs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  const parts = [
    formatCount(expire.length, 'backup'),
    `${formatCount(packs.length, 'pack')} (${formatBytes(packBytes)})`,
    `${formatCount(countWal(wal), 'WAL file')} (${formatBytes(walBytes)})`,
  ].join(', ')
  const total = formatBytes(walBytes + packBytes)
  if (isDone) return [`removed ${parts}: ${total} are free`, ...formatWal(wal)]
  return [`to be removed: ${parts}: ${total}`, ...formatWal(wal), 'to remove it: --apply']
}

function formatWal(wal: readonly ExpiredWal[]): string[] {
  return wal.flatMap(({ timelines, walSegmentSizeBytes }) =>
    timelines.map(({ timeline, segments, bytes }) => {
      const name = (segment = 0): string =>
        formatSegmentName(timeline, BigInt(segment), walSegmentSizeBytes)
      const range = `${name(segments[0])} to ${name(segments.at(-1))}`
      return `  WAL of timeline ${timeline}: ${segments.length} of ${range}, ${formatBytes(bytes)}`
    }),
  )
}

function countWal(wal: readonly ExpiredWal[]): number {
  return wal
    .flatMap(({ timelines, others }) => [
      ...timelines.map((one) => one.segments.length),
      others.length,
    ])
    .reduce((sum, count) => sum + count, 0)
}

function sumWalBytes(wal: readonly ExpiredWal[]): number {
  return wal
    .flatMap(({ timelines, others }) => [
      ...timelines.map(({ bytes }) => bytes),
      ...others.map(({ sizeBytes }) => sizeBytes),
    ])
    .reduce((sum, bytes) => sum + bytes, 0)
}

/** Packs that have become smaller, and those that should and could not. */
function formatRepacking({ repacking }: ExpireResult, colours: Colours): string[] {
  if (repacking === undefined) return []
  const { repacked, failed, heldPacks, lostRecords } = repacking
  const freed = repacked.reduce((sum, one) => sum + one.bytesBefore - one.bytesAfter, 0)
  const packs = formatCount(repacked.length, 'pack')
  return [
    ...(repacked.length === 0
      ? []
      : [`repacked ${packs} of which a part is needed: ${formatBytes(freed)} are free`]),
    ...(heldPacks === 0
      ? []
      : [`${formatCount(heldPacks, 'pack')} to be repacked later: a run that lives holds them`]),
    ...failed.map(({ packId, failure }) =>
      colours.red(
        `the pack ${packId} could not be repacked: ${failure.because ?? failure.message}`,
      ),
    ),
    ...lostRecords.map((id) =>
      colours.red(`the record of backup ${id} was lost: tidemark verify --rebuild-catalogue`),
    ),
  ]
}

function formatLocked({ locked }: ExpireResult, colours: Colours): string[] {
  const [first] = locked
  if (first === undefined) return []
  const count = formatCount(locked.length, 'object is', 'objects are')
  return [colours.yellow(`${count} locked and not removed yet: ${first.because}`)]
}

export function expiryJson(
  result: ExpireResult,
  policy: RetentionPolicy | undefined,
): Record<string, unknown> {
  const { plan, removed, facts, locked, otherSets, unreadableSets, notes } = result
  const done = removed ?? plan
  return {
    applied: removed !== undefined,
    retention: policy ?? null,
    keep: done.keep.map(({ backup, reasons }) => ({
      ...backupFacts(backup),
      reasons: reasons.map(({ rule, detail }) => ({ rule, detail: detail ?? null })),
    })),
    expire: done.expire.map(backupFacts),
    packs: {
      count: done.packs.length,
      bytes: done.packs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    },
    wal: {
      count: countWal(done.wal),
      bytes: sumWalBytes(done.wal),
      timelines: done.wal.flatMap(({ systemIdentifier, walSegmentSizeBytes, timelines }) =>
        timelines.map(({ timeline, segments, bytes }) => ({
          systemIdentifier,
          timeline,
          first: formatSegmentName(timeline, BigInt(segments[0] ?? 0), walSegmentSizeBytes),
          last: formatSegmentName(timeline, BigInt(segments.at(-1) ?? 0), walSegmentSizeBytes),
          segments: segments.length,
          bytes,
        })),
      ),
    },
    blocked: plan.blocked,
    unknownLineages: Object.fromEntries(plan.unknownLineages),
    holds: facts.holds,
    condemnedSets: otherSets.map(({ id, host, startedAt }) => ({ id, host, startedAt })),
    unreadableSets,
    locked,
    repacking: repackingJson(result),
    notes,
  }
}

function repackingJson({ repacking }: ExpireResult): Record<string, unknown> | null {
  if (repacking === undefined) return null
  const { repacked, failed, heldPacks, lostRecords } = repacking
  return {
    packs: repacked.length,
    bytesFreed: repacked.reduce((sum, one) => sum + one.bytesBefore - one.bytesAfter, 0),
    heldPacks,
    failed: failed.map(({ packId, failure }) => ({ packId, ...toFailureMessage(failure) })),
    lostRecords,
  }
}

function backupFacts({ id, systemIdentifier, timeline, stoppedAtMs }: BackupFacts) {
  return { id, systemIdentifier, timeline, stoppedAt: new Date(stoppedAtMs).toISOString() }
}
