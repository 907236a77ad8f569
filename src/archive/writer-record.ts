/**
 * Writer records: who writes a timeline in this repository (docs/design/repository-format.md,
 * section 12; docs/design/lineage.md, section 2).
 *
 * Invariant: a record that cannot be read says nothing, and stops nobody.
 */
import { now } from '../base/clock.ts'
import { formatTimeline, type Timeline } from '../postgres/lsn.ts'
import { damagedObject } from '../repository/envelope.ts'
import { decodeSmallObject, encodeSmallObject, findReadable } from '../repository/small-object.ts'
import type { Storage } from '../storage/storage.ts'
import { walPrefix } from './wal-file-name.ts'
import { isSameServer, type LocalWriter, type WriterIdentity } from './writer-identity.ts'

export interface WriterRecord {
  readonly timeline: Timeline
  readonly writer: WriterIdentity
  /** ISO 8601. */
  readonly since: string
  /** Those that `wal adopt` has decided against, the latest last. */
  readonly passedOver: readonly WriterIdentity[]
  /** What `wal adopt` took out of quarantine last: names of the first segment, and the history. */
  readonly adopted?: readonly string[]
}

/** Where the WAL of a server lies in a repository. */
export interface WalPlace {
  readonly cluster: string
  /** Decimal. */
  readonly systemIdentifier: string
}

export function writersPrefix({ cluster, systemIdentifier }: WalPlace): string {
  return `${walPrefix(cluster, systemIdentifier)}writers/`
}

export function writerKey(place: WalPlace, timeline: Timeline): string {
  return `${writersPrefix(place)}${formatTimeline(timeline)}.writer`
}

/** `unreadable`: there is one, and it says nothing. */
export async function findWriterRecord(
  storage: Storage,
  place: WalPlace,
  timeline: Timeline,
): Promise<WriterRecord | 'unreadable' | undefined> {
  const key = writerKey(place, timeline)
  return await findReadable(storage, key, (bytes) => decodeWriterRecord(key, timeline, bytes))
}

/** Replaces what is there. */
export async function writeWriterRecord(
  storage: Storage,
  place: WalPlace,
  record: WriterRecord,
): Promise<void> {
  await storage.write(writerKey(place, record.timeline), formatWriterRecord(record))
}

export type Standing = 'first' | 'same' | 'restarted' | 'other' | 'passed-over'

/** What the record says of a server that wants to write. Pure. */
export function judgeStanding(
  record: WriterRecord | 'unreadable' | undefined,
  writer: WriterIdentity,
): Standing {
  if (record === undefined || record === 'unreadable') return 'first'
  if (isSameServer(record.writer, writer)) {
    return record.writer.startedAt === writer.startedAt ? 'same' : 'restarted'
  }
  return record.passedOver.some((one) => isSameServer(one, writer)) ? 'passed-over' : 'other'
}

/** The record that names `writer` from now on. Pure, but for the time. */
export function succeed(
  record: WriterRecord | 'unreadable' | undefined,
  timeline: Timeline,
  writer: LocalWriter,
): WriterRecord {
  const { isStandby: _, ...identity } = writer
  const known = record === 'unreadable' ? undefined : record
  const isNew = known === undefined || !isSameServer(known.writer, writer)
  const since = isNew ? now().toISOString() : known.since
  const { passedOver = [], adopted } = known ?? {}
  return { timeline, writer: identity, since, passedOver, ...(adopted && { adopted }) }
}

export function formatWriterRecord(record: WriterRecord): Uint8Array {
  return encodeSmallObject('WRIT', record)
}

/** TM1601 for anything that is no record of that timeline. */
export function decodeWriterRecord(
  key: string,
  timeline: Timeline,
  bytes: Uint8Array,
): WriterRecord {
  const record = parseWriterRecord(timeline, decodeSmallObject(key, 'WRIT', bytes))
  if (record !== undefined) return record
  throw damagedObject(key, 'it does not say who writes this timeline')
}

function parseWriterRecord(
  timeline: Timeline,
  fields: Readonly<Record<string, unknown>>,
): WriterRecord | undefined {
  const { timeline: named, writer, since, passedOver, adopted } = fields
  const others: unknown[] = Array.isArray(passedOver) ? passedOver : []
  if (named !== timeline || !isWriter(writer) || !others.every(isWriter)) return undefined
  const record = { timeline, writer, since: String(since ?? ''), passedOver: others }
  return Array.isArray(adopted) ? { ...record, adopted: adopted.map(String) } : record
}

function isWriter(value: unknown): value is WriterIdentity {
  if (typeof value !== 'object' || value === null) return false
  const { host, hostName, dataDirectory, device, inode, startedAt } = value as Record<
    string,
    unknown
  >
  const texts = [host, hostName, dataDirectory, device, inode]
  const hasStart = startedAt === null || typeof startedAt === 'number'
  return hasStart && texts.every((text) => typeof text === 'string')
}
