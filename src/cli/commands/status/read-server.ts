/** What `status` reads of the server, if it answers. */
import { type DiskOutlook, readDiskOutlook } from '../../../archive/disk-outlook.ts'
import { findLocalDirectory } from '../../../backup/server-facts.ts'
import { Failure } from '../../../base/failure.ts'
import type { ClusterConfiguration } from '../../../config/configuration.ts'
import { findSlot } from '../../../postgres/replication-slot.ts'
import { openServerSession, type ServerSession } from '../../../postgres/server-session.ts'
import { type CommandContext, connectionUrl } from '../../command-context.ts'
import { type Check, found } from '../doctor/check.ts'
import {
  type ArchiverState,
  checkArchiveMode,
  checkArchiver,
  checkPendingRestart,
  checkWalDisk,
  failsNow,
  type Settings,
} from '../doctor/check-server.ts'
import { checkSlot } from '../doctor/check-streaming.ts'
import { readArchiverState } from '../doctor/read-server.ts'

export interface ReachedServer {
  readonly version: string
  readonly systemIdentifier: string
  readonly isStandby: boolean
  /** Written (a primary) or replayed (a standby). */
  readonly currentLsn: string | null
  readonly lastArchivedWal: string | null
  readonly lastArchivedAt: string | null
  readonly lastFailedWal: string | null
  readonly lastFailedAt: string | null
  readonly waitingFiles: number | null
  readonly archiveMode: string
  /** How long the disk of pg_wal lasts; null where its files cannot be seen. */
  readonly disk: DiskOutlook | null
  readonly at: string
}

/** What was read, or why nothing could be. */
export interface ServerReading<R extends ReachedServer> {
  readonly reached: R | undefined
  readonly failure: Failure | undefined
  readonly findings: readonly Check[]
}

export type ServerStatus = ServerReading<ReachedServer>

export async function readServerStatus(
  context: CommandContext,
  cluster: ClusterConfiguration,
): Promise<ServerStatus> {
  return await readServer(context, cluster, 'tidemark status', async (_, reached) => reached)
}

/** A server that does not answer is a finding (TM1701), no end of the command. */
export async function readServer<R extends ReachedServer>(
  context: CommandContext,
  cluster: ClusterConfiguration,
  applicationName: string,
  addFacts: (session: ServerSession, reached: ReachedServer) => Promise<R>,
): Promise<ServerReading<R>> {
  let session: ServerSession | undefined
  try {
    const connection = connectionUrl(context, cluster)
    session = await openServerSession({ connection, applicationName })
    const { reached, findings } = await readReachedServer(session, cluster)
    return { reached: await addFacts(session, reached), failure: undefined, findings }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const detail = `${error.code}: ${error.message}`
    const unreachable = found('problem', 'TM1701', 'server', detail, error.fix)
    return { reached: undefined, failure: error, findings: [unreachable] }
  } finally {
    await session?.close()
  }
}

async function readReachedServer(
  session: ServerSession,
  cluster: ClusterConfiguration,
): Promise<{ readonly reached: ReachedServer; readonly findings: readonly Check[] }> {
  const { facts } = session
  const dataDirectory = await findLocalDirectory(session)
  const archiver = await readArchiverState(session, dataDirectory)
  const disk = dataDirectory === undefined ? undefined : await readDiskOutlook(dataDirectory)
  const settings = await session.readSettings()
  const [row] = await session.query(
    `SELECT clock_timestamp() AS at, CASE WHEN pg_is_in_recovery()
       THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS lsn`,
  )
  const at = row?.['at'] instanceof Date ? row['at'] : facts.postmasterStartedAt
  const iso = (time: Date | undefined): string | null => time?.toISOString() ?? null
  return {
    reached: {
      version: facts.versionText,
      systemIdentifier: String(facts.systemIdentifier),
      isStandby: facts.isInRecovery,
      currentLsn: row?.['lsn'] === null ? null : String(row?.['lsn']),
      lastArchivedWal: archiver.lastArchivedWal ?? null,
      lastArchivedAt: iso(archiver.lastArchivedAt),
      lastFailedWal: archiver.lastFailedWal ?? null,
      lastFailedAt: iso(archiver.lastFailedAt),
      waitingFiles: archiver.waiting ?? null,
      archiveMode: settings.get('archive_mode')?.value ?? '',
      disk: disk ?? null,
      at: at.toISOString(),
    },
    findings: [
      ...(await checkSource(session, cluster, settings, { archiver, disk, at })),
      checkPendingRestart(settings),
    ],
  }
}

interface ArchivingNow {
  readonly archiver: ArchiverState
  readonly disk: DiskOutlook | undefined
  readonly at: Date
}

/** Does WAL leave the server, by the way that the configuration names, and if not: for how long? */
async function checkSource(
  session: ServerSession,
  { walSource, walStream }: ClusterConfiguration,
  settings: Settings,
  { archiver, disk, at }: ArchivingNow,
): Promise<Check[]> {
  const onDisk = (isStuck: boolean): Check[] =>
    disk === undefined ? [] : [checkWalDisk(disk, isStuck)]
  if (walSource === 'stream') {
    const slot = checkSlot(walStream.slot, await findSlot(session, walStream.slot))
    return [slot, ...onDisk(slot.result === 'problem')]
  }
  return [
    checkArchiveMode(settings, session.facts.isInRecovery),
    checkArchiver(archiver, at),
    ...onDisk(failsNow(archiver)),
  ]
}
