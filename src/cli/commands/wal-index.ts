/** `wal index`: computes the event index of WAL that has none, or of all. */
import { Failure } from '../../base/failure.ts'
import { chooseCluster, chooseRepository } from '../../config/configuration.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import { type IndexWalResult, indexWal } from '../../events/index-wal.ts'
import { openRepository } from '../../repository/repository.ts'
import { listSystemIdentities, type SystemIdentity } from '../../repository/system-identity.ts'
import type { Storage } from '../../storage/storage.ts'
import type { CommandContext } from '../command-context.ts'
import { formatBytes, formatCount } from '../format-units.ts'

export interface WalIndexOptions {
  readonly repository?: string
  readonly rebuild?: boolean
  readonly newest?: string
}

/** 3 when a segment could not be indexed. */
export async function runWalIndex(
  context: CommandContext,
  clusterName: string | undefined,
  options: WalIndexOptions,
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const chosen =
    options.repository === undefined
      ? cluster.repositories
      : [chooseRepository(cluster, options.repository)]
  const storages: Storage[] = []
  for (const repository of chosen) {
    const storage = await openRepositoryStorage(repository, context.env)
    await openRepository(storage)
    storages.push(storage)
  }
  const limit = options.newest === undefined ? {} : { limit: parseCount(options.newest) }
  const results: (IndexWalResult & { readonly systemIdentifier: string })[] = []
  for (const { systemIdentifier, walSegmentSizeBytes } of await findSystems(
    cluster.name,
    storages,
  )) {
    const result = await indexWal({
      storages,
      cluster: cluster.name,
      systemIdentifier,
      walSegmentSizeBytes,
      rebuild: options.rebuild === true,
      ...limit,
      progress: context.progress,
      signal: context.signal,
    })
    results.push({ systemIdentifier, ...result })
  }
  context.progress.end()
  report(context, cluster.name, results)
  return results.some(({ failed }) => failed.length > 0) ? 3 : 0
}

function parseCount(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new Failure('TM1001', {
    message: `--newest takes a number of segments, not '${text}'`,
    fix: 'for example: --newest 100',
  })
}

async function findSystems(
  cluster: string,
  storages: readonly Storage[],
): Promise<readonly SystemIdentity[]> {
  const systems = new Map<string, SystemIdentity>()
  for (const storage of storages) {
    for (const identity of await listSystemIdentities(storage, cluster)) {
      systems.set(identity.systemIdentifier, identity)
    }
  }
  return [...systems.values()]
}

function report(
  { terminal, json }: CommandContext,
  cluster: string,
  results: readonly (IndexWalResult & { readonly systemIdentifier: string })[],
): void {
  if (json) {
    const servers = results.map(({ failed, ...rest }) => ({
      ...rest,
      failed: failed.map(({ name, failure }) => ({
        name,
        code: failure.code,
        message: failure.message,
      })),
    }))
    terminal.printJson({ cluster, servers })
    return
  }
  for (const { segments, built, storedBytes, failed, systemIdentifier } of results) {
    const of = results.length > 1 ? ` of server ${systemIdentifier}` : ''
    const made = built === 0 ? 'nothing to do' : `${built} indexed, ${formatBytes(storedBytes)}`
    terminal.print(`${formatCount(segments, 'segment')}${of}: ${made}`)
    for (const { name, failure } of failed) {
      terminal.print(`${name} could not be indexed: ${failure.message} (${failure.code})`)
    }
  }
}
