/**
 * Physical replication slots: what they are, and the one that keeps WAL for us
 * (docs/design/receive.md, section 7).
 *
 * Invariant: a slot that ensureSlot() returned keeps WAL from its restart position on.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { isServerError } from './connect-failure.ts'
import { type Lsn, parseLsn } from './lsn.ts'
import type { ServerSession } from './server-session.ts'

export interface SlotState {
  readonly isPhysical: boolean
  readonly activePid: number | undefined
  /** Undefined: it keeps nothing, because it never was used or because it was lost. */
  readonly restartLsn: Lsn | undefined
  /** `reserved`, `extended`, `unreserved`, `lost`; undefined while it keeps nothing. */
  readonly walStatus: string | undefined
  /** From 17 on: why the server gave it up. */
  readonly invalidationReason: string | undefined
}

interface SlotRow extends Record<string, unknown> {
  readonly slot_type: string
  readonly active_pid: number | null
  readonly restart_lsn: string | null
  readonly wal_status: string | null
  readonly invalidation_reason?: string | null
}

export async function findSlot(
  server: ServerSession,
  name: string,
): Promise<SlotState | undefined> {
  const reason = server.facts.version.major >= 17 ? ', invalidation_reason' : ''
  const [row] = await server.query<SlotRow>(
    `SELECT slot_type, active_pid, restart_lsn::text, wal_status${reason}
       FROM pg_replication_slots WHERE slot_name = $1`,
    [name],
    'read pg_replication_slots',
  )
  if (row === undefined) return undefined
  return {
    isPhysical: row.slot_type === 'physical',
    activePid: row.active_pid ?? undefined,
    restartLsn: row.restart_lsn === null ? undefined : parseLsn(row.restart_lsn),
    walStatus: row.wal_status ?? undefined,
    invalidationReason: row.invalidation_reason ?? undefined,
  }
}

/** The server gave its WAL up; it can only be made anew. */
export function isSlotLost({ walStatus, invalidationReason }: SlotState): boolean {
  return walStatus === 'lost' || invalidationReason !== undefined
}

/** `created`: there was none. `renewed`: there was one that kept nothing. */
export type SlotOutcome = 'found' | 'created' | 'renewed'

export interface EnsuredSlot {
  readonly outcome: SlotOutcome
  readonly restartLsn: Lsn
  /** Of one that was renewed: why, when it had been lost. */
  readonly lostBecause: string | undefined
}

/** TM1423: another process uses it, or it is a logical one. TM1428: none can be made. */
export async function ensureSlot(server: ServerSession, name: string): Promise<EnsuredSlot> {
  const before = await findSlot(server, name)
  if (before !== undefined && !before.isPhysical) throw logicalSlot(name)
  if (before?.restartLsn !== undefined && !isSlotLost(before)) {
    return { outcome: 'found', restartLsn: before.restartLsn, lostBecause: undefined }
  }
  if (before !== undefined) await dropSlot(server, name)
  const restartLsn = await createSlot(server, name)
  const outcome = before === undefined ? 'created' : 'renewed'
  return { outcome, restartLsn, lostBecause: describeLoss(before) }
}

function describeLoss(slot: SlotState | undefined): string | undefined {
  if (slot === undefined || !isSlotLost(slot)) return undefined
  if (slot.invalidationReason !== undefined) return `invalidation_reason ${slot.invalidationReason}`
  return 'wal_status lost: it needed more than max_slot_wal_keep_size'
}

async function createSlot(server: ServerSession, name: string): Promise<Lsn> {
  try {
    const [row] = await server.query<{ lsn: string | null }>(
      'SELECT lsn::text FROM pg_create_physical_replication_slot($1, true)',
      [name],
      `create the replication slot ${name}`,
    )
    const created = row?.lsn === null || row === undefined ? undefined : parseLsn(row.lsn)
    if (created === undefined) throw new Error(`the new slot ${name} has no position`)
    return created
  } catch (error) {
    throw cannotCreate(name, error)
  }
}

async function dropSlot(server: ServerSession, name: string): Promise<void> {
  try {
    await server.query('SELECT pg_drop_replication_slot($1)', [name], `drop the slot ${name}`)
  } catch (error) {
    if (sqlStateOf(error) !== OBJECT_IN_USE) throw error
    throw slotInUse(name, error)
  }
}

/** The slot keeps WAL from `to` on; never moved back, nor beyond what a standby has replayed. */
export async function advanceSlot(server: ServerSession, name: string, to: Lsn): Promise<void> {
  await server.query(
    `SELECT pg_replication_slot_advance($1, least($2::pg_lsn, $3::pg_lsn))
       FROM pg_replication_slots
      WHERE slot_name = $1 AND restart_lsn < least($2::pg_lsn, $3::pg_lsn)`,
    [name, asText(to), await readReplayEnd(server)],
    `advance the replication slot ${name}`,
  )
}

async function readReplayEnd(server: ServerSession): Promise<string> {
  const [row] = await server.query<{ lsn: string }>(
    `SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
             ELSE pg_current_wal_flush_lsn() END)::text AS lsn`,
    [],
    'say where its WAL ends',
  )
  return row?.lsn ?? '0/0'
}

function asText(value: Lsn): string {
  return `${(value >> 32n).toString(16)}/${(value & 0xffffffffn).toString(16)}`
}

const OBJECT_IN_USE = '55006'
const CONFIGURATION_LIMIT = '53400'
const NOT_IN_PREREQUISITE_STATE = '55000'

function sqlStateOf(error: unknown): string | undefined {
  return isFailure(error) && isServerError(error.cause) ? error.cause.code : undefined
}

export function slotInUse(name: string, cause: unknown): Failure {
  return new Failure('TM1423', {
    message: `the replication slot ${name} is in use`,
    because: isFailure(cause)
      ? (cause.because ?? cause.message)
      : 'another process streams from it',
    fix:
      'stop the other receiver, or give this one a slot of its own; after a cut connection ' +
      'wait for wal_sender_timeout',
    cause,
  })
}

function logicalSlot(name: string): Failure {
  return new Failure('TM1423', {
    message: `the replication slot ${name} cannot be used`,
    because: 'it is a logical slot',
    fix: 'give the receiver another name: wal: { slot: … }',
  })
}

function cannotCreate(name: string, error: unknown): unknown {
  const sqlState = sqlStateOf(error)
  const isKnown =
    sqlState === CONFIGURATION_LIMIT ||
    sqlState === NOT_IN_PREREQUISITE_STATE ||
    sqlState === '42501'
  if (!isKnown || !isFailure(error)) return error
  return new Failure('TM1428', {
    message: `the replication slot ${name} cannot be created`,
    because: error.because ?? error.message,
    fix:
      sqlState === '42501'
        ? 'give the role of the connection the attribute REPLICATION'
        : "set wal_level = 'replica' and a higher max_replication_slots, then restart the server",
    cause: error,
  })
}
