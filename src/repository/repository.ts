/**
 * What makes a storage a repository: the object `tidemark.repository`. Everything else is
 * read and written by the other files of this folder.
 */
import { Failure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import type { Storage } from '../storage/storage.ts'
import { REPOSITORY_KEY } from './keys.ts'

export const REPOSITORY_FORMAT = 1
/** Of sealed objects and keys (docs/design/encryption.md). */
const ENCRYPTION_FORMAT = 1

export interface Repository {
  readonly storage: Storage
  readonly repositoryId: string
  readonly format: number
  readonly createdAt: string
  readonly isEncrypted: boolean
}

/**
 * Opens a repository; TM1503 where there is none, TM1504 where it is too new. TM1520 and
 * TM1521: it is encrypted, and the storage was opened without a key, or the other way round.
 */
export async function openRepository(storage: Storage): Promise<Repository> {
  const identity = await readIdentity(storage)
  if (identity.isEncrypted && storage.isSealed !== true) throw refuseEncrypted(storage)
  if (!identity.isEncrypted && storage.isSealed === true) throw refuseUnencrypted(storage)
  return { storage, ...identity }
}

export type RepositoryIdentity = Omit<Repository, 'storage'>

/** What `tidemark.repository` says, whether the storage has a key or not. */
export async function readIdentity(storage: Storage): Promise<RepositoryIdentity> {
  const bytes = await storage.read(REPOSITORY_KEY)
  if (bytes === undefined) throw noRepository(storage)
  const content = parseIdentity(bytes)
  if (content === undefined) throw damagedIdentity(storage)
  if (content.format !== REPOSITORY_FORMAT) {
    throw new Failure('TM1504', {
      message: `the repository ${storage.url} has format ${content.format}`,
      because: `this version of Tidemark reads format ${REPOSITORY_FORMAT}`,
      fix: 'use the version of Tidemark that wrote it, or a later one',
    })
  }
  return content
}

/**
 * Creates a repository, or opens the one that is there: of two that create at once, one
 * wins and the other opens what the first has made. An encrypted one has no key yet
 * (ensureFirstKey()); that it is encrypted is said from the beginning.
 */
export async function createRepository(
  storage: Storage,
  createdAt: Date,
  isEncrypted = false,
): Promise<Repository> {
  // Not only by the condition: a store that ignores it would lose the identity of the first.
  if ((await storage.read(REPOSITORY_KEY)) !== undefined) {
    return await findCreated(storage, isEncrypted)
  }
  const content = {
    format: REPOSITORY_FORMAT,
    repositoryId: randomHex(16),
    createdAt: createdAt.toISOString(),
    ...(isEncrypted ? { encryption: ENCRYPTION_FORMAT } : {}),
  }
  try {
    const bytes = Buffer.from(`${JSON.stringify(content)}\n`)
    await storage.write(REPOSITORY_KEY, bytes, { createOnly: true })
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'TM1502') throw error
  }
  return await findCreated(storage, isEncrypted)
}

async function findCreated(storage: Storage, isEncrypted: boolean): Promise<Repository> {
  const identity = await readIdentity(storage)
  if (identity.isEncrypted === isEncrypted) return { storage, ...identity }
  throw isEncrypted ? refuseUnencrypted(storage) : refuseEncrypted(storage)
}

function parseIdentity(bytes: Uint8Array): RepositoryIdentity | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    if (typeof value !== 'object' || value === null) return undefined
    const { format, repositoryId, createdAt, encryption } = value as Record<string, unknown>
    if (typeof format !== 'number' || typeof repositoryId !== 'string') return undefined
    if (encryption !== undefined && encryption !== ENCRYPTION_FORMAT) return undefined
    const isEncrypted = encryption !== undefined
    return { format, repositoryId, createdAt: String(createdAt ?? ''), isEncrypted }
  } catch {
    return undefined
  }
}

function noRepository(storage: Storage): Failure {
  return new Failure('TM1503', {
    message: `there is no repository at ${storage.url}`,
    because: `the object ${REPOSITORY_KEY} is not there`,
    fix: 'check the URL and that the file system is mounted, or create it: tidemark init',
  })
}

function damagedIdentity(storage: Storage): Failure {
  return new Failure('TM1601', {
    message: `the object ${REPOSITORY_KEY} of ${storage.url} is damaged`,
    because: 'it is not the JSON that a repository begins with',
    fix: `write {"format":1,"repositoryId":"<32 hex digits>","createdAt":""} to it, as
       docs/design/repository-format.md says; no backup depends on its content, unless the
       repository is encrypted: then bring the object back from a copy`,
    details: { key: REPOSITORY_KEY },
  })
}

function refuseEncrypted(storage: Storage): Failure {
  return new Failure('TM1520', {
    message: `the repository ${storage.url} is encrypted, and no key is given for it`,
    because: 'its entry in tidemark.yaml has no encryption',
    fix: `add one to the repository: encryption: { passphrase: file:/path }, { keyFile: /path }
       or { keyCommand: … }`,
    details: { url: storage.url },
  })
}

export function refuseUnencrypted(storage: Storage): Failure {
  return new Failure('TM1521', {
    message: `the repository ${storage.url} is not encrypted`,
    because:
      'its entry in tidemark.yaml says encryption; a repository is encrypted from its creation',
    fix: `remove encryption from the entry, or name a new repository there (tidemark init) and
       copy this one into it (tidemark sync)`,
    details: { url: storage.url },
  })
}
