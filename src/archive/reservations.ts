/**
 * Numbers of timelines that restores have reserved for the servers that will take over
 * (docs/design/repository-format.md, section 12; docs/design/lineage.md, section 4).
 *
 * Invariant: of several that want one number in a repository exactly one gets it. A reservation
 * that cannot be read is another's.
 */
import { type Failure, isFailure } from '../base/failure.ts'
import { parseHistoryFileName } from '../postgres/history-file.ts'
import { formatTimeline, type Timeline } from '../postgres/lsn.ts'
import { damagedObject } from '../repository/envelope.ts'
import { decodeSmallObject, encodeSmallObject, findReadable } from '../repository/small-object.ts'
import type { Storage } from '../storage/storage.ts'
import { parseSegmentKey } from './list-segments.ts'
import { parseWalFileName, type WalFileName, walPrefix } from './wal-file-name.ts'
import type { WalPlace } from './writer-record.ts'

export interface Reservation {
  readonly timeline: Timeline
  readonly restoreId: string
  /** It goes with this backup, when it is never used. */
  readonly backup: string
  readonly hostName: string
  readonly dataDirectory: string
  /** ISO 8601. */
  readonly reservedAt: string
}

export function reservedPrefix({ cluster, systemIdentifier }: WalPlace): string {
  return `${walPrefix(cluster, systemIdentifier)}reserved/`
}

export function reservationKey(place: WalPlace, timeline: Timeline): string {
  return `${reservedPrefix(place)}${formatTimeline(timeline)}.reserved`
}

/** `unreadable`: there is one, and nobody knows whose. */
export async function findReservation(
  storage: Storage,
  place: WalPlace,
  timeline: Timeline,
): Promise<Reservation | 'unreadable' | undefined> {
  const key = reservationKey(place, timeline)
  return await findReadable(storage, key, (bytes) => decodeReservation(key, timeline, bytes))
}

export async function listReservations(
  storage: Storage,
  place: WalPlace,
): Promise<Map<Timeline, Reservation | 'unreadable'>> {
  const found = new Map<Timeline, Reservation | 'unreadable'>()
  const prefix = reservedPrefix(place)
  for await (const { key } of storage.list(prefix)) {
    const timeline = parseTimelineName(key.slice(prefix.length))
    if (timeline === undefined) continue
    const reservation = await findReservation(storage, place, timeline)
    if (reservation !== undefined) found.set(timeline, reservation)
  }
  return found
}

/** `0000000N.reserved`, `0000000N.writer`. */
export function parseTimelineName(name: string): Timeline | undefined {
  const digits = /^([0-9A-F]{8})\.(?:reserved|writer)$/.exec(name)?.[1]
  const timeline = digits === undefined ? 0 : Number.parseInt(digits, 16)
  return timeline === 0 ? undefined : timeline
}

/**
 * Reserves a number in every storage, the first above all that any of them knows and above
 * `above`. Undefined: none could be reserved; `failures` tells of storages that cannot be written
 * to, where it is not.
 */
export async function reserveTimeline(
  storages: readonly Storage[],
  place: WalPlace,
  above: Timeline,
  describe: (timeline: Timeline) => Reservation,
): Promise<{ timeline: Timeline | undefined; failures: readonly Failure[] }> {
  const failures: Failure[] = []
  const writable: Storage[] = []
  let highest = above
  for (const storage of storages) {
    try {
      highest = Math.max(highest, await findHighestTimeline(storage, place))
      writable.push(storage)
    } catch (error) {
      if (!isFailure(error)) throw error
      failures.push(error)
    }
  }
  for (let timeline = highest + 1; ; timeline++) {
    const created: Storage[] = []
    let isTaken = false
    for (const storage of [...writable]) {
      const outcome = await create(storage, place, describe(timeline))
      if (outcome === 'created') created.push(storage)
      else if (outcome === 'taken') isTaken = true
      else {
        failures.push(outcome.error)
        writable.splice(writable.indexOf(storage), 1)
      }
      if (isTaken) break
    }
    if (!isTaken) return { timeline: created.length > 0 ? timeline : undefined, failures }
    await giveUp(created, place, timeline)
  }
}

/** Where objects are locked it stays until its backup expires: the next number is free. */
async function giveUp(
  created: readonly Storage[],
  place: WalPlace,
  timeline: Timeline,
): Promise<void> {
  for (const storage of created) {
    try {
      await release([storage], place, timeline)
    } catch (error) {
      if (!isFailure(error)) throw error
    }
  }
}

async function create(
  storage: Storage,
  place: WalPlace,
  reservation: Reservation,
): Promise<'created' | 'taken' | { readonly error: Failure }> {
  const bytes = encodeReservation(reservation)
  const key = reservationKey(place, reservation.timeline)
  try {
    await storage.write(key, bytes, { createOnly: true })
    return 'created'
  } catch (error) {
    if (!isFailure(error)) throw error
    return error.code === 'TM1502' ? 'taken' : { error }
  }
}

export async function release(
  storages: readonly Storage[],
  place: WalPlace,
  timeline: Timeline,
): Promise<void> {
  for (const storage of storages) await storage.remove(reservationKey(place, timeline))
}

/**
 * The history that was archived says more than the reservation of its number. Where objects cannot
 * be removed it stays, and does no harm.
 */
export async function dropOwnReservation(
  storage: Storage,
  stored: WalPlace & { readonly file: WalFileName; readonly restoreId: string | undefined },
): Promise<void> {
  const { file, restoreId } = stored
  if (file.kind !== 'history' || restoreId === undefined) return
  const reservation = await findReservation(storage, stored, file.timeline)
  if (typeof reservation !== 'object' || reservation.restoreId !== restoreId) return
  try {
    await release([storage], stored, file.timeline)
  } catch (error) {
    if (!isFailure(error)) throw error
  }
}

/**
 * The highest number that is in use in any form: of a history, a segment, a label, in quarantine,
 * of a writer, reserved.
 */
export async function findHighestTimeline(storage: Storage, place: WalPlace): Promise<Timeline> {
  const prefix = walPrefix(place.cluster, place.systemIdentifier)
  let highest = 0
  for await (const { key } of storage.list(prefix)) {
    highest = Math.max(highest, timelineOfKey(key, key.slice(prefix.length)))
  }
  return highest
}

function timelineOfKey(key: string, path: string): Timeline {
  const segment = parseSegmentKey(key)
  if (segment !== undefined) return Number.parseInt(segment.slice(0, 8), 16)
  const name = path.slice(path.lastIndexOf('/') + 1)
  const history = parseHistoryFileName(name)
  if (history !== undefined) return history
  const numbered = parseTimelineName(name)
  if (numbered !== undefined) return numbered
  return parseWalFileName(name.replace(/-[0-9a-f]{16}(\.damaged)?$/, ''))?.timeline ?? 0
}

export function encodeReservation(reservation: Reservation): Uint8Array {
  return encodeSmallObject('RSVD', reservation)
}

/** TM1601 for anything that is no reservation of that number. */
export function decodeReservation(key: string, timeline: Timeline, bytes: Uint8Array): Reservation {
  const reservation = parseReservation(timeline, decodeSmallObject(key, 'RSVD', bytes))
  if (reservation !== undefined) return reservation
  throw damagedObject(key, 'it does not say who has reserved this number')
}

function parseReservation(
  timeline: Timeline,
  fields: Readonly<Record<string, unknown>>,
): Reservation | undefined {
  const { timeline: named, restoreId, backup, hostName, dataDirectory, reservedAt } = fields
  if (named !== timeline) return undefined
  if (typeof restoreId !== 'string' || typeof backup !== 'string') return undefined
  const [host, directory, at] = [hostName, dataDirectory, reservedAt].map((text) =>
    String(text ?? ''),
  ) as [string, string, string]
  const base = { timeline, restoreId, backup }
  return { ...base, hostName: host, dataDirectory: directory, reservedAt: at }
}
