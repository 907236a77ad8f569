/** Failure codes 148x: what the WAL says to people. */
import { entry } from './entry.ts'

export const WAL_REPORT_CODES = entry({
  TM1480: {
    title: 'check: the archive follows the server',
    manual:
      'The repository lacks WAL that the server has written. A little is normal: a segment is ' +
      'archived when it is full, or when archive_timeout has passed. `wal status` says how much ' +
      'it is and since when.',
    exitStatus: 3,
  },
  TM1481: {
    title: 'check: replication slots',
    manual:
      'A replication slot keeps WAL for whoever reads from it. One that was lost, or will be at ' +
      'the next checkpoint, lets WAL go that the archive may still lack; one that nobody reads ' +
      'from fills pg_wal. Drop the slot if nobody needs it any more.',
    exitStatus: 3,
  },
  TM1482: {
    title: 'not a range or filter of events',
    manual:
      'A moment is written with its zone: 2026-11-20T14:00:00Z, 14:00Z for today, or 30min, 2h, ' +
      '3d for so long ago. The end of the range lies behind its beginning. Kinds are those ' +
      'that `tidemark events --help` lists.',
    exitStatus: 2,
  },
  TM1483: {
    title: 'there is no WAL to read',
    manual:
      'The repositories hold no WAL of the cluster, or none on the timeline that was asked for.',
    exitStatus: 1,
  },
  TM1484: {
    title: 'metrics cannot be written',
    manual:
      'The file of `tidemark metrics --output` could not be replaced. What was there is as it ' +
      'was, and ages: watch its time (`node_textfile_mtime_seconds`).',
    exitStatus: 1,
  },
})
