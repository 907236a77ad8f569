/**
 * The one list of failure codes. `docs/manual/errors.md` is generated from it.
 *
 * A code never changes its meaning and is never used again. Ranges: 10xx usage and
 * configuration, 11xx server and connection, 12xx recovery, 13xx backup, 14xx WAL
 * archive, 15xx repository and storage, 16xx damage, 17xx checks, 18xx demo and set-up,
 * 19xx retention and sync, 20xx dumps and loads: each range is a file of failure-codes/.
 */
import { BACKUP_CODES } from './failure-codes/backup.ts'
import { CHECKS_CODES } from './failure-codes/checks.ts'
import { DAMAGE_CODES } from './failure-codes/damage.ts'
import { DEMO_CODES } from './failure-codes/demo.ts'
import { WAL_REPORT_CODES } from './failure-codes/wal-reports.ts'
import { DIRECT_CODES } from './failure-codes/direct.ts'
import { DUMP_CODES } from './failure-codes/dump.ts'
import { DUMP_KEEPING_CODES } from './failure-codes/dump-keeping.ts'
import { LINEAGE_CODES } from './failure-codes/lineage.ts'
import { COPY_CODES } from './failure-codes/copy.ts'
import { LOAD_CODES } from './failure-codes/load.ts'
import { RECEIVE_CODES } from './failure-codes/receive.ts'
import { EVENTS_CODES } from './failure-codes/events.ts'
import { RECOVERY_CODES } from './failure-codes/recovery.ts'
import { REPACKING_CODES } from './failure-codes/repacking.ts'
import { RETENTION_CODES } from './failure-codes/retention.ts'
import { SERVER_CODES } from './failure-codes/server.ts'
import { STORAGE_CODES } from './failure-codes/storage.ts'
import { SYNC_CODES } from './failure-codes/sync.ts'
import { TAILS_CODES } from './failure-codes/tails.ts'
import { USAGE_CODES } from './failure-codes/usage.ts'
import { WAL_ARCHIVE_CODES } from './failure-codes/wal-archive.ts'
import { WAL_DISK_CODES } from './failure-codes/wal-disk.ts'

export type { FailureCodeEntry } from './failure-codes/entry.ts'

export const FAILURE_CODES = {
  ...USAGE_CODES,
  ...SERVER_CODES,
  ...RECOVERY_CODES,
  ...BACKUP_CODES,
  ...WAL_ARCHIVE_CODES,
  ...WAL_REPORT_CODES,
  ...WAL_DISK_CODES,
  ...RECEIVE_CODES,
  ...TAILS_CODES,
  ...LINEAGE_CODES,
  ...EVENTS_CODES,
  ...STORAGE_CODES,
  ...DAMAGE_CODES,
  ...CHECKS_CODES,
  ...DEMO_CODES,
  ...REPACKING_CODES,
  ...RETENTION_CODES,
  ...SYNC_CODES,
  ...DUMP_CODES,
  ...LOAD_CODES,
  ...DUMP_KEEPING_CODES,
  ...COPY_CODES,
  ...DIRECT_CODES,
} as const

export type FailureCode = keyof typeof FAILURE_CODES
