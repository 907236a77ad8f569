/**
 * What makes a storage a repository: the object `tidemark.repository`. Everything else is
 * read and written by the other files of this folder.
 */
import { Failure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import type { Storage } from '../storage/storage.ts'
import { REPOSITORY_KEY } from './keys.ts'

export const REPOSITORY_FORMAT = 1

export interface Repository {
  readonly storage: Storage
  readonly repositoryId: string
  readonly format: number
  readonly createdAt: string
}

/** Opens a repository; TM1503 where there is none, TM1504 where it is too new. */
export async function openRepository(storage: Storage): Promise<Repository> {
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
  return { storage, ...content }
}

/**
 * Creates a repository, or opens the one that is there: of two that create at once, one
 * wins and the other opens what the first has made.
 */
export async function createRepository(storage: Storage, createdAt: Date): Promise<Repository> {
  // Not only by the condition: a store that ignores it would lose the identity of the first.
  if ((await storage.read(REPOSITORY_KEY)) !== undefined) return await openRepository(storage)
  const content = {
    format: REPOSITORY_FORMAT,
    repositoryId: randomHex(16),
    createdAt: createdAt.toISOString(),
  }
  try {
    const bytes = Buffer.from(`${JSON.stringify(content)}\n`)
    await storage.write(REPOSITORY_KEY, bytes, { createOnly: true })
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'TM1502') throw error
  }
  return await openRepository(storage)
}

function parseIdentity(
  bytes: Uint8Array,
): { format: number; repositoryId: string; createdAt: string } | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    if (typeof value !== 'object' || value === null) return undefined
    const { format, repositoryId, createdAt } = value as Record<string, unknown>
    if (typeof format !== 'number' || typeof repositoryId !== 'string') return undefined
    return { format, repositoryId, createdAt: String(createdAt ?? '') }
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
       docs/design/repository-format.md says; no backup depends on its content`,
    details: { key: REPOSITORY_KEY },
  })
}
