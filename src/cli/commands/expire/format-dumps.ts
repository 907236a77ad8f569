/** What an expiry of dumps shows: the plan with its reasons, or what was removed. Pure. */
import { describeDumpBlocker, type ExpireDumpsResult } from '../../../dump/expire-dumps.ts'
import type {
  DumpExpirationPlan,
  DumpKeepReason,
  DumpPolicy,
  ListedDump,
} from '../../../dump/plan-dump-expiration.ts'
import { type Column, formatTable } from '../../format-table.ts'
import { formatBytes, formatCount, formatTime } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

const COLUMNS: readonly Column[] = [
  { title: 'DUMP' },
  { title: 'SHOWS (UTC)' },
  { title: 'DATABASES' },
  { title: 'KEPT AS' },
]

/** Nothing where there are no dumps and nothing is said of them. */
export function formatDumpExpiry(
  result: ExpireDumpsResult,
  policy: DumpPolicy | undefined,
  colours: Colours,
): string[] {
  const { plan, removed, locked } = result
  const done = removed ?? plan
  const isNothing = plan.keep.length + plan.blocked.length + countRemoved(plan) === 0
  if (policy === undefined && isNothing) return []
  const [first] = locked
  return [
    `dumps: ${describeDumpPolicy(policy)}`,
    ...formatDumps(done, colours),
    ...plan.blocked.map((one) => colours.red(`no dump is removed: ${describeDumpBlocker(one)}`)),
    formatFreed(done, removed !== undefined),
    ...(first === undefined
      ? []
      : [
          colours.yellow(
            `${formatCount(locked.length, 'object is', 'objects are')} locked and not removed ` +
              `yet: ${first.because}`,
          ),
        ]),
  ]
}

function countRemoved({ expire, packs, marks }: DumpExpirationPlan): number {
  return expire.length + packs.length + marks.length
}

function describeDumpPolicy(policy: DumpPolicy | undefined): string {
  if (policy === undefined) return 'no retention is configured for them, so none expires'
  const { keepLast, keepDays } = policy
  return [
    ...(keepLast > 0 ? [`last ${keepLast} of each kind`] : []),
    ...(keepDays > 0 ? [`${keepDays} days`] : []),
  ].join(', ')
}

function formatDumps({ keep, expire }: DumpExpirationPlan, colours: Colours): string[] {
  const all = [
    ...keep.map(({ dump, reasons }) => ({ dump, as: reasons.map(describe).join(', ') })),
    ...expire.map((dump) => ({ dump, as: colours.yellow('expires') })),
  ].sort((a, b) => a.dump.atMs - b.dump.atMs)
  if (all.length === 0) return ['no dumps']
  const rows = all.map(({ dump, as }) => [
    dump.id,
    formatTime(new Date(dump.atMs)),
    describeDatabases(dump),
    as,
  ])
  const [head = '', ...body] = formatTable(COLUMNS, rows)
  return [colours.dim(head), ...body]
}

function describeDatabases({ databases }: ListedDump): string {
  return databases.length === 0 ? 'globals only' : databases.join(', ')
}

function describe({ rule, detail }: DumpKeepReason): string {
  switch (rule) {
    case 'held':
      return `held by ${detail}`
    case 'condemned-elsewhere':
      return 'another expiry may be removing it'
    case 'no-retention':
      return 'there is no retention'
    case 'blocked':
      return 'nothing may be removed'
    default:
      return rule
  }
}

function formatFreed(plan: DumpExpirationPlan, isDone: boolean): string {
  if (countRemoved(plan) === 0) return `nothing of dumps ${isDone ? 'was' : 'is'} to be removed`
  const bytes = formatBytes(plan.packs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0))
  const packs = formatCount(plan.packs.length, 'pack')
  const parts = `${formatCount(plan.expire.length, 'dump')}, ${packs}`
  if (isDone) return `removed ${parts}: ${bytes} are free`
  return `to be removed: ${parts}: ${bytes}; to remove it: --apply`
}

export function dumpExpiryJson(
  { plan, removed, locked, notes }: ExpireDumpsResult,
  policy: DumpPolicy | undefined,
): Record<string, unknown> {
  const done = removed ?? plan
  return {
    error: null,
    applied: removed !== undefined,
    retention: policy ?? null,
    keep: done.keep.map(({ dump, reasons }) => ({
      ...dumpFacts(dump),
      reasons: reasons.map(({ rule, detail }) => ({ rule, detail: detail ?? null })),
    })),
    expire: done.expire.map(dumpFacts),
    packs: {
      count: done.packs.length,
      bytes: done.packs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    },
    blocked: plan.blocked,
    locked,
    notes,
  }
}

function dumpFacts({ id, databases, atMs }: ListedDump) {
  return { id, databases, at: new Date(atMs).toISOString() }
}
