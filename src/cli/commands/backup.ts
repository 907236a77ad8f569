/** `backup`: takes a physical backup into every repository of the cluster. */
import { availableParallelism } from 'node:os'
import type { BackupResult, TakeBackupOptions } from '../../backup/backup-context.ts'
import { takeBackup } from '../../backup/take-backup.ts'
import { Failure } from '../../base/failure.ts'
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
  type RepositoryConfiguration,
} from '../../config/configuration.ts'
import { unlockStorage } from '../../config/unlock-storage.ts'
import { parsePackAge } from '../../config/pack-age.ts'
import { openRepository } from '../../repository/repository.ts'
import { openStorage } from '../../storage/open-storage.ts'
import { formatArchiveCommand, TIDEMARK_PROGRAM } from '../archive-command.ts'
import { type CommandContext, connectionUrl } from '../command-context.ts'
import { backupJson } from '../describe-backup.ts'
import { formatBytes, formatCount, formatDuration } from '../format-units.ts'
import { readVersion } from '../run-command.ts'
import { explainFull, measureTotals } from './backup/explain-full.ts'

export interface BackupCommandOptions {
  readonly full?: boolean
  readonly rewrite?: boolean
  readonly label?: readonly string[]
  readonly pin?: boolean
  readonly repository?: string
  readonly workers?: string
  readonly archiveCheck?: boolean
  readonly forceVersion?: boolean
}

/** More readers than this gain nothing on one disk, and cost the server its processors. */
const MAX_DEFAULT_WORKERS = 4

export async function runBackup(
  context: CommandContext,
  clusterName: string | undefined,
  options: BackupCommandOptions,
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const labels = parseLabels(options.label ?? [])
  const workers = parseWorkers(options.workers)
  if (options.rewrite === true && options.full !== true) throw rewriteAlone()
  const repositories =
    options.repository === undefined
      ? cluster.repositories
      : [chooseRepository(cluster, options.repository)]
  const taken: { repository: string; result: BackupResult }[] = []
  for (const repository of repositories) {
    const result = await backUpInto(context, cluster, repository, options, { labels, workers })
    taken.push({ repository: repository.name, result })
    context.progress.end()
    if (!context.json) printResult(context, repository.name, result)
  }
  if (context.json) {
    context.terminal.printJson({
      cluster: cluster.name,
      backups: taken.map(({ repository, result }) => ({
        repository,
        ...backupJson(result.record),
        notes: result.notes,
      })),
    })
  }
  return 0
}

async function backUpInto(
  context: CommandContext,
  cluster: ClusterConfiguration,
  repository: RepositoryConfiguration,
  options: BackupCommandOptions,
  parsed: { labels: Record<string, string>; workers: number },
): Promise<BackupResult> {
  const specification = await unlockStorage(repository, context.env)
  const storage = await openStorage(specification)
  await openRepository(storage)
  const measured = measureTotals(context.progress)
  const maxPackAgeMs = parsePackAge(cluster.maxPackAge)
  const request: TakeBackupOptions = {
    storage,
    specification,
    cluster: cluster.name,
    connection: connectionUrl(context, cluster),
    full: options.full === true,
    rewrite: options.rewrite === true,
    ...(maxPackAgeMs === undefined ? {} : { maxPackAgeMs }),
    labels: parsed.labels,
    pinned: options.pin === true,
    workers: parsed.workers,
    archiveCheck: options.archiveCheck !== false,
    archiveCommand: formatArchiveCommand({
      program: TIDEMARK_PROGRAM,
      configuration: context.configuration().path,
      cluster: cluster.name,
    }),
    tidemarkVersion: readVersion(),
    forceVersion: options.forceVersion === true,
  }
  try {
    return await takeBackup(request, measured, context.signal)
  } catch (error) {
    throw await explainFull(error, storage, cluster.name, measured.largestTotal())
  }
}

function rewriteAlone(): Failure {
  return new Failure('TM1001', {
    message: '--rewrite goes with --full',
    because: 'to store everything anew, everything has to be read',
    fix: 'give both: tidemark backup --full --rewrite',
  })
}

function printResult(context: CommandContext, repository: string, result: BackupResult): void {
  const { terminal } = context
  const { record, notes } = result
  const { statistics } = record
  for (const note of notes) terminal.remark(note)
  const took = formatDuration(statistics.durationMs)
  const rate = (statistics.bytesRead * 1000) / Math.max(1, statistics.durationMs)
  terminal.print(
    `backup ${terminal.colours.bold(record.id)} of ${record.cluster} is in ${repository}, in ${took}`,
  )
  terminal.print(
    `  ${formatBytes(record.files.bytes)} in ` +
      `${formatCount(record.files.entries, 'entry', 'entries')}; ` +
      `read ${formatBytes(statistics.bytesRead)} (${formatBytes(rate)}/s), ` +
      `stored ${formatBytes(statistics.bytesStored)}`,
  )
  const base = record.comparedWith
  terminal.print(base === undefined ? '  everything was stored' : `  what changed since ${base}`)
  terminal.print(`  recoverable from ${record.stopLsn} on timeline ${record.timeline}`)
  for (const { relation, path, blocks } of record.damage) {
    const what = `${formatCount(blocks.length, 'damaged page')} in ${relation ?? path}`
    terminal.print(terminal.colours.red(`  ${what}: kept as they are (tidemark show ${record.id})`))
  }
}

export function parseLabels(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const match = /^([A-Za-z0-9_.-]+)=(.*)$/s.exec(text)
      if (match === null) {
        throw new Failure('TM1001', {
          message: `'${text}' is not a label`,
          because: 'a label is KEY=VALUE, and its key is of A-Z, a-z, 0-9, _, . and -',
          fix: 'for example: --label reason=before-migration',
        })
      }
      return [match[1] as string, match[2] as string]
    }),
  )
}

const MAX_WORKERS = 64

/** `spare`: workers beyond one per processor, where they also wait. */
export function parseWorkers(text: string | undefined, spare = 0): number {
  if (text === undefined) return Math.min(availableParallelism() + spare, MAX_DEFAULT_WORKERS)
  const count = /^\d{1,2}$/.test(text) ? Number(text) : 0
  if (count >= 1 && count <= MAX_WORKERS) return count
  throw new Failure('TM1001', {
    message: `--workers cannot be '${text}'`,
    because: `it is a number from 1 to ${MAX_WORKERS}`,
    fix: 'leave it out: one per processor is the default',
  })
}
