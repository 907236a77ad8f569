/** What doctor and status read of the server. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { monotonicMs, now } from '../../../base/clock.ts'
import { isFailure } from '../../../base/failure.ts'
import type { ServerSession } from '../../../postgres/server-session.ts'
import type { ArchiverState } from './check-server.ts'

export async function readArchiverState(
  session: ServerSession,
  dataDirectory: string | undefined,
): Promise<ArchiverState> {
  const [row] = await session.query(
    `SELECT failed_count, last_failed_wal, last_failed_time, last_archived_wal, last_archived_time
       FROM pg_stat_archiver`,
  )
  return {
    failedCount: Number(row?.['failed_count'] ?? 0),
    lastFailedWal: asText(row?.['last_failed_wal']),
    lastFailedAt: asDate(row?.['last_failed_time']),
    lastArchivedWal: asText(row?.['last_archived_wal']),
    lastArchivedAt: asDate(row?.['last_archived_time']),
    waiting: dataDirectory === undefined ? undefined : countWaiting(dataDirectory),
  }
}

function asText(value: unknown): string | undefined {
  return value === null || value === undefined ? undefined : String(value)
}

function asDate(value: unknown): Date | undefined {
  return value instanceof Date ? value : undefined
}

/** `.ready` files (pgarch.c). */
function countWaiting(dataDirectory: string): number | undefined {
  try {
    const names = readdirSync(join(dataDirectory, 'pg_wal', 'archive_status'))
    return names.filter((name) => name.endsWith('.ready')).length
  } catch {
    return undefined
  }
}

/** Bytes of the files directly in pg_wal. */
export function measureWal(dataDirectory: string): number | undefined {
  try {
    const directory = join(dataDirectory, 'pg_wal')
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .reduce((sum, { name }) => sum + (sizeIfThere(join(directory, name)) ?? 0), 0)
  } catch {
    return undefined
  }
}

/** Segments are recycled while they are listed. */
function sizeIfThere(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size
}

/** Sum of all databases; undefined where the role may not ask. */
export async function measureCluster(session: ServerSession): Promise<number | undefined> {
  try {
    const [row] = await session.query(
      'SELECT sum(pg_database_size(oid))::text AS bytes FROM pg_database',
    )
    return Number(row?.['bytes'])
  } catch (error) {
    if (isFailure(error, 'TM1105')) return undefined
    throw error
  }
}

export interface ClockComparison {
  /** Server minus here, at the middle of the question. */
  readonly offsetMs: number
  readonly roundTripMs: number
}

export async function compareClocks(session: ServerSession): Promise<ClockComparison> {
  const before = now().getTime()
  const started = monotonicMs()
  const [row] = await session.query('SELECT clock_timestamp() AS at')
  const roundTripMs = monotonicMs() - started
  const at = asDate(row?.['at'])?.getTime() ?? before
  return { offsetMs: at - (before + roundTripMs / 2), roundTripMs }
}
