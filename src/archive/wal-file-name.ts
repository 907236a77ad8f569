/**
 * The names of files that PostgreSQL archives, and the keys of the objects that hold them
 * (docs/design/wal-archive.md, section 1). PostgreSQL: access/xlog_internal.h
 * (IsXLogFileName, IsPartialXLogFileName, IsTLHistoryFileName, IsBackupHistoryFileName).
 */
import { hash } from 'node:crypto'
import { parseHistoryFileName } from '../postgres/history-file.ts'
import { formatTimeline, type Timeline } from '../postgres/lsn.ts'
import { clusterPrefix } from '../repository/keys.ts'

export type WalFileKind = 'segment' | 'history' | 'label' | 'partial'

export interface WalFileName {
  readonly name: string
  readonly kind: WalFileKind
  readonly timeline: Timeline
  /** The 24 digits of the segment that the file is or belongs to; none for a history. */
  readonly segmentName: string | undefined
}

/** Undefined for a name that PostgreSQL never archives. */
export function parseWalFileName(name: string): WalFileName | undefined {
  const historyTimeline = parseHistoryFileName(name)
  if (historyTimeline !== undefined) {
    return { name, kind: 'history', timeline: historyTimeline, segmentName: undefined }
  }
  const match = /^([0-9A-F]{8}[0-9A-F]{16})(\.partial|\.[0-9A-F]{8}\.backup)?$/.exec(name)
  if (match === null) return undefined
  const segmentName = match[1] as string
  const timeline = Number.parseInt(segmentName.slice(0, 8), 16)
  if (timeline === 0) return undefined
  return { name, kind: kindOf(match[2]), timeline, segmentName }
}

function kindOf(suffix: string | undefined): WalFileKind {
  if (suffix === undefined) return 'segment'
  return suffix === '.partial' ? 'partial' : 'label'
}

export function walPrefix(cluster: string, systemIdentifier: string): string {
  return `${clusterPrefix(cluster)}wal/${systemIdentifier}/`
}

/**
 * What partials and quarantined bytes are named after: 16 digits of the SHA-256 of the digits of
 * hashContent(), which itself would show something of encrypted content.
 */
export function nameHash(contentHash: string): string {
  return hash('sha256', contentHash).slice(0, 16)
}

/** Prefix of all segments of one timeline. */
export function timelinePrefix(
  cluster: string,
  systemIdentifier: string,
  timeline: Timeline,
): string {
  return `${walPrefix(cluster, systemIdentifier)}${formatTimeline(timeline)}/`
}

/** `hash16`: nameHash() of the content, part of a partial's key; counts for no other kind. */
export function walKey(
  cluster: string,
  systemIdentifier: string,
  file: WalFileName,
  hash16: string,
): string {
  const prefix = walPrefix(cluster, systemIdentifier)
  if (file.kind === 'history') return `${prefix}${file.name}`
  if (file.kind === 'label') return `${prefix}labels/${file.name}`
  if (file.kind === 'partial') return `${prefix}partial/${file.name}-${hash16}`
  return segmentKey(cluster, systemIdentifier, file.name)
}

/** `name`: the 24 digits of a segment. */
export function segmentKey(cluster: string, systemIdentifier: string, name: string): string {
  const [timeline, middle] = [name.slice(0, 8), name.slice(8, 16)]
  return `${walPrefix(cluster, systemIdentifier)}${timeline}/${middle}/${name}.wal`
}

export function partialPrefix(cluster: string, systemIdentifier: string, name: string): string {
  return `${walPrefix(cluster, systemIdentifier)}partial/${name}-`
}

export function quarantineKey(
  cluster: string,
  systemIdentifier: string,
  name: string,
  hash16: string,
): string {
  return `${walPrefix(cluster, systemIdentifier)}quarantine/${name}-${hash16}`
}

/** The event index of a segment, which is derived from it. `name`: the 24 digits. */
export function eventsKey(cluster: string, systemIdentifier: string, name: string): string {
  const [timeline, middle] = [name.slice(0, 8), name.slice(8, 16)]
  const prefix = `${clusterPrefix(cluster)}events/${systemIdentifier}/`
  return `${prefix}${timeline}/${middle}/${name}.events`
}
