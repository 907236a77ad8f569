/** A backup of a simulated cluster by the whole pipeline, in one thread and without a server. */
import { startCopyInThread } from '../../src/backup/copy-files.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { SILENT } from '../../src/base/progress.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import type { Storage } from '../../src/storage/storage.ts'
import type { SimulatedCluster } from './backup-cluster.ts'

export function simulatedOptions(simulated: SimulatedCluster) {
  return {
    cluster: 'main',
    connection: 'postgresql:///',
    workers: 1,
    archiveCheck: false,
    archiveCommand: '',
    tidemarkVersion: 'test',
    startCopying: startCopyInThread,
    openSession: async () => simulated.openSession(),
  }
}

/** Of several repositories, by the numbers of those that are required. */
export function targetsIn(storages: readonly Storage[], required: readonly number[]) {
  return storages.map((storage, number) => ({
    name: `repository-${number}`,
    storage,
    specification: { url: storage.url },
    required: required.includes(number),
  }))
}

export async function takeSimulatedBackup(
  storage: Storage,
  simulated: SimulatedCluster,
  more: { readonly rewrite?: boolean } = {},
): Promise<BackupRecord> {
  const options = { storage, ...simulatedOptions(simulated), ...more }
  return (await takeBackup(options, SILENT, new AbortController().signal)).record
}
