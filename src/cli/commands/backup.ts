/** `backup`: takes a physical backup into every repository of the cluster. */
import { availableParallelism } from 'node:os'
import type { BackupResult, TakeBackupOptions } from '../../backup/backup-context.ts'
import { takeBackup } from '../../backup/take-backup.ts'
import type { BackupTarget } from '../../backup/targets.ts'
import { Failure } from '../../base/failure.ts'
import { type ClusterConfiguration, chooseCluster } from '../../config/configuration.ts'
import { parsePackAge } from '../../config/pack-age.ts'
import { formatArchiveCommand, TIDEMARK_PROGRAM } from '../archive-command.ts'
import { type CommandContext, connectionUrl } from '../command-context.ts'
import { openTargets } from '../open-targets.ts'
import { readVersion } from '../run-command.ts'
import { explainFull, measureTotals } from './backup/explain-full.ts'
import { printResult, resultJson } from './backup/report.ts'

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
  const { targets, unusable } = await openTargets(context, cluster, options.repository)
  const result = await takeInto(context, cluster, targets, options, { labels, workers })
  context.progress.end()
  const reports = [...result.targets, ...unusable]
  if (context.json) context.terminal.printJson(resultJson(cluster.name, result, reports))
  else printResult(context, cluster.name, result, reports)
  return reports.every(({ outcome }) => outcome === 'stored') ? 0 : EXIT_INCOMPLETE
}

/** The backup is there, but not in every repository. */
const EXIT_INCOMPLETE = 3

async function takeInto(
  context: CommandContext,
  cluster: ClusterConfiguration,
  targets: readonly BackupTarget[],
  options: BackupCommandOptions,
  parsed: { labels: Record<string, string>; workers: number },
): Promise<BackupResult> {
  const measured = measureTotals(context.progress)
  const maxPackAgeMs = parsePackAge(cluster.maxPackAge)
  const request: TakeBackupOptions = {
    targets,
    cluster: cluster.name,
    connection: connectionUrl(context, cluster),
    full: options.full === true,
    rewrite: options.rewrite === true,
    ...(maxPackAgeMs === undefined ? {} : { maxPackAgeMs }),
    labels: parsed.labels,
    pinned: options.pin === true,
    workers: parsed.workers,
    archiveCheck: options.archiveCheck !== false,
    ...(cluster.walSource === 'stream' ? { slot: cluster.walStream.slot } : {}),
    archiveCommand: formatArchiveCommand({
      program: TIDEMARK_PROGRAM,
      configuration: context.configuration().path,
      cluster: cluster.name,
    }),
    tidemarkVersion: readVersion(),
    forceVersion: options.forceVersion === true,
  }
  const storages = targets.filter(({ required }) => required).map(({ storage }) => storage)
  try {
    return await takeBackup(request, measured, context.signal)
  } catch (error) {
    throw await explainFull(error, storages, cluster.name, measured.largestTotal())
  }
}

function rewriteAlone(): Failure {
  return new Failure('TM1001', {
    message: '--rewrite goes with --full',
    because: 'to store everything anew, everything has to be read',
    fix: 'give both: tidemark backup --full --rewrite',
  })
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
