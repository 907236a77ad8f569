/**
 * `status`: how well a cluster is protected now. With the server, what would be lost is
 * measured against its present LSN; without it, against the present time.
 */
import { describeDiskOutlook } from '../../archive/disk-outlook.ts'
import { now } from '../../base/clock.ts'
import type { Failure } from '../../base/failure.ts'
import { chooseCluster } from '../../config/configuration.ts'
import type { CommandContext } from '../command-context.ts'
import { latestMoment } from '../../dump/latest-moment.ts'
import { backupJson } from '../describe-backup.ts'
import { describeContents, dumpJson } from '../describe-dump.ts'
import { formatPairs } from '../format-table.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from '../format-units.ts'
import type { Terminal } from '../terminal.ts'
import { type Check, printCheck } from './doctor/check.ts'
import { judgeBehind } from './status/judge-behind.ts'
import { type Exposure, judgeExposure } from './status/judge-exposure.ts'
import { type RepositoryStatus, readRepositoryStatus } from './status/read-repository.ts'
import { readServerStatus, type ServerStatus } from './status/read-server.ts'
import { printWindow, windowJson } from './window.ts'

const EXIT_PROBLEM = 3

interface Status {
  readonly cluster: string
  readonly server: ServerStatus
  readonly repositories: readonly RepositoryStatus[]
  readonly exposure: Exposure
  readonly findings: readonly Check[]
}

export async function runStatus(
  context: CommandContext,
  clusterName: string | undefined,
  options: { check?: boolean },
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const server = await readServerStatus(context, cluster)
  const repositories: RepositoryStatus[] = []
  for (const repository of cluster.repositories) {
    repositories.push(await readRepositoryStatus(cluster.name, repository, server, context.env))
  }
  const held = repositories.flatMap((repository) => repository.held ?? [])
  const status: Status = {
    cluster: cluster.name,
    server,
    repositories,
    exposure: judgeExposure(server, repositories, now()),
    findings: [
      ...server.findings,
      ...repositories.flatMap(({ findings }) => findings),
      ...judgeBehind(cluster.name, held),
    ],
  }
  if (context.json) context.terminal.printJson(statusJson(status))
  else printStatus(context.terminal, status)
  return options.check === true && !isHealthy(status) ? EXIT_PROBLEM : 0
}

function isHealthy({ findings }: Status): boolean {
  return findings.every(({ result }) => result !== 'problem')
}

function statusJson(status: Status): Record<string, unknown> {
  const { cluster, server, repositories, exposure, findings } = status
  return {
    cluster,
    healthy: isHealthy(status),
    exposure: {
      bytes: exposure.bytes ?? null,
      seconds: exposure.seconds ?? null,
      since: exposure.since?.toISOString() ?? null,
    },
    server:
      server.reached === undefined
        ? { reachable: false, failure: failureJson(server.failure) }
        : { reachable: true, ...server.reached },
    repositories: repositories.map((repository) => ({
      name: repository.name,
      url: repository.url,
      backups: repository.backups ?? null,
      lastBackup: repository.lastBackup === undefined ? null : backupJson(repository.lastBackup),
      newestWal: repository.newestWal ?? null,
      window: repository.window === undefined ? null : windowJson(repository.window),
      dumps: dumpStatusJson(repository),
    })),
    findings,
  }
}

function dumpStatusJson({ dumps }: RepositoryStatus): Record<string, unknown> | null {
  if (dumps === undefined) return null
  const newest = dumps.newest.map((record) => {
    const { id, at, format, databases } = dumpJson({ record, isPinned: false })
    const ageSeconds = Math.round((now().getTime() - latestMoment(record)) / 1000)
    return { id, at, ageSeconds, format, databases, globals: record.globals !== undefined }
  })
  return { count: dumps.count, newest }
}

function failureJson(failure: Failure | undefined): Record<string, unknown> | null {
  if (failure === undefined) return null
  return { code: failure.code, message: failure.message, because: failure.because ?? null }
}

function printStatus(terminal: Terminal, status: Status): void {
  const { colours } = terminal
  const { server, repositories, exposure, findings, cluster } = status
  const { reached } = server
  const pairs: [string, string][] = [
    ['cluster', colours.bold(cluster)],
    [
      'server',
      reached === undefined
        ? colours.yellow('does not answer')
        : `PostgreSQL ${reached.version}, at ${reached.currentLsn ?? 'an unknown LSN'}`,
    ],
    ['lost if it burned now', areUnread(repositories) ? 'unknown' : describeExposure(exposure)],
  ]
  if (reached?.disk) pairs.push(['pg_wal', describeDiskOutlook(reached.disk)])
  for (const line of formatPairs(pairs)) terminal.print(line)
  for (const repository of repositories) {
    terminal.print()
    printRepository(terminal, cluster, repository)
  }
  const shown = findings.filter(({ result }) => result !== 'ok')
  if (shown.length > 0) terminal.print()
  for (const check of shown) printCheck(terminal, check)
}

/** Nothing is known of any repository: that is not the same as nothing being there. */
function areUnread(repositories: readonly RepositoryStatus[]): boolean {
  return repositories.every(({ backups }) => backups === undefined)
}

function describeExposure({ bytes, seconds, since }: Exposure): string {
  const time = seconds === undefined ? '' : `the last ${formatDuration(seconds * 1000)}`
  if (bytes === undefined)
    return since === undefined ? 'everything' : `what came after ${formatTime(since)}`
  if (bytes === 0) return 'nothing'
  return time === '' ? `${formatBytes(bytes)} of WAL` : `${time} (${formatBytes(bytes)} of WAL)`
}

/** Of sets of databases; all of them are in --json and in `list`. */
const SHOWN_DUMPS = 5

function printRepository(terminal: Terminal, cluster: string, repository: RepositoryStatus): void {
  const { lastBackup, newestWal, window, backups } = repository
  const pairs: [string, string][] = [
    ['repository', `${repository.name}, ${repository.url}`],
    ['backups', backups === undefined ? 'unknown' : formatCount(backups, 'backup')],
  ]
  if (lastBackup !== undefined) {
    const age = formatDuration(now().getTime() - Date.parse(lastBackup.stoppedAt))
    pairs.push([
      'last backup',
      `${lastBackup.id}, ${age} ago, ${formatBytes(lastBackup.files.bytes)}`,
    ])
  }
  if (newestWal !== undefined)
    pairs.push(['newest WAL', `${newestWal.segment}, up to ${newestWal.lsn}`])
  for (const record of repository.dumps?.newest.slice(0, SHOWN_DUMPS) ?? []) {
    const age = formatDuration(now().getTime() - latestMoment(record))
    pairs.push(['last dump', `${record.id}, ${age} ago, ${describeContents(record)}`])
  }
  for (const line of formatPairs(pairs)) terminal.print(line)
  if (window === undefined) return
  printWindow(terminal, cluster, window)
}
