/** Failure codes 12xx: recovery. */
import { entry } from './entry.ts'

export const RECOVERY_CODES = entry({
  TM1201: {
    title: 'recovery target not understood',
    manual:
      'A target is one word: latest, immediate, end-of:gap, a time with its zone, lsn:, xid:, ' +
      'name:, backup:, before:xid: or before:lsn:. Nothing was written.',
    exitStatus: 2,
  },
  TM1202: {
    title: 'no backup to start from',
    manual:
      'No backup of the cluster ends early enough to reach the target: there is none at all, or ' +
      'the target lies before the end of the first. The message names the earliest reachable ' +
      'moment. Nothing was written.',
    exitStatus: 1,
  },
  TM1203: {
    title: 'target beyond the end of the WAL archive',
    manual:
      'The archive ends before the target. Everything up to its end can be recovered with `--to ' +
      'latest`; WAL that is still in the pg_wal of the old server can be brought with `tidemark ' +
      'wal push`. Nothing was written.',
    exitStatus: 1,
  },
  TM1204: {
    title: 'a hole in the WAL archive before the target',
    manual:
      'Segments between the backup and the target are not in the archive. The message names ' +
      'them. Recovery up to the hole is possible with `--to end-of:gap`; a segment that turns ' +
      'up can be brought with `tidemark wal push`. Nothing was written.',
    exitStatus: 1,
  },
  TM1205: {
    title: 'target not found in the WAL',
    manual:
      'No transaction or restore point of that name is in the archived WAL that follows a ' +
      'backup. Nothing was written.',
    exitStatus: 1,
  },
  TM1206: {
    title: 'the transaction was rolled back',
    manual:
      'The transaction exists but did not commit, so there is no moment just after it that ' +
      'differs from the one before. The message gives its place as an LSN. Nothing was written.',
    exitStatus: 1,
  },
  TM1207: {
    title: 'target on an abandoned timeline',
    manual:
      'The target exists only on a timeline that the chosen one does not contain. `--timeline ' +
      'N` chooses the other one. Nothing was written.',
    exitStatus: 1,
  },
  TM1208: {
    title: 'timeline not known',
    manual:
      'The archive holds no history or segments of the timeline that was asked for, or its ' +
      'history contradicts the archive. Nothing was written.',
    exitStatus: 1,
  },
  TM1209: {
    title: 'damaged WAL before the target',
    manual:
      'A segment between the backup and the target is in the archive but its bytes are not ' +
      'those that were archived. Recovery up to it is possible with `--to end-of:gap`; an ' +
      'intact copy from elsewhere mends it. Nothing was written.',
    exitStatus: 1,
  },
  TM1210: {
    title: 'the directory to restore into is not empty',
    manual:
      'Restore writes only into an absent or empty directory, or into one that an interrupted ' +
      'restore of Tidemark left. Nothing was written.',
    exitStatus: 2,
  },
  TM1211: {
    title: 'a server runs in the directory to restore into',
    manual: 'The postmaster.pid in the directory names a live process. Nothing was written.',
    exitStatus: 2,
  },
  TM1212: {
    title: 'the directory must not be restored into',
    manual:
      "The directory is the living server's data directory, lies inside it or inside the " +
      'repository, or contains them. Nothing was written.',
    exitStatus: 2,
  },
  TM1213: {
    title: 'not enough disk space to restore',
    manual:
      'A file system that the restore writes to has less free space than the files need. ' +
      'Nothing was written.',
    exitStatus: 1,
  },
  TM1214: {
    title: 'a tablespace has no place to go',
    manual:
      "A tablespace's own location exists on this machine and is not empty, or belongs to the " +
      'living server. `--tablespace OLD=NEW` gives it another. Nothing was written.',
    exitStatus: 2,
  },
  TM1215: {
    title: 'wrong tablespace mapping',
    manual:
      'A `--tablespace OLD=NEW` names a tablespace that the backup does not have, or a new ' +
      'place that is not an absolute path or is used twice. Nothing was written.',
    exitStatus: 2,
  },
  TM1216: {
    title: 'replay would write outside the copy',
    manual:
      'The WAL between the backup and the target creates a tablespace whose location exists on ' +
      'this machine. Replay uses the path in the WAL, so a copy would write into the living ' +
      "server's files. Recover to an earlier target, or on another machine. Nothing was written.",
    exitStatus: 1,
  },
  TM1217: {
    title: 'restore cannot write',
    manual:
      'A file or directory of the restore could not be created, written or made durable. The ' +
      'directory is left without pg_control, so that PostgreSQL does not start it; the same ' +
      'restore run again clears it.',
    exitStatus: 1,
  },
  TM1218: {
    title: 'restored bytes differ from the backup',
    manual:
      'What was decoded from the repository is not what the backup record says. The directory ' +
      'is left without pg_control.',
    exitStatus: 1,
  },
  TM1219: {
    title: 'PostgreSQL programs not found',
    manual:
      "No installation of the backup's major version was found to start the restored server " +
      'with. `--pg-bin DIR` names one. The restored directory is complete and can be started by ' +
      'hand.',
    exitStatus: 1,
  },
  TM1220: {
    title: 'recovery ended at another LSN',
    manual:
      'The server stopped replay elsewhere than the target was judged to be. The restored ' +
      'server should not be used before the difference is understood.',
    exitStatus: 1,
  },
  TM1221: {
    title: 'recovery did not end well',
    manual:
      'PostgreSQL refused to start, or stopped during recovery. The message quotes the last ' +
      'lines of its log. The repository is untouched and the restore can be repeated.',
    exitStatus: 1,
  },
  TM1222: {
    title: 'restore needs another owner',
    manual:
      'PostgreSQL refuses files and processes of root. `--owner NAME` names the user that the ' +
      'files belong to. Nothing was written.',
    exitStatus: 2,
  },
  TM1224: {
    title: 'WAL without the content that recovery needs',
    manual:
      'The server ran with wal_level=minimal between the backup and the target: its WAL of that ' +
      'time does not hold all changes. Recovery up to that moment is possible. Nothing was ' +
      'written.',
    exitStatus: 1,
  },
})
