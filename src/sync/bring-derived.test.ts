/** Indexes and names that one repository lacks are brought, whole ones only. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  indexedKey,
  listDerived,
  nameKeyAt,
  storeIndex,
  storeNames,
  storeSegment,
} from '../../test/harness/indexed-wal.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { bringDerived } from './bring-derived.ts'
import type { SyncState } from './sync-state.ts'

test('of segments that are there, and never a damaged one', async () => {
  const [source, target] = [openMemoryStorage(), openMemoryStorage()]
  for (const segment of [1n, 2n, 3n]) await storeIndex(source, segment)
  for (const segment of [2n, 3n]) await storeSegment(target, segment)
  await storeNames(source, 1n)
  const damaged = Buffer.from((await source.read(indexedKey(3n))) as Uint8Array)
  damaged[40] = (damaged[40] as number) ^ 1
  await source.write(indexedKey(3n), damaged)
  const counts = { backups: [], packs: 0, segments: 0, others: 0, bytes: 0 }
  const { signal } = new AbortController()
  await bringDerived({ source, target, cluster: 'main', signal, counts } as unknown as SyncState)
  assert.deepEqual(await listDerived(target), [indexedKey(2n), nameKeyAt(1n)])
  assert.ok(counts.bytes > 0)
})
