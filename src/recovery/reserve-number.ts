/**
 * Reserves the number of the timeline that a server will take when it takes over
 * (docs/design/lineage.md, section 4).
 *
 * Invariant: a restore that ends without a directory that can be started holds no number.
 */
import { hostname } from 'node:os'
import {
  listReservations,
  type Reservation,
  release,
  reserveTimeline,
} from '../archive/reservations.ts'
import type { WalPlace } from '../archive/writer-record.ts'
import { now } from '../base/clock.ts'
import { type Failure, isFailure } from '../base/failure.ts'
import type { Timeline } from '../postgres/lsn.ts'
import { findSystemIdentity } from '../repository/system-identity.ts'
import { openStorage, type StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'

export interface NumberRequest extends WalPlace {
  readonly storage: StorageSpecification
  readonly restoreId: string
  readonly backup: string
  readonly dataDirectory: string
  /** The target's timeline. */
  readonly timeline: Timeline
  /** The restore that this one replaces, whose number is given back. */
  readonly unfinished: string | undefined
}

export interface ReservedNumber {
  /** Undefined: no repository could be written to. */
  readonly timeline: Timeline | undefined
  /** Sentences for the person. */
  readonly notes: readonly string[]
  /** Never fails: what stays goes with its backup. */
  giveBack(): Promise<void>
}

export async function reserveNumber(request: NumberRequest): Promise<ReservedNumber> {
  const storages = await openAll(request)
  try {
    if (request.unfinished !== undefined) {
      await releaseOf(storages, request, request.unfinished)
    }
    const { restoreId, backup, dataDirectory } = request
    const describe = (timeline: Timeline): Reservation => ({
      timeline,
      restoreId,
      backup,
      hostName: hostname(),
      dataDirectory,
      reservedAt: now().toISOString(),
    })
    const reserved = await reserveTimeline(storages, request, request.timeline, describe)
    const notes = reserved.failures.map(describeFailure)
    if (reserved.timeline === undefined) notes.push(NOT_RESERVED)
    return { timeline: reserved.timeline, notes, giveBack: async () => await giveBack(request) }
  } finally {
    for (const storage of storages) await storage.close()
  }
}

const NOT_RESERVED =
  'no number could be reserved for the timeline of this server: if another one takes over ' +
  'meanwhile, the second of them to archive is refused'

function describeFailure({ message, because }: Failure): string {
  const why = because === undefined ? message : `${message}: ${because}`
  return `the number of the timeline is not reserved everywhere: ${why}`
}

async function giveBack(request: NumberRequest): Promise<void> {
  const storages = await openAll(request)
  for (const storage of storages) {
    await releaseOf([storage], request, request.restoreId).catch(ignoreFailure)
    await storage.close()
  }
}

async function releaseOf(
  storages: readonly Storage[],
  place: WalPlace,
  restoreId: string,
): Promise<void> {
  for (const storage of storages) {
    try {
      for (const [timeline, found] of await listReservations(storage, place)) {
        const isOwn = typeof found === 'object' && found.restoreId === restoreId
        if (isOwn) await release([storage], place, timeline)
      }
    } catch (error) {
      ignoreFailure(error)
    }
  }
}

/** Those that know the server, all in the same order for every restore. */
async function openAll({ storage, cluster, systemIdentifier }: NumberRequest): Promise<Storage[]> {
  const { fallbacks = [], ...nearest } = storage
  const all = [nearest, ...fallbacks].sort((a, b) => (a.url < b.url ? -1 : 1))
  const opened: Storage[] = []
  for (const specification of all) {
    const one = await openStorage(specification)
    const identity = await findSystemIdentity(one, cluster, systemIdentifier).catch(ignoreFailure)
    if (identity === undefined) await one.close()
    else opened.push(one)
  }
  return opened
}

function ignoreFailure(error: unknown): undefined {
  if (!isFailure(error)) throw error
}
