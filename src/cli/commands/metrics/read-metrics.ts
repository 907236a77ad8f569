/**
 * What the metrics are made of: that which `wal status` reads, and pg_wal of a server that does
 * not answer. What cannot be read is left open, and never ends the reading of the rest.
 */
import { type DiskOutlook, readDiskOutlook } from '../../../archive/disk-outlook.ts'
import { monotonicMs } from '../../../base/clock.ts'
import { Failure } from '../../../base/failure.ts'
import type { ClusterConfiguration } from '../../../config/configuration.ts'
import { readControlFile } from '../../../postgres/control-file.ts'
import type { CommandContext } from '../../command-context.ts'
import type { MeasuredArchive } from '../wal-status/format-wal-status.ts'
import { measureArchive } from '../wal-status/measure-archive.ts'
import { readArchiveStatus } from '../wal-status/read-archive.ts'
import { readWalServer, type WalServer } from '../wal-status/read-wal-server.ts'

export interface ClusterReading {
  readonly cluster: string
  /** The slot of the receiver. */
  readonly slot: string
  readonly isStreamed: boolean
  readonly server: WalServer
  readonly archives: readonly MeasuredArchive[]
  /** Undefined: pg_wal is on another host, or cannot be read. */
  readonly disk: DiskOutlook | undefined
  readonly seconds: number
}

export async function readClusterMetrics(
  context: CommandContext,
  cluster: ClusterConfiguration,
): Promise<ClusterReading> {
  const started = monotonicMs()
  const server = await readWalServer(context, cluster)
  const { reached } = server
  // One that is away is asked again for a while: the others do not wait for it.
  const archives = await Promise.all(
    cluster.repositories.map(async (repository) => {
      const read = await readArchiveStatus(cluster.name, repository, reached, context.env)
      return measureArchive(read, reached)
    }),
  )
  const disk = reached === undefined ? await readDiskOfDead(archives) : (reached.disk ?? undefined)
  return {
    cluster: cluster.name,
    slot: cluster.walStream.slot,
    isStreamed: cluster.walSource === 'stream',
    server,
    archives,
    disk,
    seconds: (monotonicMs() - started) / 1000,
  }
}

/** Its last backup says where its files were; they count only if they are those of that server. */
async function readDiskOfDead(
  archives: readonly MeasuredArchive[],
): Promise<DiskOutlook | undefined> {
  for (const { lastBackup } of archives) {
    if (lastBackup === undefined) continue
    const { dataDirectory } = lastBackup.server
    if (await isDirectoryOf(dataDirectory, lastBackup.systemIdentifier)) {
      return await readDiskOutlook(dataDirectory)
    }
  }
  return undefined
}

async function isDirectoryOf(dataDirectory: string, systemIdentifier: string): Promise<boolean> {
  try {
    const { control } = await readControlFile(dataDirectory)
    return String(control.systemIdentifier) === systemIdentifier
  } catch (error) {
    // Not on this host, or not for this user.
    if (error instanceof Failure) return false
    throw error
  }
}
