/** The report of `verify`, as text and as the fields of --json that are promised to stay. Pure. */
import type { Finding, LostInterval, VerifyReport } from '../../../recovery/verify.ts'
import { formatPairs } from '../../format-table.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

export function reportJson(
  cluster: string,
  repository: string,
  report: VerifyReport,
): Record<string, unknown> {
  const { findings, proved, left, durationMs, backups, unnamed } = report
  return {
    whole: findings.length === 0,
    findings: findings.map((finding) => findingJson(cluster, repository, finding)),
    proved: { ...proved, durationMs: Math.round(durationMs) },
    left,
    backups,
    unnamedPacks: unnamed,
    unknownObjects: report.strangers,
    rebuilt: report.rebuilt,
    notes: report.notes,
  }
}

function findingJson(
  cluster: string,
  repository: string,
  finding: Finding,
): Record<string, unknown> {
  return {
    code: finding.code,
    object: finding.key,
    frame: finding.frame ?? null,
    message: finding.message,
    because: finding.because ?? null,
    fix: finding.fix,
    backups: finding.backups,
    relations: finding.relations,
    files: finding.files,
    intervals:
      finding.intervals?.map(({ from, to, fromLsn, toLsn }) => ({
        from: { time: from ?? null, lsn: fromLsn },
        to: { time: to ?? null, lsn: toLsn ?? null },
      })) ?? null,
    healableFrom:
      finding.healableFrom?.map((from) => ({
        repository: from,
        command: formatHealing(cluster, repository, finding, from),
      })) ?? null,
  }
}

/** A segment that is missing seldom is so alone: an ordinary sync brings them all. */
function formatHealing(
  cluster: string,
  repository: string,
  finding: Finding,
  from: string,
): string {
  const object = finding.code === 'TM1408' ? '' : ` --object ${finding.key}`
  return `tidemark sync ${cluster} --from ${from} --to ${repository}${object}`
}

export function formatReport(
  cluster: string,
  repository: string,
  report: VerifyReport,
  colours: Colours,
): string[] {
  const { findings, left, rebuilt, notes } = report
  const lines = rebuilt.map(
    ({ backupId, was }) => `the record of backup ${backupId} was ${was} and is written again`,
  )
  for (const finding of findings) {
    lines.push(...formatFinding(cluster, repository, finding, colours), '')
  }
  lines.push(`${cluster} in ${repository}: proved`, ...formatProved(report))
  const waiting = [
    ...(left.packs > 0 ? [formatCount(left.packs, 'pack')] : []),
    ...(left.segments > 0 ? [formatCount(left.segments, 'WAL segment')] : []),
    ...(left.backups > 0 ? [`the page maps of ${formatCount(left.backups, 'backup')}`] : []),
  ]
  if (waiting.length > 0) {
    lines.push(colours.yellow(`the budget left ${waiting.join(', ')} for the next run`))
  }
  lines.push(...formatAside(report), ...notes)
  lines.push(
    findings.length === 0
      ? colours.green('no finding')
      : colours.red(`${formatCount(findings.length, 'finding')}, see above`),
  )
  return lines
}

function formatProved({ proved, durationMs }: VerifyReport): string[] {
  const { objects, bytes, packs, frames, pages, backups, files, segments } = proved
  const rate = (bytes * 1000) / Math.max(1, durationMs)
  const pairs: [string, string][] = [
    ['  objects', `${formatCount(objects, 'object')}, ${formatBytes(bytes)}`],
    [
      '  packs',
      `${formatCount(packs, 'pack')}, ${formatCount(frames, 'frame')}, ${formatCount(pages, 'page')}`,
    ],
    [
      '  page maps',
      `${formatCount(backups, 'backup')}, ${formatCount(files, 'file')}, ` +
        `${formatCount(proved.pagesCompared, 'page')} compared`,
    ],
    [
      '  WAL',
      `${formatCount(segments, 'segment')}, the records of ` +
        `${formatCount(proved.segmentsScanned, 'segment')} read`,
    ],
    ['  time', `${formatDuration(durationMs)} (${formatBytes(rate)}/s)`],
  ]
  const known = proved.knownDamage
  if (known > 0) {
    const what = `${formatCount(known, 'page')}, damaged in the cluster when they were backed up`
    pairs.push(['  known damage', what])
  }
  return formatPairs(pairs)
}

/** Worth knowing, and no finding. */
function formatAside({ unnamed, strangers, backups }: VerifyReport): string[] {
  const lines: string[] = []
  if (backups === 0) lines.push('there is no backup yet')
  if (unnamed.packs.length > 0) {
    const count = formatCount(unnamed.packs.length, 'pack')
    lines.push(
      `${count} (${formatBytes(unnamed.bytes)}) that no record names: of a backup under way, or left over`,
    )
  }
  if (strangers.length > 0) {
    lines.push(
      `${formatCount(strangers.length, 'object')} that the format does not know, such as ${strangers[0]}`,
    )
  }
  return lines
}

const SHOWN = 10

function formatFinding(
  cluster: string,
  repository: string,
  finding: Finding,
  colours: Colours,
): string[] {
  const { code, message, because, backups, relations, files, intervals, fix } = finding
  const pairs: [string, string][] = []
  if (because !== undefined) pairs.push(['  because:', because])
  pairs.push([
    '  backups:',
    backups.length === 0 ? 'none is lost by it' : `not whole any more: ${shorten(backups)}`,
  ])
  if (files > 0) {
    pairs.push(['  relations:', `${shorten(relations)} (${formatCount(files, 'file')})`])
  }
  for (const interval of intervals ?? []) pairs.push(['  moments:', describe(interval)])
  if (intervals?.length === 0 && backups.length > 0) {
    pairs.push(['  moments:', 'none is lost: an older backup and the WAL reach them'])
  }
  for (const from of finding.healableFrom ?? []) {
    const command = formatHealing(cluster, repository, finding, from)
    pairs.push(['  healable:', `${from} has it whole: ${command}`])
  }
  if (finding.healableFrom?.length === 0) {
    pairs.push(['  healable:', 'no other repository has it whole'])
  }
  pairs.push(['  fix:', fix])
  return [colours.red(`${code}: ${message}`), ...formatPairs(pairs)]
}

function describe({ from, to, fromLsn, toLsn }: LostInterval): string {
  const begin = from === undefined ? fromLsn : `${formatTime(from)} (${fromLsn})`
  if (toLsn === undefined) return `lost from ${begin} to the end of the archive`
  return `lost from ${begin} to ${to === undefined ? toLsn : `${formatTime(to)} (${toLsn})`}`
}

function shorten(names: readonly string[]): string {
  const rest = names.length - SHOWN
  return `${names.slice(0, SHOWN).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`
}
