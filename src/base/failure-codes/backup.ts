/** Failure codes 13xx: backup. */
import { entry } from './entry.ts'

export const BACKUP_CODES = entry({
  TM1301: {
    title: 'another backup is under way',
    manual:
      'Two backups of one server at once only slow each other down. The lock is the session of ' +
      'the other one in the server: it goes when that backup ends, in whatever way.',
    exitStatus: 1,
  },
  TM1302: {
    title: 'data directory not known or not reachable',
    manual:
      'The local source reads the files of the server, so it must know where they are and run ' +
      'on the same host.',
    exitStatus: 1,
  },
  TM1303: {
    title: 'files and server do not belong together',
    manual:
      'The connection ends at another server than the one whose files are here: a proxy, a ' +
      'virtual address, a list of hosts. A backup label of one server with the pages of another ' +
      'would be silent corruption, so nothing is read.',
    exitStatus: 1,
  },
  TM1304: {
    title: 'a file of the cluster cannot be read',
    manual:
      'A file or directory of the data directory could not be opened or read. It is never left ' +
      'out: the backup ends, nothing of it is visible.',
    exitStatus: 1,
  },
  TM1305: {
    title: 'a file changes at every read',
    manual:
      'A small file that must be stored whole was different at every read, or its own checksum ' +
      'does not hold.',
    exitStatus: 1,
  },
  TM1306: {
    title: 'a file name is not UTF-8',
    manual: 'PostgreSQL itself never makes such a name; somebody else put the file there.',
    exitStatus: 1,
  },
  TM1307: {
    title: 'a file vanished that must not',
    manual:
      'PG_VERSION, a relation map or pg_control went away while the backup ran. Relation files ' +
      'may go at any time; these may not.',
    exitStatus: 1,
  },
  TM1308: {
    title: 'the server refused to start a backup',
    manual: 'The start function of the low-level backup API failed. The server says why.',
    exitStatus: 1,
  },
  TM1309: {
    title: 'the server did not confirm the end of the backup',
    manual:
      'The session that started the backup was lost, or the server was restarted or promoted. ' +
      'The server has ended the backup mode by itself; what was copied is not a backup and is ' +
      'removed.',
    exitStatus: 1,
  },
  TM1310: {
    title: 'WAL of the backup did not reach the archive',
    manual:
      'A backup is published only when all WAL from its start to its stop is durable in the ' +
      'archive. A segment of that range is missing.',
    exitStatus: 1,
  },
  TM1311: {
    title: 'archiving is not set up',
    manual:
      'The settings of the server do not send its WAL to this repository, so a backup could ' +
      'only be restored to its own end. The message shows the present value and the line to set.',
    exitStatus: 1,
  },
  TM1320: {
    title: 'a repository is behind the others',
    manual:
      'A repository of the cluster lacks backups or WAL that another one has, because it was ' +
      'away, or new. What it has is whole. It cannot have a backup that refers to packs which it ' +
      'lacks: `tidemark sync --from A --to B` brings what is missing.',
    exitStatus: 3,
  },
  TM1321: {
    title: 'a WAL file was not stored in every repository',
    manual:
      'All required repositories have the file, so PostgreSQL may recycle it; another one is ' +
      'away, slow or refuses it. This is a warning in the log of the server: `tidemark status` ' +
      'says how much is missing there, and `tidemark sync` brings it.',
    exitStatus: 3,
  },
})
