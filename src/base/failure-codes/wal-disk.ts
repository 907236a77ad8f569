/** Failure codes 1450 to 1459: WAL that waits on the disk of the server. */
import { entry } from './entry.ts'

export const WAL_DISK_CODES = entry({
  TM1450: {
    title: 'the disk of pg_wal fills',
    manual:
      'PostgreSQL keeps its WAL until it is archived, and stops when the disk is full. This says ' +
      'how long the free space of the file system that holds pg_wal lasts at the rate at which ' +
      'WAL was written lately. While the archiver fails, less than a day is a problem. Mend what ' +
      'the archiver complains of, or make room; nothing in Tidemark drops WAL that is not archived.',
    exitStatus: 3,
  },
})
