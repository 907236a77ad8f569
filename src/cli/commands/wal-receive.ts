/** `wal receive`: streams WAL into the archive until it is told to end. */
import { Failure } from '../../base/failure.ts'
import { type ClusterConfiguration, chooseCluster } from '../../config/configuration.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import { type Lsn, parseLsn } from '../../postgres/lsn.ts'
import type { ReceiveResult } from '../../receive/receive-options.ts'
import { receiveWal } from '../../receive/receive-wal.ts'
import { openRepository } from '../../repository/repository.ts'
import type { Storage } from '../../storage/storage.ts'
import { allConnectionUrls, type CommandContext } from '../command-context.ts'
import { reportWarning } from '../report-failure.ts'
import { openReceiveLog } from './wal-receive/receive-log.ts'

export interface ReceiveCommandOptions {
  readonly synchronous?: boolean
  readonly slot?: string
  readonly applicationName: string
  readonly once?: boolean
  readonly until?: string
}

export async function runWalReceive(
  context: CommandContext,
  clusterName: string | undefined,
  options: ReceiveCommandOptions,
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), clusterName)
  const until = parseUntil(options)
  const { slot, flushEveryMs } = cluster.walStream
  const places = await openPlaces(context, cluster)
  const log = openReceiveLog(context)
  const receive = async (): Promise<ReceiveResult> =>
    await receiveWal({
      ...places,
      cluster: cluster.name,
      connections: allConnectionUrls(context, cluster),
      slot: options.slot ?? slot,
      applicationName: options.applicationName,
      synchronous: options.synchronous === true,
      ...(flushEveryMs === undefined ? {} : { flushEveryMs }),
      ...(until === undefined ? {} : { until }),
      signal: context.signal,
      onEvent: log.hear,
    })
  try {
    const { timeline, flushed } = await receive()
    log.end(timeline, flushed)
    return 0
  } catch (error) {
    // One object a line, to the end.
    if (!context.json || !(error instanceof Failure) || context.signal.aborted) throw error
    log.fail(error)
    return error.exitStatus
  }
}

function parseUntil({ once, until }: ReceiveCommandOptions): Lsn | 'end' | undefined {
  if (once === true) return 'end'
  if (until === undefined) return undefined
  const position = parseLsn(until)
  if (position !== undefined) return position
  throw new Failure('TM1001', {
    message: `'${until}' is not an LSN`,
    because: 'an LSN is two hexadecimal numbers with a slash: 16/B374D848',
    fix: 'SELECT pg_current_wal_flush_lsn() says where the server is',
  })
}

interface Places {
  readonly required: readonly Storage[]
  readonly others: readonly Storage[]
}

/** One that is not required and cannot be opened is left out until the next start. */
async function openPlaces(context: CommandContext, cluster: ClusterConfiguration): Promise<Places> {
  const required: Storage[] = []
  const others: Storage[] = []
  for (const repository of cluster.repositories) {
    const isRequired = cluster.required.includes(repository.name)
    try {
      const storage = await openRepositoryStorage(repository, context.env)
      await openRepository(storage)
      ;(isRequired ? required : others).push(storage)
    } catch (error) {
      if (isRequired || !(error instanceof Failure)) throw error
      reportWarning(error)
    }
  }
  return { required, others }
}
