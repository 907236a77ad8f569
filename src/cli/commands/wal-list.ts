/** `wal list`: what is archived, by server and timeline, with the gaps. */
import { countSegments, type SegmentRange } from '../../archive/find-gaps.ts'
import { isLetGo } from '../../archive/expired-wal.ts'
import { listWal, type WalListing, type WalTimeline } from '../../archive/list-wal.ts'
import { formatLsn, formatSegmentName } from '../../postgres/lsn.ts'
import { listSystemIdentities } from '../../repository/system-identity.ts'
import { type CommandContext, openCluster } from '../command-context.ts'
import { type Column, formatTable } from '../format-table.ts'
import { formatBytes, formatCount } from '../format-units.ts'
import type { Colours } from '../terminal.ts'

export async function runWalList(
  context: CommandContext,
  clusterName: string | undefined,
  options: { repository?: string },
): Promise<number> {
  const { cluster, repository, storage } = await openCluster(
    context,
    clusterName,
    options.repository,
  )
  const identities = await listSystemIdentities(storage, cluster.name)
  const listings: WalListing[] = []
  for (const { systemIdentifier } of identities) {
    listings.push(await listWal(storage, cluster.name, systemIdentifier, { sizes: true }))
  }
  const { terminal } = context
  if (context.json) {
    terminal.printJson({
      cluster: cluster.name,
      repository: repository.name,
      servers: listings.map(listingJson),
    })
    return 0
  }
  if (listings.length === 0) terminal.print(`no server is known as ${cluster.name}: tidemark init`)
  for (const [at, listing] of listings.entries()) {
    if (at > 0) terminal.print()
    for (const line of formatListing(listing, terminal.colours)) terminal.print(line)
  }
  return 0
}

export interface NamedRange {
  readonly first: string
  readonly last: string
  readonly segments: number
}

function nameRange(range: SegmentRange, timeline: number, walSegmentSizeBytes: number): NamedRange {
  return {
    first: formatSegmentName(timeline, range.first, walSegmentSizeBytes),
    last: formatSegmentName(timeline, range.last, walSegmentSizeBytes),
    segments: countSegments(range),
  }
}

function listingJson(listing: WalListing): Record<string, unknown> {
  const { walSegmentSizeBytes } = listing
  return {
    systemIdentifier: listing.systemIdentifier,
    walSegmentSizeBytes,
    bytes: listing.bytes,
    timelines: listing.timelines.map((timeline) => ({
      timeline: timeline.timeline,
      parent: parentOf(timeline)?.timeline ?? null,
      forkLsn: parentOf(timeline)?.lsn ?? null,
      historyArchived: timeline.history !== undefined || timeline.historyFailure !== undefined,
      historyDamage: timeline.historyFailure?.because ?? null,
      segments: timeline.segments,
      bytes: timeline.bytes,
      ranges: timeline.ranges.map((range) =>
        nameRange(range, timeline.timeline, walSegmentSizeBytes),
      ),
      gaps: timeline.gaps.map((gap) => ({
        ...nameRange(gap, timeline.timeline, walSegmentSizeBytes),
        expired: hasExpired(listing, timeline, gap),
      })),
    })),
    partials: listing.partials,
    labels: listing.labels.map(({ name }) => name),
    quarantine: listing.quarantine,
    tails: listing.tails.map(({ segment, opening, parts }) => ({
      segment,
      opening,
      parts: parts.length,
    })),
    writers: (listing.writers ?? []).map(({ name }) => name),
    reserved: (listing.reserved ?? []).map(({ name }) => name),
    strangers: listing.strangers,
  }
}

/** Both ends: a loss may lie beside what was let go. */
function hasExpired(
  { expired }: WalListing,
  { timeline }: WalTimeline,
  gap: SegmentRange,
): boolean {
  return [gap.first, gap.last].every((segment) => isLetGo(expired, timeline, segment))
}

function parentOf(timeline: WalTimeline): { timeline: number; lsn: string } | undefined {
  const parent = timeline.history?.ancestors.at(-1)
  return parent === undefined
    ? undefined
    : { timeline: parent.timeline, lsn: formatLsn(parent.endLsn) }
}

const COLUMNS: readonly Column[] = [
  { title: 'TIMELINE' },
  { title: 'FIRST' },
  { title: 'LAST' },
  { title: 'SEGMENTS', align: 'right' },
  { title: '' },
]

function formatListing(listing: WalListing, colours: Colours): string[] {
  const rows = listing.timelines.flatMap((timeline) => timelineRows(timeline, listing, colours))
  const title = `server ${listing.systemIdentifier}: ${formatBytes(listing.bytes ?? 0)} of WAL`
  const [head, ...body] = formatTable(COLUMNS, rows)
  const table = rows.length === 0 ? ['nothing is archived yet'] : [colours.dim(head ?? ''), ...body]
  return [colours.bold(title), ...table, ...formatOthers(listing, colours)]
}

/** Ranges and the gaps between them, in order. */
function timelineRows(timeline: WalTimeline, listing: WalListing, colours: Colours): string[][] {
  const { walSegmentSizeBytes } = listing
  const parent = parentOf(timeline)
  const head = parent === undefined ? '' : `from ${parent.timeline} at ${parent.lsn}`
  const name = (range: SegmentRange): NamedRange =>
    nameRange(range, timeline.timeline, walSegmentSizeBytes)
  const rows = timeline.ranges.flatMap((range, at) => {
    const { first, last, segments } = name(range)
    const row = ['', first, last, String(segments), '']
    const gap = timeline.gaps[at]
    if (gap === undefined) return [row]
    const hole = name(gap)
    if (hasExpired(listing, timeline, gap)) {
      return [row, ['', hole.first, hole.last, String(hole.segments), 'expired']]
    }
    const red = [hole.first, hole.last, String(hole.segments), 'MISSING']
    return [row, ['', ...red.map((cell) => colours.red(cell))]]
  })
  const first = rows[0] ?? ['', '-', '-', '0', '']
  first[0] = `${timeline.timeline}${head === '' ? '' : ` (${head})`}`
  const damage = timeline.historyFailure
  if (damage !== undefined) first[4] = colours.red(`history damaged: ${damage.because ?? ''}`)
  return rows.length === 0 ? [first] : rows
}

function formatOthers(listing: WalListing, colours: Colours): string[] {
  const { partials, quarantine, tails, strangers } = listing
  const named = (files: WalListing['partials']): string[] =>
    files.map(({ name, sizeBytes }) => `  ${name}  ${formatBytes(sizeBytes ?? 0)}`)
  const lines: string[] = []
  if (partials.length > 0)
    lines.push(formatCount(partials.length, 'partial segment'), ...named(partials))
  for (const { segment, parts } of tails) {
    const stored = parts.reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? 0), 0)
    lines.push(`the beginning of segment ${segment} (${formatBytes(stored)})`)
  }
  if (quarantine.length > 0) {
    lines.push(
      colours.yellow(`${formatCount(quarantine.length, 'file')} in quarantine (refused, kept)`),
    )
    lines.push(...named(quarantine))
  }
  for (const { name } of listing.reserved ?? []) {
    const timeline = Number.parseInt(name.slice(0, 8), 16)
    lines.push(`timeline ${timeline} is reserved by a restore that takes over`)
  }
  if (strangers.length > 0) {
    lines.push(
      colours.yellow(`${formatCount(strangers.length, 'object')} that the format does not know`),
    )
    lines.push(...strangers.map((key) => `  ${key}`))
  }
  return lines
}
