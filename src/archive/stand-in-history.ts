/**
 * What `wal get` answers a server that is about to take over when it asks which numbers of
 * timelines are free (docs/design/lineage.md, section 4).
 *
 * Invariant: a stand-in is given only to a restored directory in recovery, only for numbers
 * that no history is archived under, and only above the target's timeline: PostgreSQL looks whether
 * such a file is there, passes over the number, and reads none of it (existsTimeLineHistory).
 */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describeSystemError } from '../base/failure.ts'
import { parseHistoryFileName } from '../postgres/history-file.ts'
import type { Timeline } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { isAbsence, notWhole } from './read-wal-file.ts'
import { findReservation } from './reservations.ts'
import { parseTakeOver, RESTORED_MARKER, type TakeOver } from './restored-marker.ts'
import { writeDestination } from './write-destination.ts'
import type { WalPlace } from './writer-record.ts'

export interface StandInRequest extends WalPlace {
  readonly storages: readonly Storage[]
  /** A history that is proved to be in none of them. */
  readonly name: string
  readonly destination: string
  /** Where the server that asks may live; the first with a marker counts. */
  readonly dataDirectories: readonly string[]
}

/** True: a stand-in was written to the destination. */
export async function giveStandIn(request: StandInRequest): Promise<boolean> {
  const timeline = parseHistoryFileName(request.name)
  if (timeline === undefined) return false
  const asking = await findRecovering(request.dataDirectories)
  if (asking === undefined || timeline <= (asking.timeline ?? Number.POSITIVE_INFINITY)) {
    return false
  }
  const own = asking.reservedTimeline
  if (timeline === own) return false
  const isBelow = own !== undefined && timeline < own
  if (!isBelow && !(await isReservedByOthers(request, timeline, asking))) return false
  const text = `# timeline ${timeline} is passed over: tidemark restore has reserved another\n`
  await writeDestination(request.destination, Buffer.from(text), false)
  return true
}

/** A take-over whose recovery has not ended, and that is no standby. */
async function findRecovering(directories: readonly string[]): Promise<TakeOver | undefined> {
  for (const directory of directories) {
    const marker = await findText(join(directory, RESTORED_MARKER))
    if (marker === undefined) continue
    if (!(await isThere(join(directory, 'recovery.signal')))) return undefined
    if (await isThere(join(directory, 'standby.signal'))) return undefined
    return parseTakeOver(marker)
  }
  return undefined
}

async function isReservedByOthers(
  { storages, cluster, systemIdentifier }: StandInRequest,
  timeline: Timeline,
  { restoreId }: TakeOver,
): Promise<boolean> {
  for (const storage of storages) {
    const found = await findReservation(storage, { cluster, systemIdentifier }, timeline)
    if (found === 'unreadable') return true
    if (found !== undefined && found.restoreId !== restoreId) return true
  }
  return false
}

async function findText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw notWhole(path, describeSystemError(error), error)
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (isAbsence(error)) return false
    throw notWhole(path, describeSystemError(error), error)
  }
}
