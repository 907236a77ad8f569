/** A few segments made by hand with their event indexes, and a snapshot of names, in a storage. */
import { buildIndex } from '../../src/events/build-index.ts'
import { eventsKey, namesKey } from '../../src/events/index-keys.ts'
import { writeNamesSnapshot } from '../../src/events/names-snapshot.ts'
import { writeIndex } from '../../src/events/store-index.ts'
import { segmentKey } from '../../src/archive/wal-file-name.ts'
import { encodeWalObject, hashContent } from '../../src/archive/wal-object.ts'
import { formatSegmentName, lsn } from '../../src/postgres/lsn.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { buildSegment, MB, SYSTEM } from './wal-builder.ts'

export const INDEXED = { cluster: 'main', systemIdentifier: SYSTEM.toString() }

export function indexedName(segment: bigint): string {
  return formatSegmentName(1, segment, MB)
}

export function indexedKey(segment: bigint): string {
  return eventsKey(INDEXED.cluster, INDEXED.systemIdentifier, indexedName(segment))
}

export function nameKeyAt(segment: bigint): string {
  const place = { timeline: 1, lsn: lsn(segment * BigInt(MB)) }
  return namesKey(INDEXED.cluster, INDEXED.systemIdentifier, place)
}

export async function storeSegment(storage: Storage, segment: bigint): Promise<void> {
  const content = buildSegment({ segment })
  const name = indexedName(segment)
  const { cluster, systemIdentifier } = INDEXED
  const object = { systemIdentifier, name, headerTimeline: 1, content }
  await storage.write(segmentKey(cluster, systemIdentifier, name), encodeWalObject(object))
}

export async function storeIndex(storage: Storage, segment: bigint): Promise<void> {
  const bytes = buildSegment({ segment })
  const contentHash = hashContent(bytes)
  const source = { systemIdentifier: SYSTEM, timeline: 1, segment, bytes, contentHash }
  await writeIndex([storage], INDEXED, indexedName(segment), buildIndex(source))
}

export async function storeNames(storage: Storage, segment: bigint): Promise<void> {
  const at = lsn(segment * BigInt(MB))
  const names = { timeline: 1, firstLsn: at, lastLsn: at, at: '2026-11-21T00:00:00Z' }
  await writeNamesSnapshot([storage], INDEXED, { ...names, databases: [] })
}

export async function listDerived(storage: Storage): Promise<string[]> {
  const keys: string[] = []
  for (const folder of ['events', 'names']) {
    for await (const { key } of storage.list(`clusters/main/${folder}/`)) keys.push(key)
  }
  return keys
}
