/** The report of `sync`, as text and as the fields of --json that are promised to stay. Pure. */
import type { HealedObject, SyncOptions, SyncProblem, SyncReport } from '../../../sync/sync.ts'
import type { SyncDumpsReport } from '../../../dump/sync-dumps.ts'
import { formatPairs } from '../../format-table.ts'
import { formatBytes, formatCount, formatDuration } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

type Request = Pick<SyncOptions, 'cluster' | 'names' | 'dryRun'>

export function syncJson(
  { cluster, names, dryRun }: Request,
  report: SyncReport | undefined,
  dumps: SyncDumpsReport | undefined,
): Record<string, unknown> {
  return {
    cluster,
    from: names.source,
    to: names.target,
    dryRun: dryRun === true,
    ...(report === undefined
      ? {}
      : {
          brought: report.counts,
          ...outcomeJson(report),
          durationMs: Math.round(report.durationMs),
        }),
    dumps: dumps === undefined ? null : dumpsJson(dumps),
  }
}

function dumpsJson(report: SyncDumpsReport): Record<string, unknown> {
  const { dumps, packs, bytes } = report
  return { brought: { dumps, packs, bytes }, ...outcomeJson(report, 'dump') }
}

function outcomeJson(
  { healed, problems, keptBack, notes, damaged }: SyncReport | SyncDumpsReport,
  what: 'backup' | 'dump' = 'backup',
): Record<string, unknown> {
  return {
    healed: healed.map(({ key, frames, was }) => ({ object: key, frames: frames ?? null, was })),
    damaged,
    keptBack: keptBack.map(({ backupId, because }) => ({ [what]: backupId, because })),
    problems: problems.map(({ key, because, ...rest }) => ({
      ...rest,
      object: key,
      because: because ?? null,
    })),
    notes,
  }
}

export function formatSync(request: Request, report: SyncReport, colours: Colours): string[] {
  return formatOutcome(request, report, describeCounts(report), colours)
}

/** Nothing where there is nothing to say of dumps. */
export function formatDumpSync(
  request: Request,
  report: SyncDumpsReport,
  colours: Colours,
): string[] {
  const { dumps, packs, bytes, healed, problems, damaged, notes } = report
  const said = dumps.length + healed.length + problems.length + damaged.length + notes.length
  if (said + report.keptBack.length === 0) return []
  const parts = `${formatCount(dumps.length, 'dump')}, ${formatCount(packs, 'pack')}`
  return formatOutcome(request, report, `${parts} (${formatBytes(bytes)})`, colours)
}

function formatOutcome(
  { cluster, names, dryRun }: Request,
  { healed, problems, notes, damaged, keptBack }: SyncReport | SyncDumpsReport,
  counts: string,
  colours: Colours,
): string[] {
  const lines: string[] = []
  for (const problem of problems) lines.push(...formatProblem(problem, colours), '')
  for (const note of notes) lines.push(note)
  for (const one of healed) lines.push(formatHealed(one))
  for (const key of damaged) lines.push(`damaged in ${names.target}: ${key}`)
  const verb = dryRun === true ? 'would bring' : 'brought'
  lines.push(`${cluster}: ${names.source} to ${names.target}: ${verb} ${counts}`)
  if (keptBack.length > 0) {
    const ids = keptBack.map(({ backupId }) => backupId).join(', ')
    lines.push(colours.yellow(`kept back: ${ids}`))
  }
  if (problems.length > 0) {
    lines.push(colours.red(`${formatCount(problems.length, 'problem')}, see above`))
  }
  return lines
}

function describeCounts({ counts, durationMs }: SyncReport): string {
  const { backups, packs, segments, others, bytes } = counts
  const parts = [
    formatCount(backups.length, 'backup'),
    formatCount(packs, 'pack'),
    formatCount(segments, 'WAL segment'),
    ...(others > 0 ? [formatCount(others, 'other object')] : []),
  ]
  return `${parts.join(', ')} (${formatBytes(bytes)}) in ${formatDuration(durationMs)}`
}

function formatHealed({ key, frames, was }: HealedObject): string {
  const what = frames === undefined ? '' : ` (${formatCount(frames, 'frame')})`
  return was === 'missing' ? `brought back: ${key}` : `healed: ${key}${what}`
}

function formatProblem(problem: SyncProblem, colours: Colours): string[] {
  const { code, repository, message, because, fix } = problem
  const pairs: [string, string][] = [['  repository:', repository]]
  if (because !== undefined) pairs.push(['  because:', because])
  pairs.push(['  fix:', fix])
  return [colours.red(`${code}: ${message}`), ...formatPairs(pairs)]
}
