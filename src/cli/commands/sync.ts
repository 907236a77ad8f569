/** `sync`: brings what one repository of a cluster lacks from another, and heals it. */
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
} from '../../config/configuration.ts'
import { findRetention } from '../../config/retention.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import { isSharedObject, type SyncOptions, type SyncReport, sync } from '../../sync/sync.ts'
import type { CommandContext } from '../command-context.ts'
import { wrongUsage } from '../program.ts'
import { formatSync, syncJson } from './sync/format-sync.ts'

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
    ...(objects === undefined ? {} : { objects }),
    ...(policy === undefined ? {} : { policy }),
    progress,
    signal,
  }
  const report = await sync(request)
  progress.end()
  if (context.json) terminal.printJson(syncJson(request, report))
  else for (const line of formatSync(request, report, terminal.colours)) terminal.print(line)
  return judge(report)
}

/** Something is left to do: damage that nobody could mend, or a backup that was kept back. */
function judge({ problems, keptBack }: SyncReport): number {
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
    'packs, backup records, WAL and the identities of servers can be healed',
    `what is damaged, by its key: tidemark verify ${cluster}`,
  )
}
