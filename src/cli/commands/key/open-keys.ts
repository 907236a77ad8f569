/** Opens the keys of one encrypted repository of the configuration. */
import { Failure } from '../../../base/failure.ts'
import type { RepositoryConfiguration } from '../../../config/configuration.ts'
import { didYouMean } from '../../../config/nearest-name.ts'
import { resolveStorage } from '../../../config/resolve-storage.ts'
import { openSlotMemory } from '../../../config/slot-memory.ts'
import type { KeySecret } from '../../../repository/key-slots.ts'
import { unlockRepository } from '../../../repository/unlock.ts'
import type { Sealing } from '../../../storage/data-keys.ts'
import { openStorage } from '../../../storage/open-storage.ts'
import type { Storage } from '../../../storage/storage.ts'
import type { CommandContext } from '../../command-context.ts'
import { findSecret } from '../../create-repository.ts'
import { wrongUsage } from '../../program.ts'

export interface OpenedKeys {
  readonly repository: RepositoryConfiguration
  /** Without seal. */
  readonly storage: Storage
  readonly sealing: Sealing
  readonly secret: KeySecret
}

export async function openKeys(
  context: CommandContext,
  name: string | undefined,
): Promise<OpenedKeys> {
  const repository = choose(context, name)
  const secret = await findSecret(repository, context.env)
  if (secret === undefined) throw notEncrypted(repository)
  const storage = await openStorage(resolveStorage(repository, context.env))
  const sealing = await unlockRepository(storage, secret, openSlotMemory())
  return { repository, storage, sealing, secret }
}

/** By another slot of the same secret than `slot`. */
export async function unlockWithout(
  { storage, secret }: OpenedKeys,
  slot: string,
): Promise<Sealing> {
  return await unlockRepository(storage, secret, openSlotMemory(), slot)
}

function choose(context: CommandContext, name: string | undefined): RepositoryConfiguration {
  const { repositories, path } = context.configuration()
  if (name !== undefined) {
    const found = repositories.get(name)
    if (found !== undefined) return found
    const names = [...repositories.keys()]
    throw wrongUsage(
      `no repository '${name}'${didYouMean(name, names)}`,
      `${path} has ${names.join(', ')}`,
      'name one of them',
    )
  }
  const encrypted = [...repositories.values()].filter((one) => one.encryption !== undefined)
  const [only, other] = encrypted
  if (only !== undefined && other === undefined) return only
  if (only === undefined) {
    throw new Failure('TM1527', {
      message: `${path} has no encrypted repository`,
      because: 'no repository has an encryption there',
      fix: 'an encrypted repository is made by: tidemark init --key-file FILE --repository URL …',
    })
  }
  throw wrongUsage(
    'which repository is meant?',
    `${encrypted.map((one) => one.name).join(', ')} are encrypted`,
    'name one of them: --repository NAME',
  )
}

function notEncrypted({ name, url }: RepositoryConfiguration): Failure {
  return new Failure('TM1527', {
    message: `the repository '${name}' has no keys`,
    because: `the configuration has no encryption for ${url}`,
    fix: `if it is encrypted, say with what it is opened; a repository is encrypted from its
       creation: tidemark init --key-file FILE --repository URL …`,
  })
}
