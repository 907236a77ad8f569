/**
 * Break marks: `wal/<sysid>/breaks/…`, the places in archived WAL that no recovery passes
 * (docs/design/repository-format.md, section 8). The key alone tells place and kind, so that the
 * listing of WAL, which everybody makes, shows them.
 *
 * Invariant: derived from a segment, the same whoever writes it; nothing is lost with one but
 * what `window` says without reading WAL.
 */
import {
  formatLsn,
  formatSegmentName,
  formatTimeline,
  type Lsn,
  lsn,
  segmentStart,
  type Timeline,
} from '../postgres/lsn.ts'
import { damagedObject, decodeEnvelope, encodeEnvelope } from '../repository/envelope.ts'
import type { Storage } from '../storage/storage.ts'
import { eventsKey, walPrefix } from './wal-file-name.ts'
import type { WalPlace } from './writer-record.ts'

/**
 * `minimal`: from here on wal_level=minimal. `reset`: WAL begins anew. `fpw-off`: from here on
 * full_page_writes=off, which a recovery passes.
 */
export type BreakKind = 'minimal' | 'reset' | 'fpw-off'

export interface WalBreak {
  /** Of the segment's name. */
  readonly timeline: Timeline
  /** Of the record that says so. */
  readonly lsn: Lsn
  readonly kind: BreakKind
}

export type BreakPlace = WalBreak & { readonly key: string }

export function breakPrefix(cluster: string, systemIdentifier: string): string {
  return `${walPrefix(cluster, systemIdentifier)}breaks/`
}

export function breakKey(cluster: string, systemIdentifier: string, mark: WalBreak): string {
  const digits = mark.lsn.toString(16).toUpperCase().padStart(16, '0')
  const timeline = formatTimeline(mark.timeline)
  return `${breakPrefix(cluster, systemIdentifier)}${timeline}/${digits}-${mark.kind}.break`
}

const BREAK_KEY = /\/breaks\/([0-9A-F]{8})\/([0-9A-F]{16})-(minimal|reset|fpw-off)\.break$/

/** Undefined for any other key. */
export function parseBreakKey(key: string): BreakPlace | undefined {
  const match = BREAK_KEY.exec(key)
  if (match === null) return undefined
  const timeline = Number.parseInt(match[1] as string, 16)
  return { timeline, lsn: lsn(BigInt(`0x${match[2]}`)), kind: match[3] as BreakKind, key }
}

/** Durable when fulfilled. Written anew where it is there: it is the same, or was damaged. */
export async function writeBreak(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  mark: WalBreak,
): Promise<void> {
  const { timeline, kind } = mark
  const value = { format: 1, systemIdentifier, timeline, lsn: formatLsn(mark.lsn), kind }
  const bytes = encodeEnvelope('BRKM', Buffer.from(JSON.stringify(value)))
  await storage.write(breakKey(cluster, systemIdentifier, mark), bytes)
}

/** TM1601 when it does not hold, or is not what its key says. */
export function proveBreak(key: string, systemIdentifier: string, bytes: Uint8Array): void {
  const named = parseBreakKey(key)
  const text = Buffer.from(decodeEnvelope(key, 'BRKM', bytes)).toString('utf8')
  const value = JSON.parse(text) as Record<string, unknown>
  const isOwn =
    value['format'] === 1 &&
    value['systemIdentifier'] === systemIdentifier &&
    value['timeline'] === named?.timeline &&
    named !== undefined &&
    value['lsn'] === formatLsn(named.lsn) &&
    value['kind'] === named.kind
  if (!isOwn) throw damagedObject(key, 'it is the mark of another break')
}

/**
 * Break records are shorter: one that begins nearer to the end of its segment may go on in the next
 * one.
 */
const LONGEST_BREAK_BYTES = 64n

/**
 * Those from the start of a segment on, when other WAL takes the place of what they were derived
 * from; and those whose record may go on there. What says so in the segment before may as well
 * lie wholly in it: its index goes first, so that it is computed again, marks and all.
 */
export async function removeBreaks(
  storage: Storage,
  place: WalPlace & { readonly timeline: Timeline; readonly walSegmentSizeBytes: number },
  segment: bigint,
): Promise<void> {
  const { cluster, systemIdentifier, timeline, walSegmentSizeBytes } = place
  const from = segmentStart(segment, walSegmentSizeBytes)
  const prefix = `${breakPrefix(cluster, systemIdentifier)}${formatTimeline(timeline)}/`
  const marks: BreakPlace[] = []
  for await (const { key } of storage.list(prefix)) {
    const mark = parseBreakKey(key)
    if (mark !== undefined && mark.lsn >= from - LONGEST_BREAK_BYTES) marks.push(mark)
  }
  if (marks.some((mark) => mark.lsn < from)) {
    const before = formatSegmentName(timeline, segment - 1n, walSegmentSizeBytes)
    await storage.remove(eventsKey(cluster, systemIdentifier, before))
  }
  for (const { key } of marks) await storage.remove(key)
}
