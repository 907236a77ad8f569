/**
 * The repositories of a cluster as one to read from, for commands that need what any of them
 * has.
 */
import { Failure } from '../base/failure.ts'
import type { RepositoryConfiguration } from '../config/configuration.ts'
import type { Environment } from '../config/environment.ts'
import { unlockStorage } from '../config/unlock-storage.ts'
import { describeLeftOut } from '../recovery/open-sources.ts'
import type { StorageSpecification } from '../storage/open-storage.ts'

export interface UnlockedSources {
  readonly storage: StorageSpecification
  /** Sentences on those that could not be opened. */
  readonly leftOut: readonly string[]
}

/** The nearest that can be opened, and those that stand by for it. */
export async function unlockSources(
  repositories: readonly RepositoryConfiguration[],
  env: Environment,
): Promise<UnlockedSources> {
  const opened: StorageSpecification[] = []
  const failures: Failure[] = []
  const leftOut: string[] = []
  for (const repository of repositories) {
    try {
      opened.push(await unlockStorage(repository, env))
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      failures.push(error)
      leftOut.push(describeLeftOut(repository.name, error))
    }
  }
  const [nearest, ...fallbacks] = opened
  if (nearest === undefined) throw failures[0] as Failure
  return { storage: fallbacks.length === 0 ? nearest : { ...nearest, fallbacks }, leftOut }
}
