/** What is derived from WAL goes with it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  INDEXED,
  indexedKey,
  listDerived,
  nameKeyAt,
  storeIndex,
  storeNames,
  storeSegment,
} from '../../test/harness/indexed-wal.ts'
import { MB } from '../../test/harness/wal-builder.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { removeIndexes, removeOldNames } from './remove-derived.ts'

test('indexes of expired segments go, and names of before but the newest', async () => {
  const storage = openMemoryStorage()
  for (const segment of [1n, 2n, 3n, 4n]) await storeIndex(storage, segment)
  for (const segment of [3n, 4n]) await storeSegment(storage, segment)
  for (const segment of [1n, 2n, 4n]) await storeNames(storage, segment)
  const expired = {
    systemIdentifier: INDEXED.systemIdentifier,
    walSegmentSizeBytes: MB,
    timelines: [{ timeline: 1, segments: [1, 2], bytes: 0 }],
    others: [],
  }
  await removeIndexes(storage, 'main', expired)
  await removeOldNames(storage, 'main', expired)
  const left = [indexedKey(3n), indexedKey(4n), nameKeyAt(2n), nameKeyAt(4n)]
  assert.deepEqual(await listDerived(storage), left)
  await removeIndexes(storage, 'main', expired)
  assert.deepEqual(await listDerived(storage), left, 'a second time is no failure')
})
