/**
 * The slots of standbys: created where they are missing, and moved behind the archive, so that
 * a standby that is promoted has what the receiver still lacks.
 *
 * Invariant: none is moved beyond what is durable in all required repositories.
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { ConnectionDefaults } from '../postgres/connection-url.ts'
import { type Lsn, segmentNumber, segmentStart } from '../postgres/lsn.ts'
import { advanceSlot, ensureSlot } from '../postgres/replication-slot.ts'
import { openServerSession } from '../postgres/server-session.ts'

export interface StandbySlotOptions {
  readonly connections: readonly string[]
  readonly defaults: ConnectionDefaults | undefined
  readonly slot: string
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  /** Durable in all required repositories; undefined: nothing yet. */
  readonly flushed: Lsn | undefined
}

/** TM1429 for each standby that keeps nothing for us. */
export async function keepStandbySlots(options: StandbySlotOptions): Promise<Failure[]> {
  const results = await Promise.all(
    options.connections.map(async (connection) => await keepOne(options, connection)),
  )
  return results.filter((result) => result !== undefined)
}

async function keepOne(
  options: StandbySlotOptions,
  connection: string,
): Promise<Failure | undefined> {
  const { defaults, slot, systemIdentifier, flushed, walSegmentSizeBytes } = options
  try {
    const access = defaults === undefined ? {} : { defaults }
    const applicationName = 'tidemark wal receive'
    const session = await openServerSession({ connection, applicationName, ...access })
    try {
      if (session.facts.systemIdentifier.toString() !== systemIdentifier) {
        return noSlot(session.address, 'it is a server of another system', undefined)
      }
      await ensureSlot(session, slot)
      if (flushed === undefined) return undefined
      const size = walSegmentSizeBytes
      await advanceSlot(session, slot, segmentStart(segmentNumber(flushed, size), size))
      return undefined
    } finally {
      await session.close()
    }
  } catch (error) {
    if (!isFailure(error)) throw error
    return noSlot('a standby', `${error.message}: ${error.because ?? ''}`, error)
  }
}

function noSlot(where: string, because: string, cause: unknown): Failure {
  return new Failure('TM1429', {
    message: `${where} keeps no WAL for the receiver`,
    because,
    fix: 'check wal.standbys; if that standby is promoted now, WAL may be missing there',
    cause,
  })
}
