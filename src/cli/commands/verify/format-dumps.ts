/** What `verify` tells of dumps, as text and as fields of --json. Pure. */
import type { DumpFinding, VerifiedDumps } from '../../../dump/verify-dumps.ts'
import { formatPairs } from '../../format-table.ts'
import { formatBytes, formatCount } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

export interface ToldFinding extends DumpFinding {
  /** Other repositories that have it whole; undefined: there is none to look at. */
  readonly healableFrom: readonly string[] | undefined
}

export interface ToldDumps extends Omit<VerifiedDumps, 'findings'> {
  readonly findings: readonly ToldFinding[]
}

/** Where a finding is, and what names it in a command. */
interface Place {
  readonly cluster: string
  readonly repository: string
}

export function dumpsJson(place: Place, told: ToldDumps): Record<string, unknown> {
  const { findings, dumps, proved, left, unnamed, notes } = told
  return {
    whole: findings.length === 0,
    findings: findings.map(({ failure, key, dumps: lost, healableFrom }) => ({
      code: failure.code,
      object: key,
      message: failure.message,
      because: failure.because ?? null,
      fix: failure.fix,
      dumps: lost,
      healableFrom:
        healableFrom?.map((from) => ({
          repository: from,
          command: formatHealing(place, key, from),
        })) ?? null,
    })),
    count: dumps,
    proved,
    left,
    unnamedPacks: unnamed,
    notes,
  }
}

function formatHealing({ cluster, repository }: Place, key: string, from: string): string {
  return `tidemark sync ${cluster} --from ${from} --to ${repository} --object ${key}`
}

/** Nothing where there are no dumps. */
export function formatDumps(place: Place, told: ToldDumps, colours: Colours): string[] {
  const { findings, dumps, proved, left, unnamed, notes } = told
  if (dumps + findings.length + unnamed.packs.length === 0) return [...notes]
  const lines = findings.flatMap((finding) => [...formatFinding(place, finding, colours), ''])
  lines.push(
    `dumps of ${place.cluster} in ${place.repository}: ${formatCount(dumps, 'dump')}, ` +
      `proved ${proved.dumps} now (${formatBytes(proved.bytes)} of files)`,
  )
  if (left > 0) {
    lines.push(colours.yellow(`the budget left ${formatCount(left, 'dump')} for the next run`))
  }
  if (unnamed.packs.length > 0) {
    const count = formatCount(unnamed.packs.length, 'pack')
    const bytes = formatBytes(unnamed.bytes)
    lines.push(`${count} (${bytes}) that no dump names: of one under way, or left over`)
  }
  lines.push(...notes)
  const count = formatCount(findings.length, 'finding')
  lines.push(
    findings.length === 0
      ? colours.green('no finding in dumps')
      : colours.red(`${count} in dumps, see above`),
  )
  return lines
}

const SHOWN = 10

function formatFinding(
  place: Place,
  { failure, key, dumps, healableFrom }: ToldFinding,
  colours: Colours,
): string[] {
  const pairs: [string, string][] = []
  if (failure.because !== undefined) pairs.push(['  because:', failure.because])
  const more = dumps.length > SHOWN ? ` and ${dumps.length - SHOWN} more` : ''
  pairs.push(['  dumps:', `not whole any more: ${dumps.slice(0, SHOWN).join(', ')}${more}`])
  for (const from of healableFrom ?? []) {
    pairs.push(['  healable:', `${from} has it whole: ${formatHealing(place, key, from)}`])
  }
  if (healableFrom?.length === 0) pairs.push(['  healable:', 'no other repository has it whole'])
  pairs.push(['  fix:', failure.fix])
  return [colours.red(`${failure.code}: ${failure.message}`), ...formatPairs(pairs)]
}
