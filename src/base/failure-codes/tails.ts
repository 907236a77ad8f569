/** Failure codes 1440 to 1449: tails of WAL segments that are not complete. */
import { entry } from './entry.ts'

export const TAILS_CODES = entry({
  TM1440: {
    title: 'the tail was removed while it was written',
    manual:
      'The journal that the end of the WAL is written to has lost its name in the repository: ' +
      'somebody removed it. Nothing was acknowledged since. The receiver writes the whole ' +
      'segment again.',
    exitStatus: 1,
  },
  TM1441: {
    title: 'a tail is damaged',
    manual:
      'A part of the tail of a WAL segment does not hold, although a later part does: bytes that ' +
      'were durable have changed. What lies before is used; a whole segment in the archive, or ' +
      'the tail in another repository, makes it good.',
    exitStatus: 1,
  },
  TM1442: {
    title: 'the server sends other WAL than it did before',
    manual:
      'The WAL that was flushed into the tail and the WAL that the server sends now differ ' +
      'within valid records of one timeline. Either the server has lost WAL that it had reported ' +
      'as flushed (fsync = off, a disk that lies, a snapshot put back), or it is another server. ' +
      'Nothing was written over what is there, and nothing was acknowledged.',
    exitStatus: 1,
  },
  TM1443: {
    title: 'two tails of one segment contradict each other',
    manual:
      'For the last segment of a timeline there are tails that differ within valid records, and ' +
      'no whole segment. Nothing tells which one is true. Restore from one repository ' +
      '(--repository), or to a moment before that segment.',
    exitStatus: 1,
  },
  TM1444: {
    title: 'the tail is not what it was when the target was judged',
    manual:
      'Between the judging of the target and the writing of the restored directory the tail that ' +
      'the target lies in has gone or become shorter, and no whole segment has come in its place.',
    exitStatus: 1,
  },
})
