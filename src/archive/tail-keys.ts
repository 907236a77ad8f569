/**
 * The keys of tails: what was flushed of segments that are not complete (docs/design/tails.md,
 * section 1). Nothing is read here.
 */
import type { TimelineHistory } from '../postgres/history-file.ts'
import { parseSegmentName } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { timelinesOfSegment } from './find-gaps.ts'
import { walPrefix } from './wal-file-name.ts'

export interface TailPart {
  readonly key: string
  readonly sizeBytes: number | undefined
  /** Of a piece: offsets in the segment; a journal begins at 0 and ends where it ends. */
  readonly piece: { readonly from: number; readonly to: number } | undefined
}

/** What one opening of a sink has written of one segment. */
export interface ListedTail {
  /** The 24 digits. */
  readonly segment: string
  readonly opening: string
  readonly parts: readonly TailPart[]
}

/** Whose tails. */
export interface TailPlace {
  readonly cluster: string
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
}

const FOLDER = 'tails/'
const NAME = /^([0-9A-F]{24})\.([0-9a-f]{16})\.(?:journal|([0-9A-F]{8})-([0-9A-F]{8})\.piece)$/

export function tailsPrefix(cluster: string, systemIdentifier: string): string {
  return walPrefix(cluster, systemIdentifier) + FOLDER
}

/** Ends behind the segment's name: what the tails of one segment have in common. */
export function tailsOfSegmentPrefix(
  cluster: string,
  systemIdentifier: string,
  segment: string,
): string {
  return `${tailsPrefix(cluster, systemIdentifier)}${segment}.`
}

export function journalKey(
  cluster: string,
  systemIdentifier: string,
  segment: string,
  opening: string,
): string {
  return `${tailsPrefix(cluster, systemIdentifier)}${segment}.${opening}.journal`
}

export function pieceKey(
  cluster: string,
  systemIdentifier: string,
  segment: string,
  opening: string,
  from: number,
  to: number,
): string {
  const range = `${hex8(from)}-${hex8(to)}`
  return `${tailsPrefix(cluster, systemIdentifier)}${segment}.${opening}.${range}.piece`
}

function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, '0')
}

export interface TailName {
  readonly segment: string
  readonly opening: string
  readonly piece: TailPart['piece']
}

/** `name`: the key below `tails/`; undefined for one that the format does not know. */
export function parseTailName(name: string): TailName | undefined {
  const match = NAME.exec(name)
  if (match === null) return undefined
  const [, segment = '', opening = '', from, to] = match
  if (from === undefined || to === undefined) return { segment, opening, piece: undefined }
  const piece = { from: Number.parseInt(from, 16), to: Number.parseInt(to, 16) }
  return piece.from < piece.to ? { segment, opening, piece } : undefined
}

/** The tail's name in a whole key; undefined for keys of anything else. */
export function parseTailKey(key: string): TailName | undefined {
  const at = key.lastIndexOf(`/${FOLDER}`)
  return at < 0 ? undefined : parseTailName(key.slice(at + FOLDER.length + 1))
}

/** Tails by segment, then opening: the order of their keys. */
export function groupTails(parts: readonly TailPart[]): ListedTail[] {
  const groups = new Map<string, { segment: string; opening: string; parts: TailPart[] }>()
  for (const part of parts) {
    const name = parseTailKey(part.key)
    if (name === undefined) continue
    const id = `${name.segment}.${name.opening}`
    const group = groups.get(id) ?? { segment: name.segment, opening: name.opening, parts: [] }
    group.parts.push(part)
    groups.set(id, group)
  }
  return [...groups.values()]
}

/** Of these segments the first that the path takes behind `segment`. */
export function findFirstOnPath(
  path: TimelineHistory,
  names: readonly string[],
  segment: bigint,
  walSegmentSizeBytes: number,
): string | undefined {
  const behind = names.flatMap((name) => {
    const named = parseSegmentName(name, walSegmentSizeBytes)
    if (named === undefined || named.segment <= segment) return []
    const timelines = timelinesOfSegment(path, named.segment, walSegmentSizeBytes)
    return timelines.includes(named.timeline) ? [{ name, segment: named.segment }] : []
  })
  return behind.sort((a, b) => (a.segment < b.segment ? -1 : 1))[0]?.name
}

/** Of one segment, or of all. */
export async function listTails(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  segment?: string,
): Promise<ListedTail[]> {
  const prefix =
    segment === undefined
      ? tailsPrefix(cluster, systemIdentifier)
      : tailsOfSegmentPrefix(cluster, systemIdentifier, segment)
  const parts: TailPart[] = []
  for await (const { key, sizeBytes } of storage.list(prefix)) {
    const name = parseTailKey(key)
    if (name !== undefined) parts.push({ key, sizeBytes, piece: name.piece })
  }
  return groupTails(parts)
}
