/** Opens the repositories that a backup or a dump is written to. */
import type { BackupTarget, TargetReport } from '../backup/targets.ts'
import { Failure } from '../base/failure.ts'
import { type ClusterConfiguration, chooseRepository } from '../config/configuration.ts'
import { unlockStorage } from '../config/unlock-storage.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { CommandContext } from './command-context.ts'

export interface OpenedTargets {
  readonly targets: readonly BackupTarget[]
  readonly unusable: readonly TargetReport[]
}

/** A repository that is named alone is the one that is wanted. */
export async function openTargets(
  context: CommandContext,
  cluster: ClusterConfiguration,
  only: string | undefined,
): Promise<OpenedTargets> {
  const repositories = only === undefined ? cluster.repositories : [chooseRepository(cluster, only)]
  const unusable: TargetReport[] = []
  const opened = repositories.map(async (repository): Promise<BackupTarget | undefined> => {
    const { name, url } = repository
    const required = only !== undefined || cluster.required.includes(name)
    try {
      const specification = await unlockStorage(repository, context.env)
      return { name, storage: await openStorage(specification), specification, required }
    } catch (error) {
      if (required || !(error instanceof Failure)) throw error
      unusable.push({ name, url, required, outcome: 'failed', failure: error })
      return undefined
    }
  })
  const targets = (await Promise.all(opened)).filter((target) => target !== undefined)
  return { targets, unusable }
}
