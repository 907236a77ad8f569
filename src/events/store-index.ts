/**
 * Event indexes as objects of a repository (docs/design/event-index.md, sections 2 and 8).
 *
 * Invariant: what is read has passed its hashes, and is of the segment that its key names.
 */
import { isFailure } from '../base/failure.ts'
import { parseSegmentName } from '../postgres/lsn.ts'
import { damagedObject } from '../repository/envelope.ts'
import type { Storage } from '../storage/storage.ts'
import { decodeEvents, decodePages } from './index-bytes/decode-index.ts'
import { encodeIndex } from './index-bytes/encode-index.ts'
import { decodeHeader, INDEX_HEADER_BYTES, type StoredHeader } from './index-bytes/header.ts'
import { eventsKey } from './index-keys.ts'
import type { ChangedFork, IndexHeader, SegmentEvents, SegmentIndex } from './segment-index.ts'

export interface IndexedArchive {
  readonly cluster: string
  /** Decimal. */
  readonly systemIdentifier: string
}

/** Undefined when it is not there; TM1601 when it is damaged. */
export async function findIndexHeader(
  storage: Storage,
  archive: IndexedArchive,
  name: string,
): Promise<IndexHeader | undefined> {
  const key = eventsKey(archive.cluster, archive.systemIdentifier, name)
  const bytes = await storage.readRange(key, 0, INDEX_HEADER_BYTES)
  return bytes === undefined ? undefined : requireOwn(key, name, archive, bytes).header
}

/** Undefined when it is not there; TM1601 when it is damaged. */
export async function findIndexEvents(
  storage: Storage,
  archive: IndexedArchive,
  name: string,
): Promise<{ readonly header: IndexHeader; readonly events: SegmentEvents } | undefined> {
  const key = eventsKey(archive.cluster, archive.systemIdentifier, name)
  const bytes = await storage.read(key)
  if (bytes === undefined) return undefined
  const stored = requireOwn(key, name, archive, bytes)
  const section = bufferOf(bytes).subarray(INDEX_HEADER_BYTES)
  const events = decodeEvents(key, stored, section.subarray(0, stored.events.storedBytes))
  return { header: stored.header, events }
}

/** The changed pages alone; the record that crosses into the next segment is not among them. */
export async function findChangedPages(
  storage: Storage,
  archive: IndexedArchive,
  name: string,
): Promise<ChangedFork[] | undefined> {
  const key = eventsKey(archive.cluster, archive.systemIdentifier, name)
  const bytes = await storage.readRange(key, 0, INDEX_HEADER_BYTES)
  if (bytes === undefined) return undefined
  const stored = requireOwn(key, name, archive, bytes)
  const from = INDEX_HEADER_BYTES + stored.events.storedBytes
  const section = await storage.readRange(key, from, stored.pages.storedBytes)
  return section === undefined ? undefined : decodePages(key, stored, bufferOf(section))
}

/** Proves a whole object; TM1601 when anything does not hold. `name`: the segment of the key. */
export function proveIndex(
  key: string,
  name: string,
  archive: IndexedArchive,
  bytes: Uint8Array,
): SegmentIndex {
  const stored = requireOwn(key, name, archive, bytes)
  const sections = bufferOf(bytes).subarray(INDEX_HEADER_BYTES)
  const { storedBytes } = stored.events
  const events = decodeEvents(key, stored, sections.subarray(0, storedBytes))
  const pages = decodePages(key, stored, sections.subarray(storedBytes))
  return { header: stored.header, events, pages }
}

function requireOwn(
  key: string,
  name: string,
  archive: IndexedArchive,
  bytes: Uint8Array,
): StoredHeader {
  const stored = decodeHeader(key, bufferOf(bytes))
  const { header } = stored
  const named = parseSegmentName(name, header.walSegmentSizeBytes)
  const isOwn =
    named?.timeline === header.timeline &&
    named.segment * BigInt(header.walSegmentSizeBytes) === header.segmentStart &&
    header.systemIdentifier.toString() === archive.systemIdentifier
  if (!isOwn) throw damagedObject(key, 'it is the index of another segment')
  return stored
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Encoded once, written to every storage; resolves with those that failed. */
export async function writeIndex(
  storages: readonly Storage[],
  archive: IndexedArchive,
  name: string,
  index: SegmentIndex,
): Promise<{ readonly bytes: number; readonly failures: readonly IndexFailure[] }> {
  const key = eventsKey(archive.cluster, archive.systemIdentifier, name)
  const bytes = encodeIndex(index)
  const results = await Promise.allSettled(
    storages.map(async (storage) => await storage.write(key, bytes)),
  )
  const failures = results.flatMap((result, n): IndexFailure[] => {
    if (result.status === 'fulfilled') return []
    if (!isFailure(result.reason)) throw result.reason
    return [{ url: (storages[n] as Storage).url, failure: result.reason }]
  })
  return { bytes: bytes.length, failures }
}

export interface IndexFailure {
  readonly url: string
  readonly failure: Error
}
