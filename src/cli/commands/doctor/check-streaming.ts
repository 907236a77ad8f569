/** Checks of a server whose WAL is streamed (`wal: { source: stream }`). */
import { Failure } from '../../../base/failure.ts'
import type { WalStreamConfiguration } from '../../../config/configuration.ts'
import { openReplicationSession } from '../../../postgres/replication-session.ts'
import { findSlot, isSlotLost, type SlotState } from '../../../postgres/replication-slot.ts'
import type { ServerSession } from '../../../postgres/server-session.ts'
import { type Check, failed, found, ok } from './check.ts'
import type { Settings } from './check-server.ts'

export interface StreamingPlace {
  readonly session: ServerSession
  /** With its password: for connecting only. */
  readonly connection: string
  readonly stream: WalStreamConfiguration
  readonly settings: Settings
}

export async function checkStreaming(place: StreamingPlace): Promise<Check[]> {
  const { session, connection, stream, settings } = place
  return [
    await checkReplication(connection),
    checkSlot(stream.slot, await findSlot(session, stream.slot)),
    checkSynchronousCommit(settings),
    checkPressure(settings, stream.onPressure),
  ]
}

/** Privilege, pg_hba.conf and max_wal_senders are all asked by a connection of that kind. */
async function checkReplication(connection: string): Promise<Check> {
  const name = 'replication'
  try {
    const session = await openReplicationSession({ connection, applicationName: 'tidemark doctor' })
    await session.close()
    return ok('TM1430', name, 'a replication connection is let in')
  } catch (error) {
    if (error instanceof Failure) return failed('TM1430', name, error)
    throw error
  }
}

/** Pure. */
export function checkSlot(slot: string, state: SlotState | undefined): Check {
  const name = 'replication slot'
  const start = 'start the receiver (tidemark wal receive); it makes the slot'
  if (state === undefined) {
    return found('problem', 'TM1431', name, `there is no slot ${slot}: no WAL is kept`, start)
  }
  if (!state.isPhysical) {
    const fix = 'give the receiver another name: wal: { slot: … }'
    return found('problem', 'TM1431', name, `${slot} is a logical slot`, fix)
  }
  if (isSlotLost(state)) {
    const fix = 'start the receiver, then take a backup: WAL is missing'
    return found('problem', 'TM1431', name, `${slot} was lost: WAL was removed`, fix)
  }
  if (state.activePid === undefined) {
    const detail = `nobody streams from ${slot}: WAL piles up on the server`
    return found('problem', 'TM1431', name, detail, 'start the receiver: tidemark wal receive')
  }
  return ok('TM1431', name, `${slot}, in use by process ${state.activePid}`)
}

/** The receiver applies nothing, so a commit that waits for that waits for ever. Pure. */
export function checkSynchronousCommit(settings: Settings): Check {
  const name = 'synchronous commit'
  const standbys = settings.get('synchronous_standby_names')?.value ?? ''
  const level = settings.get('synchronous_commit')?.value ?? ''
  const isOurs = /\btidemark\b|\*/.test(standbys)
  if (!isOurs) return ok('TM1432', name, 'does not wait for the receiver')
  if (level !== 'remote_apply') return ok('TM1432', name, `${level}, with the receiver`)
  const detail = 'synchronous_commit is remote_apply, and the receiver applies nothing'
  const fix = "ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf()"
  return found('problem', 'TM1432', name, detail, fix)
}

/** Pure. */
export function checkPressure(
  settings: Settings,
  onPressure: WalStreamConfiguration['onPressure'],
): Check {
  const name = 'WAL under pressure'
  const limit = settings.get('max_slot_wal_keep_size')?.value ?? '-1'
  const isUnlimited = limit === '-1'
  const present = isUnlimited ? 'the server keeps all WAL' : `the server keeps ${limit} of WAL`
  if (onPressure === undefined) {
    const detail = `${present} when the receiver is away, and nobody has decided that`
    return found(
      'warning',
      'TM1433',
      name,
      detail,
      'set wal: { onPressure: keep } or invalidateSlot',
    )
  }
  if (isUnlimited === (onPressure === 'keep'))
    return ok('TM1433', name, `${onPressure}: ${present}`)
  const detail = `onPressure is ${onPressure}, but ${present} when the receiver is away`
  const wanted = onPressure === 'keep' ? "'-1'" : "'64GB'"
  const fix = `ALTER SYSTEM SET max_slot_wal_keep_size = ${wanted}; SELECT pg_reload_conf()`
  return found('warning', 'TM1433', name, detail, fix)
}
