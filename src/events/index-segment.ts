/**
 * The index of a segment that has just come into the archive, written beside it.
 *
 * Invariant: whatever happens here is told and not thrown: the segment is safe already, and its
 * index can be computed at any time.
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import type { IndexPool } from './index-pool.ts'
import { type EncodedIndex, encodeIndexOf } from './pool/index-worker.ts'
import { storeDerived } from './store-derived.ts'
import type { IndexedArchive } from './store-index.ts'

export interface IndexSegmentOptions extends IndexedArchive {
  /** That have the segment. */
  readonly storages: readonly Storage[]
  readonly name: string
  /** The whole segment. */
  readonly bytes: Uint8Array
  /** Computes elsewhere; without it this thread is busy for a tenth of a second for 16 MB. */
  readonly pool?: IndexPool
}

export interface IndexedSegment {
  readonly storedBytes: number
  readonly failures: readonly { readonly url: string; readonly failure: Failure }[]
}

export async function indexSegment(options: IndexSegmentOptions): Promise<IndexedSegment> {
  const { storages, name } = options
  const failures: { url: string; failure: Failure }[] = []
  const index = await encode(options).catch((cause: unknown) => notComputed(name, cause))
  if (index instanceof Failure) {
    for (const { url } of storages) failures.push({ url, failure: index })
    return { storedBytes: 0, failures }
  }
  await Promise.all(
    storages.map(async (storage) => {
      try {
        await storeDerived(storage, options, name, index)
      } catch (error) {
        const failure = isFailure(error) ? error : notComputed(name, error)
        failures.push({ url: storage.url, failure })
      }
    }),
  )
  return { storedBytes: index.bytes.length, failures }
}

async function encode(options: IndexSegmentOptions): Promise<EncodedIndex> {
  const { systemIdentifier, name, bytes, pool } = options
  if (pool !== undefined) return await pool.encode(systemIdentifier, name, bytes)
  return encodeIndexOf({ number: 0, systemIdentifier: BigInt(systemIdentifier), name, bytes })
}

function notComputed(name: string, cause: unknown): Failure {
  return new Failure('TM1470', {
    message: `the event index of ${name} was not written`,
    because: cause instanceof Error ? cause.message : String(cause),
    fix: 'the segment itself is archived; events reads it instead, and tidemark wal index tries again',
    cause,
    details: { name },
  })
}
