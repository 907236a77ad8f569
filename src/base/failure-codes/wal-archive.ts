/** Failure codes 14xx: WAL archive. */
import { entry } from './entry.ts'

export const WAL_ARCHIVE_CODES = entry({
  TM1401: {
    title: 'not the name of a WAL file',
    manual:
      'The WAL archive takes segments, .partial, .history and .backup files under the names ' +
      'that PostgreSQL gives them. Nothing was stored; PostgreSQL keeps its file.',
    exitStatus: 2,
  },
  TM1402: {
    title: 'WAL of that name is archived with other content',
    manual:
      'Two servers, or two histories of one server, wrote WAL of the same name. What was first ' +
      'stays as it is. The bytes that were refused are kept in quarantine in the repository, ' +
      'and PostgreSQL keeps its file, so nothing is lost; the archiver of the refused server ' +
      'stops here until someone decides which history goes on.',
    exitStatus: 1,
  },
  TM1403: {
    title: 'WAL of another server',
    manual:
      'The segment was written by a server whose system identifier is not the one that archives ' +
      'here. It is not stored; PostgreSQL keeps its file.',
    exitStatus: 1,
  },
  TM1404: {
    title: 'WAL segment does not match its name',
    manual:
      'The header of the segment says another address, timeline, segment size or WAL block size ' +
      'than its name does. A recycled or renamed file looks like that. It is kept in quarantine ' +
      'when its server is known.',
    exitStatus: 1,
  },
  TM1405: {
    title: 'a restored copy must not archive',
    manual:
      'The data directory was restored by Tidemark and has not taken over from the original, so ' +
      'its WAL does not belong into the archive of the original. Take it over, or switch ' +
      'archiving off in the copy.',
    exitStatus: 1,
  },
  TM1406: {
    title: 'WAL file is not whole',
    manual:
      'The file cannot be read, has not the length of a WAL segment, or changed while it was ' +
      'read. Nothing was stored; PostgreSQL keeps its file and tries again.',
    exitStatus: 1,
  },
  TM1407: {
    title: 'server is not known to the repository',
    manual:
      'The repository holds no identity of this server under this cluster name, so its WAL is ' +
      'neither stored nor said to be absent. Either the server was never introduced (`tidemark ' +
      'init`), or the repository that answers is not the one that it should be: an unmounted ' +
      'disk, an empty bucket, another URL.',
    exitStatus: 1,
  },
  TM1408: {
    title: 'hole in the WAL archive',
    manual:
      'A WAL segment is missing from the archive although later ones are there. Recovery cannot ' +
      'pass the hole, and must not take it for the end of WAL. Bring the segment from the ' +
      'pg_wal of the server or of a standby with `tidemark wal push FILE`, or recover to a ' +
      'moment before it.',
    exitStatus: 1,
  },
  TM1409: {
    title: 'archived WAL cannot be read',
    manual:
      'A segment is stored as it was handed over, but its records are not valid where they ' +
      'should be: the file was damaged before it was archived, or is of another history. ' +
      'Recovery would stop there.',
    exitStatus: 1,
  },
  TM1410: {
    title: 'timeline history does not hold',
    manual:
      'A timeline history file cannot be read, or contradicts the archived history of its ' +
      'parent. It is kept in quarantine.',
    exitStatus: 1,
  },
  TM1411: {
    title: 'WAL file cannot be written to its destination',
    manual:
      'The archive has the file, but it could not be written where it was asked for. Recovery ' +
      'stops and can go on once there is room and permission.',
    exitStatus: 1,
  },
})
