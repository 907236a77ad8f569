/**
 * `wal status`: how WAL gets from the server into each repository: how far, how fast, what is
 * missing, what keeps it. Works without the server, from what the repositories hold.
 */
import { chooseCluster, chooseRepository } from '../../config/configuration.ts'
import type { CommandContext } from '../command-context.ts'
import type { Check } from './doctor/check.ts'
import { printCheck } from './doctor/check.ts'
import {
  archivedPerSecond,
  describeTimelines,
  formatArchive,
  formatServer,
  type MeasuredArchive,
} from './wal-status/format-wal-status.ts'
import { judgeSlots } from './wal-status/judge-wal.ts'
import { withRequests } from './wal-status/stream-requests.ts'
import { measureArchive } from './wal-status/measure-archive.ts'
import type { WalRate } from './wal-status/measure-wal.ts'
import { readArchiveStatus } from './wal-status/read-archive.ts'
import { readWalServer, type WalServer } from './wal-status/read-wal-server.ts'

const EXIT_PROBLEM = 3

export interface WalStatusOptions {
  readonly repository?: string
  readonly check?: boolean
}

interface WalStatus {
  readonly cluster: string
  readonly server: WalServer
  readonly rate: WalRate | undefined
  readonly archives: readonly MeasuredArchive[]
  readonly findings: readonly Check[]
}

export async function runWalStatus(
  context: CommandContext,
  clusterName: string | undefined,
  options: WalStatusOptions,
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const repositories =
    options.repository === undefined
      ? cluster.repositories
      : [chooseRepository(cluster, options.repository)]
  const server = await readWalServer(context, cluster)
  const ownSlot = cluster.walSource === 'stream' ? cluster.walStream.slot : undefined
  const archives: MeasuredArchive[] = []
  for (const repository of repositories) {
    const read = await readArchiveStatus(cluster.name, repository, server.reached, context.env)
    archives.push(measureArchive(read, server.reached))
  }
  const rate = archives.find((archive) => archive.rate !== undefined)?.rate
  const status: WalStatus = {
    cluster: cluster.name,
    server,
    rate,
    archives: archives.map((archive) => withRequests(archive, cluster, rate)),
    findings: [
      ...server.findings,
      ...judgeSlots(server.reached?.slots ?? [], ownSlot),
      ...archives.flatMap(({ findings }) => findings),
    ],
  }
  if (context.json) context.terminal.printJson(statusJson(status))
  else printStatus(context, status)
  return options.check === true && !isHealthy(status) ? EXIT_PROBLEM : 0
}

function isHealthy({ findings }: WalStatus): boolean {
  return findings.every(({ result }) => result !== 'problem')
}

function printStatus(context: CommandContext, status: WalStatus): void {
  const { terminal } = context
  const { cluster, server, rate, archives, findings } = status
  for (const line of formatServer(cluster, server.reached, rate, terminal.colours)) {
    terminal.print(line)
  }
  for (const archive of archives) {
    terminal.print()
    for (const line of formatArchive(archive, terminal.colours)) terminal.print(line)
  }
  const shown = findings.filter(({ result }) => result !== 'ok')
  if (shown.length > 0) terminal.print()
  for (const check of shown) printCheck(terminal, check)
}

function statusJson(status: WalStatus): Record<string, unknown> {
  const { cluster, server, rate, archives, findings } = status
  return {
    cluster,
    healthy: isHealthy(status),
    server: serverJson(server),
    rate: rate ?? null,
    repositories: archives.map(archiveJson),
    findings,
  }
}

function serverJson({ reached, failure }: WalServer): Record<string, unknown> {
  if (reached !== undefined) {
    return { reachable: true, ...reached, archivedPerSecond: archivedPerSecond(reached) ?? null }
  }
  const told = failure && { code: failure.code, message: failure.message }
  return { reachable: false, failure: told ?? null }
}

function archiveJson(archive: MeasuredArchive): Record<string, unknown> {
  const { lag, lastMoment, position } = archive
  return {
    name: archive.name,
    url: archive.url,
    systemIdentifier: archive.archive?.systemIdentifier ?? null,
    position: position ?? null,
    lastMoment: lastMoment === undefined ? null : new Date(lastMoment.atMs).toISOString(),
    lag: { bytes: lag.bytes ?? null, seconds: lag.seconds ?? null },
    rate: archive.rate ?? null,
    timelines: archive.archive === undefined ? null : describeTimelines(archive.archive),
    writers: archive.writers,
    quarantine: archive.archive?.quarantine.length ?? null,
    requestsPerDay: requestsJson(archive),
  }
}

/** JSON has no number without a bound. */
function requestsJson({ requests }: MeasuredArchive): Record<string, unknown> | null {
  if (requests === undefined) return null
  const { flushEveryMs, perDay } = requests
  const bounded = Object.entries(perDay).map(([name, n]) => [name, Number.isFinite(n) ? n : null])
  return { flushEveryMs, ...Object.fromEntries(bounded) }
}
