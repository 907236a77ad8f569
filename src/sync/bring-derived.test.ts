/** Indexes and names that one repository lacks are brought, whole ones only. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  INDEXED,
  indexedKey,
  indexedName,
  listDerived,
  nameKeyAt,
  storeIndex,
  storeNames,
  storeSegment,
} from '../../test/harness/indexed-wal.ts'
import { MB, PAGE, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { breakKey } from '../archive/break-mark.ts'
import { segmentKey } from '../archive/wal-file-name.ts'
import { encodeWalObject } from '../archive/wal-object.ts'
import { indexSegment } from '../events/index-segment.ts'
import { lsn } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
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

test('a break between two segments that came from different sides is marked', async () => {
  const wal = new SyntheticWal()
  for (let page = 1; page < MB / PAGE; page++) wal.fillPage(0)
  wal.fillPage(24)
  const mainData = Buffer.alloc(28)
  const at = lsn(wal.append({ info: 0x60, resourceManager: 0, mainData }))
  const [source, target] = [openMemoryStorage(), openMemoryStorage()]
  const { cluster, systemIdentifier } = INDEXED
  const put = async (storage: Storage, segment: bigint) => {
    const [name, bytes] = [indexedName(segment), wal.segments.get(segment) as Buffer]
    await ensureSystemIdentity(storage, cluster, {
      systemIdentifier,
      major: 15,
      walSegmentSizeBytes: MB,
      createdAt: '',
    })
    const object = encodeWalObject({ systemIdentifier, name, headerTimeline: 1, content: bytes })
    await storage.write(segmentKey(cluster, systemIdentifier, name), object)
    return async () => await indexSegment({ ...INDEXED, storages: [storage], name, bytes })
  }
  await (await put(source, 1n))()
  await (await put(target, 2n))()
  await put(target, 1n)
  const mark = breakKey(cluster, systemIdentifier, { timeline: 1, lsn: at, kind: 'minimal' })
  assert.equal(await target.size(mark), undefined)
  const counts = { backups: [], packs: 0, segments: 0, others: 0, bytes: 0 }
  const { signal } = new AbortController()
  await bringDerived({ source, target, cluster, signal, counts } as unknown as SyncState)
  assert.ok(await target.size(mark))
})
