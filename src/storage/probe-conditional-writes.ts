/**
 * Tries whether a storage keeps its word about `createOnly`. Whoever creates a repository, and
 * doctor, ask before anything relies on it: there are stores that take the condition and
 * overwrite all the same.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import type { Storage } from './storage.ts'

/** Creators that meet at once. */
const CREATORS = 4

/**
 * TM1512 unless the second of two creations is refused, and exactly one of several that come
 * at the same time wins. Leaves nothing, unless it is killed: then `probe/…`.
 */
export async function probeConditionalWrites(storage: Storage): Promise<void> {
  const key = `probe/${randomHex(8)}`
  try {
    const first = Buffer.from('first')
    await storage.write(key, first, { createOnly: true })
    if (await creates(storage, key, Buffer.from('second'))) throw ignored(storage, 'second')
    const stored = await storage.read(key)
    if (stored === undefined || !first.equals(stored)) throw ignored(storage, 'refused')
    await storage.remove(key)
    const results = await Promise.all(
      Array.from({ length: CREATORS }, async (_, index) => {
        return await creates(storage, key, Buffer.from(`creator ${index}`))
      }),
    )
    if (results.filter((won) => won).length !== 1) throw ignored(storage, 'several')
  } finally {
    await storage.remove(key)
  }
}

async function creates(storage: Storage, key: string, bytes: Uint8Array): Promise<boolean> {
  try {
    await storage.write(key, bytes, { createOnly: true })
    return true
  } catch (error) {
    if (isFailure(error, 'TM1502')) return false
    throw error
  }
}

const WHAT = {
  second: 'an object that was to be created once was overwritten by a second creation',
  refused: 'a creation that was refused has changed the object all the same',
  several: 'of several creations at the same time not exactly one has won',
}

function ignored(storage: Storage, kind: keyof typeof WHAT): Failure {
  return new Failure('TM1512', {
    message: `${storage.url} cannot hold a repository`,
    because: `it ignores conditional writes (If-None-Match: *): ${WHAT[kind]}`,
    fix: 'use a store that has them, such as Amazon S3, MinIO, Ceph or Cloudflare R2',
    details: { url: storage.url },
  })
}
