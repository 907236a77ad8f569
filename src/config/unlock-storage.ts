/**
 * From a repository of the configuration to what opens it, with its key: the one way to a
 * storage for every command. Nothing slow is imported for a repository without encryption.
 */
import { openStorage, type StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import type { RepositoryConfiguration } from './configuration.ts'
import type { Environment } from './environment.ts'
import { resolveStorage } from './resolve-storage.ts'

/**
 * The result may hold secrets. It opens the repository from workers too. An encrypted one is
 * looked at here: TM1503, TM1521 to TM1523, TM1526, TM1606.
 */
export async function unlockStorage(
  repository: RepositoryConfiguration,
  env: Environment,
): Promise<StorageSpecification> {
  const { name, encryption } = repository
  const specification = resolveStorage(repository, env)
  if (encryption === undefined) return specification
  const { resolveEncryption } = await import('./resolve-encryption.ts')
  const { unlockRepository } = await import('../repository/unlock.ts')
  const { openSlotMemory } = await import('./slot-memory.ts')
  const secret = await resolveEncryption(encryption, `repositories.${name}.encryption`, env)
  const storage = await openStorage(specification)
  try {
    const sealing = await unlockRepository(storage, secret, openSlotMemory())
    return { ...specification, sealing }
  } finally {
    await storage.close()
  }
}

/** As unlockStorage(), opened. Its owner closes it. */
export async function openRepositoryStorage(
  repository: RepositoryConfiguration,
  env: Environment,
): Promise<Storage> {
  return await openStorage(await unlockStorage(repository, env))
}
