/**
 * Makes the first key of a repository that the configuration says is encrypted. The marker
 * `tidemark.repository` is there already, and says so.
 */
import { now } from '../base/clock.ts'
import type { RepositoryConfiguration } from '../config/configuration.ts'
import type { Environment } from '../config/environment.ts'
import { resolveEncryption } from '../config/resolve-encryption.ts'
import { openSlotMemory } from '../config/slot-memory.ts'
import type { KeySecret } from '../repository/key-slots.ts'
import { ensureFirstKey, unlockRepository } from '../repository/unlock.ts'
import { openStorage, type StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'

/** Before anything is created: a key that cannot be had leaves nothing behind. */
export async function findSecret(
  { name, encryption }: RepositoryConfiguration,
  env: Environment,
): Promise<KeySecret | undefined> {
  if (encryption === undefined) return undefined
  return await resolveEncryption(encryption, `repositories.${name}.encryption`, env)
}

/** `storage`: the place opened without a key, which is what is given where none is wanted. */
export async function openWithFirstKey(
  place: StorageSpecification,
  storage: Storage,
  secret: KeySecret | undefined,
): Promise<Storage> {
  if (secret === undefined) return storage
  await ensureFirstKey(storage, { secret, label: 'first', createdAt: now() })
  const sealing = await unlockRepository(storage, secret, openSlotMemory())
  return await openStorage({ ...place, sealing })
}
