/**
 * Keys of event indexes and of snapshots of names (docs/design/event-index.md, section 2).
 */
import { formatTimeline, type Lsn, lsn, type Timeline } from '../postgres/lsn.ts'
import { clusterPrefix } from '../repository/keys.ts'

export function eventsPrefix(cluster: string, systemIdentifier: string): string {
  return `${clusterPrefix(cluster)}events/${systemIdentifier}/`
}

/** `name`: the 24 digits of a segment. */
export function eventsKey(cluster: string, systemIdentifier: string, name: string): string {
  const [timeline, middle] = [name.slice(0, 8), name.slice(8, 16)]
  return `${eventsPrefix(cluster, systemIdentifier)}${timeline}/${middle}/${name}.events`
}

const EVENTS_KEY = /\/events\/[^/]+\/([0-9A-F]{8})\/([0-9A-F]{8})\/([0-9A-F]{24})\.events$/

/** The segment that the key of an index names, or undefined for any other key. */
export function parseEventsKey(key: string): string | undefined {
  const match = EVENTS_KEY.exec(key)
  const name = match?.[3]
  if (match === null || name === undefined) return undefined
  return name.startsWith(`${match[1]}${match[2]}`) ? name : undefined
}

export function namesPrefix(cluster: string, systemIdentifier: string): string {
  return `${clusterPrefix(cluster)}names/${systemIdentifier}/`
}

export interface NamesPlace {
  readonly timeline: Timeline
  readonly lsn: Lsn
}

export function namesKey(cluster: string, systemIdentifier: string, place: NamesPlace): string {
  const digits = place.lsn.toString(16).toUpperCase().padStart(16, '0')
  const timeline = formatTimeline(place.timeline)
  return `${namesPrefix(cluster, systemIdentifier)}${timeline}/${digits}.names`
}

/** Where a snapshot was read, or undefined for any other key. */
export function parseNamesKey(key: string): NamesPlace | undefined {
  const match = /\/names\/[^/]+\/([0-9A-F]{8})\/([0-9A-F]{16})\.names$/.exec(key)
  if (match === null) return undefined
  return {
    timeline: Number.parseInt(match[1] as string, 16),
    lsn: lsn(BigInt(`0x${match[2]}`)),
  }
}
