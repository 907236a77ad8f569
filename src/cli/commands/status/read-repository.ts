/** What `status` reads of one repository; a failure of it is a finding, not the end. */
import { Failure } from '../../../base/failure.ts'
import type { RepositoryConfiguration } from '../../../config/configuration.ts'
import type { Environment } from '../../../config/environment.ts'
import { openRepositoryStorage } from '../../../config/unlock-storage.ts'
import { formatLsn } from '../../../postgres/lsn.ts'
import {
  describeWindow,
  type ListedCluster,
  type RecoveryWindow,
} from '../../../recovery/window.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import { openRepository } from '../../../repository/repository.ts'
import type { Storage } from '../../../storage/storage.ts'
import { readProtection } from '../../protection.ts'
import { type Check, failed, found } from '../doctor/check.ts'
import { checkRecordedGaps } from '../doctor/check-recorded-gaps.ts'
import {
  checkBackups,
  checkGaps,
  checkLastArchived,
  checkQuarantine,
} from '../doctor/check-repository.ts'
import type { HeldByRepository } from './judge-behind.ts'
import { type DumpStatus, readDumpStatus } from './newest-dumps.ts'
import type { ServerStatus } from './read-server.ts'

export interface RepositoryStatus {
  readonly name: string
  readonly url: string
  /** Undefined: the repository could not be read. */
  readonly backups: number | undefined
  readonly lastBackup: BackupRecord | undefined
  readonly newestWal: { readonly segment: string; readonly lsn: string } | undefined
  readonly window: RecoveryWindow | undefined
  readonly dumps: DumpStatus | undefined
  readonly findings: readonly Check[]
  /** To compare with others; undefined: it could not be read. */
  readonly held: HeldByRepository | undefined
}

export async function readRepositoryStatus(
  cluster: string,
  repository: RepositoryConfiguration,
  server: ServerStatus,
  env: Environment,
): Promise<RepositoryStatus> {
  const { name, url } = repository
  const nothing = {
    backups: undefined,
    lastBackup: undefined,
    newestWal: undefined,
    window: undefined,
    dumps: undefined,
  }
  try {
    const storage = await openRepositoryStorage(repository, env)
    await openRepository(storage)
    return { name, url, ...(await read(name, storage, cluster, server)) }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const held = undefined
    return { name, url, ...nothing, held, findings: [failed('TM1710', 'repository', error)] }
  }
}

async function read(
  name: string,
  storage: Storage,
  cluster: string,
  { reached }: ServerStatus,
): Promise<Omit<RepositoryStatus, 'name' | 'url'>> {
  const protection = await readProtection(storage, cluster)
  const lastBackup = protection.list.backups.at(-1)
  const wanted = reached?.systemIdentifier ?? lastBackup?.systemIdentifier
  const server = protection.servers.find(({ systemIdentifier }) => systemIdentifier === wanted)
  const newest = server?.newest
  const own = protection.servers.find(
    ({ systemIdentifier }) => systemIdentifier === lastBackup?.systemIdentifier,
  )
  const listed = { storage, cluster, listed: protection.list, archive: own?.archive }
  const { window, damage } = await tryReadWindow(listed)
  const { dumps, check } = await readDumpStatus(storage, cluster)
  return {
    backups: protection.list.backups.length,
    lastBackup,
    newestWal:
      newest === undefined ? undefined : { segment: newest.name, lsn: formatLsn(newest.endLsn) },
    window,
    dumps,
    held: {
      name,
      backups: protection.list.backups,
      archives: protection.servers.map(({ archive }) => archive),
    },
    findings: [
      requireBackup(checkBackups(protection)),
      checkLastArchived(server, reached?.lastArchivedWal ?? undefined, lastBackup),
      checkGaps(server),
      checkRecordedGaps(server, protection.list.backups),
      checkQuarantine(server),
      check,
      ...damage,
    ],
  }
}

/** Doctor runs before the first backup; a status without one is not healthy. */
function requireBackup(check: Check): Check {
  return check.result === 'warning' ? { ...check, result: 'problem' } : check
}

async function tryReadWindow(
  listed: ListedCluster,
): Promise<{ window: RecoveryWindow | undefined; damage: Check[] }> {
  try {
    const window = await describeWindow(listed)
    const damage = window.intervals.flatMap((interval) => {
      if (interval.damage === undefined) return []
      const { segment, because } = interval.damage
      const fix = 'push an intact copy from pg_wal, which replaces it: tidemark wal push FILE'
      return [found('problem', 'TM1718', 'archived WAL', `${segment}: ${because}`, fix)]
    })
    return { window, damage }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const detail = `${error.code}: ${error.message}`
    const damage = found('problem', 'TM1718', 'archived WAL', detail, error.fix)
    return { window: undefined, damage: [damage] }
  }
}
