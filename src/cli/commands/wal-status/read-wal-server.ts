/** What `wal status` reads of the server, if it answers. */
import { Failure } from '../../../base/failure.ts'
import type { ClusterConfiguration } from '../../../config/configuration.ts'
import { openServerSession, type ServerSession } from '../../../postgres/server-session.ts'
import { type CommandContext, connectionUrl } from '../../command-context.ts'
import { type Check, found } from '../doctor/check.ts'
import { type ReachedServer, readReachedServer } from '../status/read-server.ts'

export interface WalServer {
  readonly reached: ReachedWalServer | undefined
  readonly failure: Failure | undefined
  readonly findings: readonly Check[]
}

export interface ReachedWalServer extends ReachedServer {
  /** Null on a standby. */
  readonly timeline: number | null
  readonly walSegmentSizeBytes: number
  /** By pg_stat_archiver, since its counters were set to zero. */
  readonly archivedCount: number
  readonly failedCount: number
  readonly countedSince: string | null
  readonly slots: readonly SlotState[]
}

/** A row of pg_replication_slots. */
export interface SlotState {
  readonly name: string
  readonly kind: 'physical' | 'logical'
  readonly isActive: boolean
  /** From the flush here to that of its reader; null where nobody reads, or nothing is new. */
  readonly flushLagSeconds: number | null
  readonly restartLsn: string | null
  /** WAL that it keeps; null where nothing is reserved. */
  readonly keptBytes: number | null
  /** reserved, extended, unreserved or lost; null: it reserves nothing. */
  readonly walStatus: string | null
  /** What may still be written before it is in danger; null: no limit. */
  readonly safeWalBytes: number | null
}

export async function readWalServer(
  context: CommandContext,
  cluster: ClusterConfiguration,
): Promise<WalServer> {
  let session: ServerSession | undefined
  try {
    session = await openServerSession({
      connection: connectionUrl(context, cluster),
      applicationName: 'tidemark wal status',
    })
    const { reached, findings } = await readReachedServer(session, cluster)
    if (reached === undefined) throw new Error('a server that answers was not reached')
    return { reached: await addWalFacts(session, reached), failure: undefined, findings }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const detail = `${error.code}: ${error.message}`
    const unreachable = found('problem', 'TM1701', 'server', detail, error.fix)
    return { reached: undefined, failure: error, findings: [unreachable] }
  } finally {
    await session?.close()
  }
}

async function addWalFacts(
  session: ServerSession,
  reached: ReachedServer,
): Promise<ReachedWalServer> {
  const [row] = await session.query(
    `SELECT archived_count::text AS archived, failed_count::text AS failed, stats_reset AS since,
            CASE WHEN pg_is_in_recovery() THEN NULL
              ELSE pg_walfile_name(pg_current_wal_lsn()) END AS segment
       FROM pg_stat_archiver`,
  )
  const since = row?.['since']
  const segment = row?.['segment'] ?? null
  return {
    ...reached,
    timeline: segment === null ? null : Number.parseInt(String(segment).slice(0, 8), 16),
    walSegmentSizeBytes: session.facts.walSegmentSizeBytes,
    archivedCount: Number(row?.['archived'] ?? 0),
    failedCount: Number(row?.['failed'] ?? 0),
    countedSince: since instanceof Date ? since.toISOString() : null,
    slots: await readSlots(session, reached.currentLsn),
  }
}

/** wal_status and safe_wal_size are there from 13 on. */
async function readSlots(session: ServerSession, current: string | null): Promise<SlotState[]> {
  const rows = await session.query(
    `SELECT slot_name AS name, slot_type AS kind, active, restart_lsn::text AS restart,
            pg_wal_lsn_diff($1::pg_lsn, restart_lsn)::text AS kept, wal_status,
            safe_wal_size::text AS safe, extract(epoch FROM r.flush_lag)::text AS lag
       FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
      ORDER BY slot_name`,
    [current],
  )
  const number = (value: unknown): number | null => (value === null ? null : Number(value))
  return rows.map((row) => ({
    name: String(row['name']),
    kind: row['kind'] === 'logical' ? 'logical' : 'physical',
    isActive: row['active'] === true,
    flushLagSeconds: number(row['lag']),
    restartLsn: row['restart'] === null ? null : String(row['restart']),
    keptBytes: number(row['kept']),
    walStatus: row['wal_status'] === null ? null : String(row['wal_status']),
    safeWalBytes: number(row['safe']),
  }))
}
