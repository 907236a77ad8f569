/** Failure codes 19xx: retention. */
import { entry } from './entry.ts'

export const RETENTION_CODES = entry({
  TM1901: {
    title: 'the hold of a running backup or dump was taken away',
    manual:
      'A backup or dump holds what it needs, so that no expiry removes it. `tidemark expire --release` ' +
      'takes a hold away when a person says that its writer is dead; this one was alive. Its ' +
      'packs may be gone, so nothing of the run is kept. Run it again.',
    exitStatus: 1,
  },
  TM1902: {
    title: 'nothing expires while something cannot be read',
    manual:
      'A backup record or a hold is damaged, or was written by a later version. Nobody knows ' +
      'what it needs, so nothing is removed until it is settled: a record is rebuilt with ' +
      '`tidemark verify --rebuild-catalogue`, or given up with `tidemark expire --release ID`, ' +
      'as a hold is when no run is under way that it could belong to.',
    exitStatus: 1,
  },
  TM1903: {
    title: 'there is nothing of that name to release',
    manual:
      '`tidemark expire --release ID` takes away a hold, a condemned set, or a record that ' +
      'cannot be read. `tidemark expire` shows those that are in the way.',
    exitStatus: 2,
  },
  TM1904: {
    title: 'a backup that expires cannot be pinned',
    manual:
      'An expiry is removing this backup, or was stopped while it did. A pin would promise what ' +
      'it cannot keep.',
    exitStatus: 1,
  },
  TM1905: {
    title: 'the store does not list what was written',
    manual:
      'Expiry rests on listings that show all that was written before. This store did not list ' +
      'an object that had just been written, so nothing was removed. Amazon S3, MinIO and Ceph ' +
      '(radosgw) list at once; a cache or a gateway in front of them may not.',
    exitStatus: 1,
  },
  TM1906: {
    title: 'what is to be released belongs to a process that lives',
    manual:
      'A hold or a condemned set is only given up when its writer is dead. This one runs on this ' +
      'machine now. End it first, or wait until it has ended.',
    exitStatus: 1,
  },
  TM1907: {
    title: 'the condemned set of a running expiry was taken away',
    manual:
      'An expiry says in a condemned set what it is about to remove, so that no backup comes to ' +
      'need it. `tidemark expire --release` takes it away when a person says that its writer is ' +
      'dead; this one was alive. It ends without removing more. Run it again.',
    exitStatus: 1,
  },
})
