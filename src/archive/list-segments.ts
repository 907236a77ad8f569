/**
 * Listings of archived segments by their keys; nothing is read.
 */
import type { Storage } from '../storage/storage.ts'
import { segmentKey, timelinePrefix } from './wal-file-name.ts'

export interface ListedSegment {
  readonly name: string
  readonly key: string
  readonly sizeBytes: number
}

const SEGMENT_KEY = /\/([0-9A-F]{8})\/([0-9A-F]{8})\/([0-9A-F]{24})\.wal$/

/** The segment that a key names, or undefined for any other key. */
export function parseSegmentKey(key: string): string | undefined {
  const match = SEGMENT_KEY.exec(key)
  const name = match?.[3]
  if (match === null || name === undefined) return undefined
  return name.startsWith(`${match[1]}${match[2]}`) ? name : undefined
}

/**
 * The segments of one timeline behind the one called `after`, in their order. An archive of a
 * year is a hundred listings of an object store: only what lies behind is asked for.
 */
export async function* listSegmentsAfter(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  after: string,
): AsyncGenerator<ListedSegment> {
  const prefix = timelinePrefix(cluster, systemIdentifier, Number.parseInt(after.slice(0, 8), 16))
  const from = segmentKey(cluster, systemIdentifier, after)
  for await (const { key, sizeBytes } of storage.list(prefix, from)) {
    const name = parseSegmentKey(key)
    if (name !== undefined) yield { name, key, sizeBytes }
  }
}

/**
 * The first archived segment after `name` on its timeline, or undefined. Names of one
 * timeline sort as their numbers do.
 */
export async function findSegmentAfter(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  name: string,
): Promise<string | undefined> {
  for await (const later of listSegmentsAfter(storage, cluster, systemIdentifier, name)) {
    return later.name
  }
  return undefined
}
