/** A backup of a simulated cluster by the whole pipeline, in one thread and without a server. */
import { startCopyInThread } from '../../src/backup/copy-files.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { SILENT } from '../../src/base/progress.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import type { Storage } from '../../src/storage/storage.ts'
import type { SimulatedCluster } from './backup-cluster.ts'

export async function takeSimulatedBackup(
  storage: Storage,
  simulated: SimulatedCluster,
  more: { readonly rewrite?: boolean } = {},
): Promise<BackupRecord> {
  const options = {
    storage,
    cluster: 'main',
    connection: 'postgresql:///',
    workers: 1,
    archiveCheck: false,
    archiveCommand: '',
    tidemarkVersion: 'test',
    startCopying: startCopyInThread,
    openSession: async () => simulated.openSession(),
    ...more,
  }
  return (await takeBackup(options, SILENT, new AbortController().signal)).record
}
