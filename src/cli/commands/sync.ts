/** `sync`: brings what one repository of a cluster lacks from another, and heals it. */
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
} from '../../config/configuration.ts'
import { findDumpPolicy, findRetention } from '../../config/retention.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import { type SyncDumpsReport, syncDumps } from '../../dump/sync-dumps.ts'
import { parseDumpKey, parseDumpPackKey } from '../../repository/keys.ts'
import { isSharedObject, type SyncOptions, type SyncReport, sync } from '../../sync/sync.ts'
import type { CommandContext } from '../command-context.ts'
import { wrongUsage } from '../program.ts'
import { formatDumpSync, formatSync, syncJson } from './sync/format-sync.ts'

export interface SyncCommandOptions {
  readonly from?: string
  readonly to?: string
  readonly heal?: boolean
  readonly object?: readonly string[]
  readonly dryRun?: boolean
}

const EXIT_PROBLEM = 3

export async function runSync(
  context: CommandContext,
  clusterName: string | undefined,
  options: SyncCommandOptions,
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const [from, to] = chooseBoth(cluster, options)
  const objects = chooseObjects(cluster.name, options)
  const { env, progress, signal, terminal } = context
  const policy = findRetention(cluster, to.name)
  const request: SyncOptions = {
    source: await openRepositoryStorage(from, env),
    target: await openRepositoryStorage(to, env),
    names: { source: from.name, target: to.name },
    cluster: cluster.name,
    dryRun: options.dryRun === true,
    heal: options.heal === true,
    ...(objects === undefined ? {} : { objects: objects.filter((key) => !isOfDumps(key)) }),
    ...(policy === undefined ? {} : { policy }),
    progress,
    signal,
  }
  // What is named by its key alone is looked at; without a name both are.
  const report = request.objects?.length === 0 ? undefined : await sync(request)
  const ofDumps = objects?.filter(isOfDumps)
  const dumps =
    ofDumps?.length === 0
      ? undefined
      : await syncDumps({
          ...request,
          dryRun: options.dryRun === true,
          heal: options.heal === true,
          ...(ofDumps === undefined ? {} : { objects: ofDumps }),
          policy: findDumpPolicy(cluster),
        })
  progress.end()
  if (context.json) terminal.printJson(syncJson(request, report, dumps))
  else {
    const lines = [
      ...(report === undefined ? [] : formatSync(request, report, terminal.colours)),
      ...(dumps === undefined ? [] : formatDumpSync(request, dumps, terminal.colours)),
    ]
    for (const line of lines) terminal.print(line)
  }
  return Math.max(judge(report), judge(dumps))
}

function isOfDumps(key: string): boolean {
  return (parseDumpKey(key) ?? parseDumpPackKey(key)) !== undefined
}

/** Something is left to do: damage that nobody could mend, or a backup that was kept back. */
function judge(report: SyncReport | SyncDumpsReport | undefined): number {
  const { problems, keptBack } = report ?? { problems: [], keptBack: [] }
  return problems.length > 0 || keptBack.length > 0 ? EXIT_PROBLEM : 0
}

type Chosen = ClusterConfiguration['repositories'][number]

/** TM1001 unless both are named, and differ. */
function chooseBoth(
  cluster: ClusterConfiguration,
  { from, to }: SyncCommandOptions,
): readonly [Chosen, Chosen] {
  const names = cluster.repositories.map(({ name }) => name)
  if (from === undefined || to === undefined || from === to) {
    throw wrongUsage(
      from === to && from !== undefined
        ? `--from and --to are both '${from}'`
        : 'which repository shall get what from which one?',
      `the configuration gives ${cluster.name} ${names.join(', ')}`,
      `for example: tidemark sync ${cluster.name} --from ${names[0]} --to ${names[1] ?? 'OTHER'}`,
    )
  }
  return [chooseRepository(cluster, from), chooseRepository(cluster, to)]
}

function chooseObjects(
  cluster: string,
  { object = [], heal }: SyncCommandOptions,
): readonly string[] | undefined {
  if (object.length === 0) return undefined
  if (heal === true) {
    throw wrongUsage(
      '--heal and --object cannot be given together',
      '--heal proves everything, --object only what it names',
      'choose one of them',
    )
  }
  const stranger = object.find((key) => !isSharedObject(cluster, key))
  if (stranger === undefined) return object
  throw wrongUsage(
    `'${stranger}' is nothing that another repository of ${cluster} can have`,
    'packs, records of backups and dumps, WAL and the identities of servers can be healed',
    `what is damaged, by its key: tidemark verify ${cluster}`,
  )
}
