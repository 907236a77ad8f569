/** Failure codes 148x: what the WAL says to people. */
import { entry } from './entry.ts'

export const EVENTS_CODES = entry({
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
})
