/**
 * What the metrics are made of: that which `wal status` reads, and pg_wal of a server that does
 * not answer. What cannot be read, or not in time, is left open, and never ends the reading of the
 * rest: how long the disk lasts matters most while the repository is away.
 */
import { type DiskOutlook, readDiskOutlook } from '../../../archive/disk-outlook.ts'
import { monotonicMs, sleep } from '../../../base/clock.ts'
import { Failure } from '../../../base/failure.ts'
import type {
  ClusterConfiguration,
  RepositoryConfiguration,
} from '../../../config/configuration.ts'
import { readControlFile } from '../../../postgres/control-file.ts'
import type { CommandContext } from '../../command-context.ts'
import type { Check } from '../doctor/check.ts'
import type { MeasuredArchive } from '../wal-status/format-wal-status.ts'
import { measureArchive } from '../wal-status/measure-archive.ts'
import { readArchiveStatus, unreadArchive } from '../wal-status/read-archive.ts'
import {
  type ReachedWalServer,
  readWalServer,
  type WalServer,
} from '../wal-status/read-wal-server.ts'

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
  /** What was not read, for people. */
  readonly remarks: readonly string[]
  /** Something is still being waited for, which nobody needs any more. */
  readonly isLate: boolean
}

export async function readClusterMetrics(
  context: CommandContext,
  cluster: ClusterConfiguration,
  limitMs: number,
): Promise<ClusterReading> {
  const started = monotonicMs()
  const timely = await within(limitMs, readWalServer(context, cluster))
  const server = timely ?? { reached: undefined, failure: undefined, findings: [] }
  // One that is away is asked again for a while: the others do not wait for it.
  const read = await Promise.all(
    cluster.repositories.map(
      async (repository) =>
        await readRepository(context, cluster, repository, server.reached, limitMs),
    ),
  )
  const archives = read.map(({ archive }) => archive)
  const disk =
    server.reached === undefined
      ? await readDiskOfDead(archives)
      : (server.reached.disk ?? undefined)
  const isServerLate = timely === undefined
  return {
    cluster: cluster.name,
    slot: cluster.walStream.slot,
    isStreamed: cluster.walSource === 'stream',
    server,
    archives,
    disk,
    seconds: (monotonicMs() - started) / 1000,
    remarks: [
      ...(isServerLate ? [`${cluster.name}: the server did not answer in time`] : []),
      ...tellUnread(cluster.name, 'the server', 'TM1701', server.findings),
      ...read.flatMap(({ remarks }) => remarks),
    ],
    isLate: isServerLate || read.some((one) => one.isLate),
  }
}

interface RepositoryReading extends Pick<ClusterReading, 'remarks' | 'isLate'> {
  readonly archive: MeasuredArchive
}

async function readRepository(
  { env }: CommandContext,
  cluster: ClusterConfiguration,
  repository: RepositoryConfiguration,
  reached: ReachedWalServer | undefined,
  limitMs: number,
): Promise<RepositoryReading> {
  const name = `repository ${repository.name}`
  const read = await within(limitMs, readArchiveStatus(cluster.name, repository, reached, env))
  const archive = measureArchive(read ?? unreadArchive(repository), reached)
  const isLate = read === undefined
  const remarks = isLate
    ? [`${cluster.name}: ${name} did not answer in time`]
    : tellUnread(cluster.name, name, 'TM1710', read.findings)
  return { archive, remarks, isLate }
}

function tellUnread(
  cluster: string,
  what: string,
  code: Check['code'],
  findings: readonly Check[],
): string[] {
  return findings
    .filter((one) => one.code === code && one.result === 'problem')
    .map(({ detail }) => `${cluster}: ${what}: ${detail}`)
}

/** Undefined: it takes longer. */
async function within<T>(limitMs: number, work: Promise<T>): Promise<T | undefined> {
  const end = new AbortController()
  const late = sleep(limitMs, end.signal).then(
    () => undefined,
    () => undefined,
  )
  try {
    return await Promise.race([work, late])
  } finally {
    end.abort()
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
