/**
 * The end-to-end proof: makes the server finish a segment, and reads that very segment
 * back from every repository, decoded and verified.
 */
import { findWalFile } from '../../../archive/fetch-wal.ts'
import { segmentKey } from '../../../archive/wal-file-name.ts'
import { monotonicMs, sleep } from '../../../base/clock.ts'
import { Failure } from '../../../base/failure.ts'
import type { ServerSession } from '../../../postgres/server-session.ts'
import type { Storage } from '../../../storage/storage.ts'
import { formatDuration } from '../../format-units.ts'
import { type Check, failed, found, ok } from './check.ts'
import { readArchiverState } from './read-server.ts'

export interface ProofOptions {
  readonly session: ServerSession
  readonly storages: readonly Storage[]
  readonly cluster: string
  readonly systemIdentifier: string
  readonly walSource: 'archive_command' | 'stream'
  readonly signal: AbortSignal
}

const NAME = 'proof'
const LIMIT_MS = 60_000
const POLL_MS = 50
/** The archiver tries thrice in a row, then pauses for a minute (pgarch.c, NUM_ARCHIVE_RETRIES). */
const FAILURES_IN_A_ROW = 3

export async function proveArchiving(options: ProofOptions): Promise<Check> {
  const { session } = options
  try {
    const before = await readArchiverState(session, undefined)
    const started = monotonicMs()
    const segment = await finishSegment(session)
    const open = new Set(options.storages)
    while (open.size > 0) {
      options.signal.throwIfAborted()
      for (const storage of [...open]) {
        if (await isReadable(storage, options, segment)) open.delete(storage)
      }
      if (open.size === 0) break
      const state = await readArchiverState(session, undefined)
      const failures = state.failedCount - before.failedCount
      const elapsedMs = monotonicMs() - started
      if (failures >= FAILURES_IN_A_ROW || elapsedMs > LIMIT_MS) {
        return notArrived(segment, failures, elapsedMs, state.lastFailedWal, options.walSource)
      }
      await sleep(POLL_MS, options.signal)
    }
    const took = formatDuration(monotonicMs() - started)
    return ok('TM1719', NAME, `${segment} was finished, archived and read back in ${took}`)
  } catch (error) {
    if (error instanceof Failure) return failed('TM1719', NAME, error)
    throw error
  }
}

/** A switch in an unused segment does nothing (RequestXLogSwitch), so something is written. */
async function finishSegment(session: ServerSession): Promise<string> {
  await session.query(
    `SELECT pg_logical_emit_message(false, 'tidemark', 'doctor')`,
    [],
    'write to the WAL',
  )
  const [row] = await session.query(
    'SELECT pg_walfile_name(pg_switch_wal()) AS segment',
    [],
    'finish a WAL segment',
  )
  return String(row?.['segment'])
}

async function isReadable(
  storage: Storage,
  options: ProofOptions,
  segment: string,
): Promise<boolean> {
  const { cluster, systemIdentifier } = options
  if ((await storage.size(segmentKey(cluster, systemIdentifier, segment))) === undefined)
    return false
  const storages = [storage]
  const wal = await findWalFile({ storages, cluster, systemIdentifier, name: segment })
  return wal !== undefined
}

function notArrived(
  segment: string,
  failures: number,
  elapsedMs: number,
  lastFailed: string | undefined,
  walSource: ProofOptions['walSource'],
): Check {
  const detail =
    failures > 0
      ? `the server failed ${failures} times to archive ${lastFailed ?? segment}`
      : `${segment} did not arrive within ${formatDuration(elapsedMs)}`
  const fix =
    walSource === 'stream'
      ? 'see what the receiver says (tidemark wal receive)'
      : 'the server log has what archive_command printed'
  return found('problem', 'TM1719', NAME, detail, fix)
}
